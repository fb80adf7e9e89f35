"""The probe against servers that behave badly, each in its own way; the words are what a person will read."""

import asyncio
import contextlib
import socket
import struct

import pytest

from tests.test_rfb import INIT, PASSWORD, server, text, u32
from vncgate.errors import DesktopError
from vncgate.model import Desktop, Readiness, Secret
from vncgate.probe import login


@contextlib.asynccontextmanager
async def desktop_that(behave):
    """A desktop that does `behave(reader, writer)` with each connection; done connections are waited for."""
    done = asyncio.Semaphore(0)

    async def serve(reader, writer):
        try:
            await behave(reader, writer)
        finally:
            writer.close()
            done.release()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield Desktop("127.0.0.1", listening.sockets[0].getsockname()[1])
        async with asyncio.timeout(5):
            await done.acquire()


def says(data: bytes):
    """Sends all of `data` and then reads until the other side has gone."""

    async def behave(reader, writer):
        writer.write(data)
        await reader.read(-1)

    return behave


async def probe(desktop, timeout=5.0):
    return await login(desktop, Secret(PASSWORD), connect_timeout=5, timeout=timeout)


async def refused(desktop, timeout=5.0) -> tuple[str, Readiness]:
    with pytest.raises(DesktopError) as caught:
        await probe(desktop, timeout)
    assert PASSWORD not in str(caught.value)
    return str(caught.value).replace(str(desktop), "D"), caught.value.readiness


async def test_a_desktop_that_is_there_tells_what_it_is():
    async with desktop_that(says(server(8, 2))) as desktop:
        assert await probe(desktop) == INIT


@pytest.mark.parametrize(
    ("data", "words", "readiness"),
    [
        (server(8, 2, u32(1), text(b"Authentication failure")), "refused the password", Readiness.WRONG_PASSWORD),
        (
            b"RFB 003.003\n" + u32(0) + text(b"Too many security failures"),
            "refuses logins for now after too many failures (its blacklist)",
            Readiness.OFFLINE,
        ),
        (b"SSH-2.0-x\r\n", "does not speak VNC (no RFB greeting)", Readiness.OFFLINE),
        (b"RFB 003.008\n\1\x13", "offers no VNC password login (it offers 19)", Readiness.OFFLINE),
        (b"RFB 003.008\n\0" + text(b"No licence"), "refused the login: No licence", Readiness.OFFLINE),
        (b"RFB 003.008\n\0" + u32(0), "refused the login: it gave no reason", Readiness.OFFLINE),
    ],
)
async def test_a_refusal_is_told_in_words(data, words, readiness):
    async with desktop_that(says(data)) as desktop:
        assert await refused(desktop) == (f"desktop D {words}", readiness)


async def test_a_desktop_that_hangs_up():
    async def hang_up(reader, writer):
        writer.write(b"RFB 003.008\n")
        await reader.readexactly(12)

    async with desktop_that(hang_up) as desktop:
        assert (await refused(desktop))[0] == "desktop D closed the connection during the login"


async def test_a_desktop_that_resets():
    async def reset(reader, writer):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with desktop_that(reset) as desktop:
        assert (await refused(desktop))[0] == "desktop D closed the connection during the login"


async def test_a_desktop_that_says_nothing():
    async with desktop_that(says(b"")) as desktop:
        words = "desktop D did not finish the login within 0.05 s"
        assert await refused(desktop, timeout=0.05) == (words, Readiness.OFFLINE)


async def test_a_cancelled_probe_closes_its_connection():
    connected = asyncio.Event()

    async def wait(reader, writer):
        connected.set()
        assert await reader.read(-1) == b""

    async with desktop_that(wait) as desktop:
        task = asyncio.create_task(probe(desktop))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_nobody_listens(free_port):
    assert await refused(Desktop("127.0.0.1", free_port())) == ("desktop D refused the connection", Readiness.OFFLINE)


async def test_a_desktop_on_a_unix_socket(tmp_path):
    async def serve(reader, writer):
        await says(server(8, 2))(reader, writer)
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "x"):
        assert await probe(Desktop(unix=str(tmp_path / "x"))) == INIT
