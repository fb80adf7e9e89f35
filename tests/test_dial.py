"""Why a desktop could not be connected to, in words for a person."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading

import pytest

from vncgate import dial
from vncgate.errors import DesktopError
from vncgate.model import Desktop, Readiness


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused the connection"),
        (OSError(errno.EHOSTUNREACH, "x"), "cannot be reached: No route to host"),
        (OSError("no such thing"), "cannot be reached: no such thing"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0)"), "refused the connection"),
    ],
)
async def test_in_words(monkeypatch, error, words):
    async def fail(*args):
        raise error

    monkeypatch.setattr(dial, "_connect_socket", fail)
    with pytest.raises(DesktopError) as caught:
        await dial.connect(Desktop("192.0.2.1", 5901), asyncio.Protocol, 5.0)
    assert str(caught.value) == f"desktop 192.0.2.1:5901 {words}"
    assert caught.value.readiness is Readiness.OFFLINE


@pytest.fixture
def names(monkeypatch):
    """The system's resolver, which knows what a test puts in: addresses, or what it raises."""
    known: dict[str, list[str] | Exception] = {}
    look_up = socket.getaddrinfo

    def resolver(host, port, **options):
        if options.get("flags") == socket.AI_NUMERICHOST:
            return look_up(host, port, **options)
        answer = known[host]
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in answer]

    monkeypatch.setattr(dial.socket, "getaddrinfo", resolver)
    return known


@pytest.mark.parametrize(
    ("host", "error", "words"),
    [
        ("node01", socket.gaierror(socket.EAI_NONAME, "x"), "is not known: no such host"),
        ("node01", socket.gaierror(socket.EAI_AGAIN, "x"), "cannot be looked up now"),
        ("node01", OSError(errno.EMFILE, "x"), "cannot be reached: Too many open files"),
        ("n" * 64, None, "is not known: that is no host name"),
    ],
)
async def test_names_that_are_not_known(names, host, error, words):
    names[host] = error
    with pytest.raises(DesktopError) as caught:
        await dial.connect(Desktop(host, 5901), asyncio.Protocol, 5.0)
    assert str(caught.value) == f"desktop {host}:5901 {words}"


async def test_every_address_of_a_name_is_tried(names):
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    names["node01"] = ["127.0.0.9", "127.0.0.1"]
    transport = await dial.connect(Desktop("node01", port), asyncio.Protocol, 5.0)
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    transport.abort()
    server.close()
    names["node01"].reverse()
    await server.wait_closed()
    with pytest.raises(DesktopError, match="refused the connection"):
        await dial.connect(Desktop("node01", port), asyncio.Protocol, 5.0)


async def test_a_name_is_looked_up_once_for_all_who_wait_and_anew_once_it_failed(monkeypatch, free_port):
    answer, asked = threading.Event(), []
    look_up = socket.getaddrinfo

    def resolver(host, port, **options):
        if options.get("flags") == socket.AI_NUMERICHOST:
            return look_up(host, port, **options)
        asked.append(host)
        answer.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "x")

    monkeypatch.setattr(dial.socket, "getaddrinfo", resolver)
    desktop = Desktop("node01", free_port())
    with pytest.raises(DesktopError, match=r"did not answer within 0.05 s: its name is still being looked up"):
        await dial.connect(desktop, asyncio.Protocol, 0.05)
    waiting = [asyncio.ensure_future(dial.connect(desktop, asyncio.Protocol, 5.0)) for _ in range(20)]
    await asyncio.sleep(0)
    answer.set()
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert "cannot be looked up now" in str(error)
    assert asked == ["node01"]
    with pytest.raises(DesktopError, match="cannot be looked up now"):
        await dial.connect(desktop, asyncio.Protocol, 5.0)
    assert asked == ["node01", "node01"], "what failed is asked anew"


async def test_no_desktop_at_all():
    with pytest.raises(DesktopError, match="leaves it to a launcher"):
        await dial.connect(None, asyncio.Protocol, 5.0)


async def test_a_desktop_whose_host_vanishes_is_noticed(free_port):
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = await dial.connect(Desktop("127.0.0.1", port), asyncio.Protocol, 5.0)
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    idle, interval, count = (
        sock.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert idle + interval * count <= 60
    transport.abort()
    server.close()


@pytest.fixture
async def socket_of_ours(tmp_path):
    """A unix socket that takes connections, and where it is."""
    path = tmp_path / "vnc.sock"
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), path)
    yield path
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("owner", [os.geteuid(), -1])
async def test_a_socket_where_others_may_write(socket_of_ours, owner):
    transport = await dial.connect(Desktop(unix=str(socket_of_ours), owner=owner), asyncio.Protocol, 5.0)
    transport.close()
    await asyncio.sleep(0)


async def test_the_gate_opens_no_socket_that_a_participant_links_to(socket_of_ours, tmp_path):
    link = tmp_path / "link.sock"
    link.symlink_to(socket_of_ours)
    with pytest.raises(DesktopError, match=r"link\.sock (is no socket|cannot be reached)"):
        await dial.connect(Desktop(unix=str(link), owner=-1), asyncio.Protocol, 5.0)
    with pytest.raises(DesktopError, match=r"vnc\.sock is not its user's"):
        await dial.connect(Desktop(unix=str(socket_of_ours), owner=os.geteuid() + 1), asyncio.Protocol, 5.0)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DesktopError, match="file is no socket"):
        await dial.connect(Desktop(unix=str(file), owner=-1), asyncio.Protocol, 5.0)
    with pytest.raises(DesktopError, match="no such socket"):
        await dial.connect(Desktop(unix=str(tmp_path / "nothing"), owner=-1), asyncio.Protocol, 5.0)


async def test_a_full_backlog_is_waited_for(tmp_path):
    path = tmp_path / "vnc.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        desktop = Desktop(unix=str(path), owner=-1)
        first = await dial.connect(desktop, asyncio.Protocol, 5.0)
        second = asyncio.ensure_future(dial.connect(desktop, asyncio.Protocol, 5.0))
        await asyncio.wait([second], timeout=0.1)
        assert not second.done()
        listener.accept()[0].close()
        transport = await second
        for each in (first, transport):
            each.close()
        await asyncio.sleep(0)
