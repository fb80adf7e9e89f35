"""Desktops and browsers that misbehave, beside some that do not: these must not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from tests.engines.desktop import Peer, client
from tests.faults.typist import typing
from tests.real.gate import RunningGate
from tests.workshop import Workshop

MIB = 1 << 20


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


@contextlib.asynccontextmanager
async def desktop(serve):
    """A server that does `serve(reader, writer)` to each connection; gives its port."""

    writers = []

    async def connected(reader, writer):
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            if not writer.is_closing():
                writer.transport.abort()
        await asyncio.sleep(0)


async def says_nothing(reader, writer):
    await reader.read()


async def says_garbage(reader, writer):
    writer.write(os.urandom(4096))
    await reader.read()


async def hangs_up(reader, writer):
    pass


async def drips(reader, writer):
    for byte in b"RFB 003.008\n" * 100:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


DEAD = {
    "silent": (says_nothing, "did not finish the login within 0.5 s"),
    "garbage": (says_garbage, "does not speak VNC"),
    "hangs-up": (hangs_up, "closed the connection during the login"),
    "drips": (drips, "did not finish the login within 0.5 s"),
    "refuses": (None, "refused the connection"),
}


async def test_half_of_the_desktops_are_dead_each_in_its_own_way(workshop):
    async with Peer() as peer, contextlib.AsyncExitStack() as desktops, contextlib.AsyncExitStack() as stack:
        lines = [f"ws{n} 127.0.0.1 path-ws{n} - {peer.port} pass{n}" for n in range(5)]
        for name, (serve, _) in DEAD.items():
            port = await desktops.enter_async_context(desktop(serve)) if serve else workshop.free_port()
            lines.append(f"{name} 127.0.0.1 path-{name} - {port} {name[:8]}")
        workshop.write(*lines)
        async with (
            workshop.running(probe=True, handshake_timeout=0.5, probe_interval=0.5, connect_timeout=0.5),
            contextlib.AsyncExitStack() as typists,
        ):
            at_work = [await typists.enter_async_context(typing(workshop.shared, f"/ws/path-ws{n}")) for n in range(5)]
            for name in DEAD:  # their browsers come, too
                for _ in range(3):
                    await stack.enter_async_context(client(workshop.shared, f"/ws/path-{name}"))
            await asyncio.sleep(0.5)
            await stack.aclose()  # and go: only what nobody uses is probed
            await workshop.until(
                lambda status: all(
                    DEAD[account["name"]][1] in account["reason"]
                    for account in status["accounts"]
                    if account["name"] in DEAD
                )
            )
            echoes = [typist.echoes for typist in at_work]
            async with asyncio.timeout(10):
                while min(t.echoes - before for t, before in zip(at_work, echoes, strict=True)) < 20:
                    await asyncio.sleep(0.02)
            totals = workshop.gate.status()["totals"]
            assert (totals["in_use"], totals["offline"], totals["not_running"]) == (5, 5, 0)


def memory(pid):
    """Bytes of memory that a process has to itself, and its share of the rest: PSS."""
    return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("Pss:")[1].split()[0]) * 1024


async def test_a_desktop_that_floods_and_browsers_that_never_read_hurt_nobody_else(tmp_path):
    """A hundred megabytes pass to a browser that reads; five do not read a byte; meanwhile somebody types."""
    pouring = bytes(MIB)

    async def pours(reader, writer):
        writer.write(b"RFB 003.008\n")
        while True:
            writer.write(pouring)
            await writer.drain()

    async with desktop(pours) as port, Peer() as peer, contextlib.AsyncExitStack() as stack:
        gate = RunningGate(tmp_path, "probe = false\nworkers = 0\n")  # all in one loop
        gate.write(f"flood 127.0.0.1 flood - {port} pass1", f"typed 127.0.0.1 typed - {peer.port} pass2")
        await asyncio.to_thread(gate.__enter__)
        stack.push_async_callback(asyncio.to_thread, gate.stop)
        async with typing(gate.shared, "/ws/typed") as typist, client(gate.shared, "/ws/flood") as (_, reads):
            async with asyncio.timeout(10):
                while len(reads.data) < 4 * MIB:
                    await asyncio.sleep(0.01)
            before = memory(gate.pid)
            for _ in range(5):
                stack.enter_context(never_reads(gate.shared, "/ws/flood"))
            await asyncio.to_thread(gate.until, lambda: gate.account("flood")["connections"] == 6)
            got, echoes = 0, typist.echoes
            async with asyncio.timeout(30):
                while got < 100 * MIB or typist.echoes < echoes + 50:
                    got += len(reads.data)
                    reads.data.clear()
                    await asyncio.sleep(0.01)
            assert memory(gate.pid) - before < 8 * MIB


@contextlib.contextmanager
def never_reads(port, path):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        yield
