"""The operator's socket: whatever comes in there, or befalls its path, desktops go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket

import pytest

from tests.engines.desktop import Peer
from tests.faults.typist import typing
from tests.workshop import Workshop
from vncgate.errors import ControlError

NONSENSE = {
    "bytes": os.urandom(65536),
    "no end": b"POST /reload HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{",
    "a length that lies": b"POST /stop HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "headers without end": b"GET /status HTTP/1.1\r\n" + b"X: y\r\n" * 20000,
    "a deep value": b"POST /stop HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    + b"[" * 100000,
    "half a head": b"GET /sta",
    "nothing": b"",
}


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


def called(workshop, data):
    """A connection that says `data` and stays."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(workshop.control))
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        sock.send(data)
    return sock


@pytest.mark.parametrize("kind", NONSENSE)
async def test_nonsense_at_the_control_socket_keeps_nobody_from_it_for_long(workshop, kind, caplog):
    async with Peer() as peer:
        workshop.write(f"ws01 127.0.0.1 path-ws01 - {peer.port} secret01")
        async with workshop.running(handshake_timeout=1.0), typing(workshop.shared, "/ws/path-ws01") as typist:
            with contextlib.ExitStack() as stack:
                for _ in range(50):
                    stack.enter_context(called(workshop, NONSENSE[kind]))
                echoes = typist.echoes
                assert (await workshop.ask("/status"))["totals"]["in_use"] == 1
                async with asyncio.timeout(10):
                    while typist.echoes < echoes + 5:
                        await asyncio.sleep(0.01)
            assert (await workshop.ask("/reload", {})) == {"changes": "1 unchanged"}
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_control_socket_whose_path_was_removed_is_missed_by_commands_alone(workshop):
    """Someone cleaned /run or /tmp: the file and SIGHUP still reload, it still stops, and the next has the path."""
    async with Peer() as peer:
        workshop.write(f"ws01 127.0.0.1 path-ws01 - {peer.port} secret01")
        async with workshop.running(), typing(workshop.shared, "/ws/path-ws01"):
            workshop.control.unlink()
            with pytest.raises(ControlError, match="there is no such socket"):
                await workshop.ask("/status")
            workshop.tokens.write_text(workshop.tokens.read_text() + f"ws02 127.0.0.1 path-ws02 - {peer.port} x\n")
            os.kill(os.getpid(), signal.SIGHUP)
            await workshop.until(lambda status: len(status["accounts"]) == 2)
        async with workshop.running():
            assert len((await workshop.ask("/status"))["accounts"]) == 2
