"""The relay's listening sockets: connections that never become a session, and descriptors that run out."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from pathlib import Path

import pytest

from tests.engines.desktop import client, limits
from tests.engines.raw import eventually
from vncgate.engines.listening import RECEIVE_BUFFER
from vncgate.tally import Refusal


async def test_without_descriptors_it_waits_and_then_serves_again(world, caplog):
    caplog.set_level(logging.INFO)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    socks = [socket.socket() for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, limit[1]))
    try:
        for sock in socks:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", world.port))
        before = time.process_time()
        await asyncio.sleep(1.5)
        assert time.process_time() - before < 0.5, "it must not spin"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    for sock in socks:
        sock.close()
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.data)
    told = [(record.name, record.getMessage()) for record in caplog.records]
    assert [message for name, message in told if name == "vncgate.engines.listening"] == [
        "no browsers are accepted until others have gone: Too many open files",
        "browsers are accepted again",
    ]
    assert "asyncio" not in {name for name, _ in told}, "no traceback beside it"


@pytest.mark.parametrize("world", [limits(handshake_timeout=0.3)], indirect=True)
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", Refusal.TIMED_OUT),
        (b"GET /websockify HTTP/1.1\r\nHost: x\r\n", Refusal.TIMED_OUT),
        (b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n", Refusal.BAD_REQUEST),
        (b"POST /websockify HTTP/1.1\r\n\r\n", Refusal.BAD_REQUEST),
        (b"GET /websockify HTTP/1.0\r\n\r\n", Refusal.BAD_REQUEST),
        (b"GET /websockify HTTP/1.1\r\nA: " + b"a" * 20000, Refusal.BAD_REQUEST),
        (b"GET /websockify HTTP/1.1\r\n" + b"A: b\r\n" * 129 + b"\r\n", Refusal.BAD_REQUEST),
    ],
)
async def test_what_never_becomes_a_request_is_cut_and_counted(world, sent, reason):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(sent)
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    await eventually(lambda: world.relay.tally().refused == {reason: 1})
    writer.close()


async def test_a_connection_that_leaves_without_a_word_is_counted_too(world):
    _, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.close()
    await eventually(lambda: world.relay.tally().refused == {Refusal.BAD_REQUEST: 1})


async def test_the_kernel_keeps_a_bounded_part_of_what_a_browser_sends(world):
    async with client(world.port):
        (session,) = world.proxy.sessions
        sock = session.socket.underlying_transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * RECEIVE_BUFFER
