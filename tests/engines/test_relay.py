"""The relay on real sockets: back-pressure, half-close, resets, slow delivery, and every refusal."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import resource
import socket
import struct
import time
from pathlib import Path

import picows
import pytest

from tests.engines.desktop import BANNER, Peer, client, limits
from vncgate.engines import session
from vncgate.engines.base import GOING_AWAY, POLICY
from vncgate.engines.relay import Relay
from vncgate.engines.session import READ_SIZE
from vncgate.errors import ProxyError
from vncgate.listeners import bind
from vncgate.model import Desktop, Route
from vncgate.tally import Refusal

BINARY = picows.WSMsgType.BINARY
MIB = 1 << 20
MAX_FRAME, MAX_BUFFER = limits().max_frame, limits().max_buffer
FRAME_HEAD = 10
"""Bytes that a frame of the relay has before its payload, at most (RFC 6455, section 5.2)."""
LARGEST_READ = 2 * int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()[2])
"""picows reads what the kernel has kept of a browser's bytes at once (tcp(7)), behind what it had of a frame."""


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


class World:
    """A relay with one account, on its own port and on the shared one."""

    def __init__(self, held_to=None):
        self.relay = Relay(held_to or limits())
        self.own, self.shared = bind("127.0.0.1", 0, "own"), bind("127.0.0.1", 0, "shared")
        self.port, self.shared_port = self.own.getsockname()[1], self.shared.getsockname()[1]
        self.suspects = []

    async def open(self, desktop):
        await self.relay.start(self.shared)
        route = Route("ws01", desktop, "websocketpath01", self.port)
        self.proxy = await self.relay.open(route, self.own, self.suspects.append)
        return self

    async def close(self):
        await self.relay.aclose()
        await self.proxy.close(GOING_AWAY, "end of the test")
        self.own.close()
        self.shared.close()


@pytest.fixture
async def world(request, peer):
    world = World(getattr(request, "param", None))
    yield await world.open(Desktop("127.0.0.1", peer.port))
    await world.close()


# ---- the way in


async def test_the_shared_port_finds_the_account_by_its_path(world):
    async with client(world.shared_port, "/ws/websocketpath01?x=1") as (_, heard):
        await heard.until(lambda: heard.data == BANNER)
    for path in ("/ws/other", "/ws/", "/websocketpath01", "/ws/websocketpath01/", "/websockify", "/"):
        with pytest.raises(picows.WSInvalidStatusError, match="404"):
            async with client(world.shared_port, path):
                pass


async def test_the_own_port_has_websockify_and_nothing_else(world):
    with pytest.raises(picows.WSInvalidStatusError, match="404"):
        async with client(world.port, "/ws/websocketpath01"):
            pass


async def test_a_path_is_served_once(world, peer):
    route = Route("ws02", Desktop("127.0.0.1", peer.port), "websocketpath01", None)
    with pytest.raises(ProxyError, match="path websocketpath01 is taken by account ws01"):
        await world.relay.open(route, None, print)


async def test_a_closed_account_is_not_found_on_the_shared_port(world):
    await world.proxy.close(POLICY, "stopped")
    with pytest.raises(picows.WSInvalidStatusError, match="404"):
        async with client(world.shared_port, "/ws/websocketpath01"):
            pass


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1.evil.example"]
)
async def test_pages_of_other_sites_are_refused(world, origin, caplog):
    with pytest.raises(picows.WSInvalidStatusError, match="403"):
        async with client(world.port, Origin=origin):
            pass
    assert f"refused a browser (other site): Pages of {origin!r} may not open desktops" in caplog.text
    assert world.relay.tally().refused == {Refusal.OTHER_SITE: 1}


@pytest.mark.parametrize("world", [limits(web_port=8080, origins=("https://portal.example:8443",))], indirect=True)
async def test_our_own_pages_are_let_in(world):
    for headers in (
        {"Origin": f"http://127.0.0.1:{world.port}"},
        {"Origin": "http://127.0.0.1:8080"},
        {"Origin": "https://Portal.example:8443"},
        {"Origin": "https://workshop.example", "X_Forwarded_Host": "workshop.example"},
        {"Origin": "https://workshop.example", "X_Forwarded_Host": "workshop.example, inner.example"},
        {},
    ):
        async with client(world.port, **headers) as (_, heard):
            await heard.until(lambda: heard.data)


async def request(port, *lines, body=b"", method="GET", path="/websockify"):
    """A handshake by hand; returns (reader, writer, the response's head)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    head = [f"{method} {path} HTTP/1.1", "Host: x", "Upgrade: websocket", f"Sec-WebSocket-Key: {key}"]
    writer.write("\r\n".join([*head, "Sec-WebSocket-Version: 13", *lines, "", ""]).encode() + body)
    async with asyncio.timeout(5):
        return reader, writer, (await reader.readuntil(b"\r\n\r\n")).decode()


async def test_firefox_says_keep_alive_and_upgrade(world):
    _, writer, head = await request(world.port, "Connection: keep-alive, Upgrade")
    assert head.startswith("HTTP/1.1 101 ")
    writer.close()


async def test_a_plain_request_is_told_that_this_is_a_websocket(world):
    reader, writer, head = await request(world.port, "Connection: close")
    assert head.startswith("HTTP/1.1 426 ")
    assert b"Open the landing page" in await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("offered", "answered"), [("binary", "binary"), ("base64, binary", "binary"), ("base64", None), (None, None)]
)
async def test_only_an_offered_subprotocol_is_answered(world, offered, answered):
    lines = [f"Sec-WebSocket-Protocol: {offered}"] if offered else []
    _, writer, head = await request(world.port, "Connection: Upgrade", *lines)
    found = [
        line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-protocol")
    ]
    assert found == ([answered] if answered else [])
    writer.close()


@pytest.mark.parametrize("world", [limits(handshake_timeout=0.2)], indirect=True)
async def test_a_browser_that_does_not_finish_its_handshake_is_cut(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"GET /websockify HTTP/1.1\r\n")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


# ---- frames


def frame(opcode, payload, fin=True, mask=True, rsv=0):
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    size = len(payload)
    bit = 0x80 if mask else 0
    head += (
        bytes([bit | size])
        if size < 126
        else struct.pack("!BH", bit | 126, size)
        if size < 65536
        else struct.pack("!BQ", bit | 127, size)
    )
    return head + (bytes(4) if mask else b"") + payload


async def close_of(reader):
    """The close frame that ends the stream, as (code, reason)."""
    async with asyncio.timeout(5):
        while True:
            first, second = await reader.readexactly(2)
            size = second & 127
            if size == 126:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
            payload = await reader.readexactly(size)
            if first & 15 == 8:
                return struct.unpack("!H", payload[:2])[0], payload[2:].decode()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(1, b"text"), 1003),
        (frame(2, b"unmasked", mask=False), 1002),
        (frame(2, bytes(65537)), 1009),
        (frame(2, b"compressed", rsv=4), 1002),
        (frame(0, b"continues nothing"), 1002),
        (frame(2, b"begun", fin=False) + frame(2, b"begun again"), 1002),
        (frame(3, b"reserved"), 1002),
        (frame(9, b"ping", fin=False), 1002),
    ],
)
@pytest.mark.parametrize("world", [limits(max_frame=65536)], indirect=True)
async def test_what_is_not_rfb_over_websocket_is_refused_with_the_right_code(world, sent, code):
    reader, writer, _ = await request(world.port, "Connection: Upgrade")
    writer.write(sent)
    found, reason = await close_of(reader)
    assert found == code
    assert reason
    writer.close()


async def test_fragments_and_single_bytes_arrive_in_order(world, peer):
    peer.echo = False
    _, writer, _ = await request(world.port, "Connection: Upgrade")
    stream = (
        frame(2, b"abc", fin=False)
        + frame(9, b"ping")
        + frame(0, b"def", fin=False)
        + frame(0, b"ghi")
        + frame(2, b"jkl")
    )
    for i in range(len(stream)):
        writer.write(stream[i : i + 1])
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while bytes(peer.received) != b"abcdefghijkl":
            await asyncio.sleep(0.01)
    writer.close()


async def test_keys_sent_before_the_desktop_answers_are_not_lost(world, peer):
    peer.echo = False
    _, writer = await asyncio.open_connection("127.0.0.1", world.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /websockify HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        + frame(2, b"early")
    )
    async with asyncio.timeout(5):
        while bytes(peer.received) != b"early":
            await asyncio.sleep(0.01)
    writer.close()


@pytest.mark.parametrize("world", [limits(ping_interval=0.2)], indirect=True)
async def test_a_quiet_browser_is_pinged_and_one_that_does_not_answer_is_cut(world):
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.pings >= 3)
        assert heard.closed is None
    reader, writer, _ = await request(world.port, "Connection: Upgrade")
    assert await close_of(reader) == (1001, "the browser did not answer a ping within 0.2 s")
    writer.close()


@pytest.mark.parametrize("world", [limits(ping_interval=0.3)], indirect=True)
async def test_a_slow_browser_that_still_takes_bytes_is_alive(world, peer):
    """The pong of one on a bad network waits behind megabytes."""
    peer.echo = False
    reader, writer = await slow_browser(world.port)
    peer.writer.write(bytes(8 * MIB))
    for _ in range(12):  # longer than two intervals, and never a frame from the browser
        await asyncio.sleep(0.1)
        await reader.read(65536)
    assert world.proxy.traffic().connections == 1
    writer.close()


@pytest.mark.parametrize("world", [limits(ping_interval=0.2)], indirect=True)
async def test_a_browser_that_is_not_listened_to_is_not_judged(world, peer):
    """The desktop does not read, so the gate does not, and cannot hear a pong."""
    peer.reading.clear()
    peer.echo = False
    async with client(world.port) as (transport, heard):
        await heard.until(lambda: heard.data)
        for _ in range(24):
            transport.send(BINARY, bytes(MIB))
        await asyncio.sleep(1.0)
        assert heard.closed is None
        peer.reading.set()
        async with asyncio.timeout(20):
            while len(peer.received) < 24 * MIB:
                await asyncio.sleep(0.05)


async def test_a_flood_of_pings_costs_nothing(world):
    _, writer = await slow_browser(world.port)
    (session,) = world.proxy.sessions
    underlying = session.socket.underlying_transport
    for _ in range(200):
        writer.write(frame(9, b"p" * 125) * 1000)
        async with asyncio.timeout(5):
            await writer.drain()
        assert underlying.get_write_buffer_size() < 1000
    writer.close()


async def test_a_ping_is_answered(world):
    reader, writer, _ = await request(world.port, "Connection: Upgrade")
    writer.write(frame(9, b"hello"))
    async with asyncio.timeout(5):
        await reader.readuntil(b"\x8a\x05hello")
    writer.close()


async def slow_browser(port):
    """A browser with a small receive buffer, after the handshake."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=65536)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /websockify HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2 + len(BANNER))
    return reader, writer


async def test_a_refused_frame_does_not_reach_the_desktop(world, peer):
    peer.echo = False
    reader, writer, _ = await request(world.port, "Connection: Upgrade")
    writer.write(frame(2, bytes(MAX_FRAME + 1)) + frame(2, b"and more"))
    assert (await close_of(reader))[0] == 1009
    writer.close()
    async with asyncio.timeout(5):
        await peer.gone.get()
    assert peer.received == b""


async def test_a_handshake_that_comes_after_the_end_finds_nobody(world, peer):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"GET /websockify HTTP/1.1\r\nHost: x\r\n")
    await writer.drain()
    await asyncio.sleep(0.1)  # it is accepted
    await world.proxy.close(POLICY, "stopped")
    writer.write(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    assert peer.connections == []
    writer.close()


async def test_without_descriptors_it_waits_and_then_serves_again(world):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    sock = socket.socket()
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, limit[1]))
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", world.port))
        before = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - before < 0.25, "it must not spin"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    sock.close()
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.data)


# ---- back-pressure


async def settled(read, seconds=10.0):
    """The value that `read()` keeps for a while."""
    async with asyncio.timeout(seconds):
        last = None
        while True:
            now = read()
            if now == last:
                return now
            last = now
            await asyncio.sleep(0.3)


@pytest.fixture
def held(monkeypatch):
    """What the relay itself held for a slow reader, in bytes, after each piece that it passed on: (down, up)."""
    down, up = [], []
    pass_down, pass_up = session._DesktopSide.buffer_updated, session.Browser.on_ws_frame

    def measured_down(side, nbytes):
        pass_down(side, nbytes)
        down.append(side._browser.socket.underlying_transport.get_write_buffer_size())

    def measured_up(browser, transport, frame):
        pass_up(browser, transport, frame)
        up.append(browser.desktop.get_write_buffer_size() if browser.desktop else 0)

    monkeypatch.setattr(session._DesktopSide, "buffer_updated", measured_down)
    monkeypatch.setattr(session.Browser, "on_ws_frame", measured_up)
    return down, up


async def test_a_browser_that_does_not_read_costs_a_bounded_buffer(world, peer, held):
    reader, writer = await slow_browser(world.port)
    while not peer.connections:
        await asyncio.sleep(0.01)
    total = 64 * MIB
    payload = os.urandom(MIB) * 64
    peer.writer.write(payload)  # the peer has it all in its own buffer; the kernel and the relay take what they may
    taken = await settled(lambda: total - peer.writer.transport.get_write_buffer_size())
    assert world.proxy.traffic().bytes_down < taken < total, "the rest waits in the desktop"
    got = bytearray()
    async with asyncio.timeout(30):
        while len(got) < total:
            first, second = await reader.readexactly(2)
            assert first == 0x82
            size = second & 127
            if size == 126:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await reader.readexactly(8))
            got += await reader.readexactly(size)
    assert got == payload, "nothing is lost or mixed up"
    down, _ = held
    assert MAX_BUFFER < max(down) <= MAX_BUFFER + READ_SIZE + FRAME_HEAD
    writer.close()


async def test_a_desktop_that_does_not_read_costs_a_bounded_buffer(world, peer, held):
    peer.reading.clear()
    peer.echo = False
    async with client(world.port) as (transport, heard):
        await heard.until(lambda: heard.data)
        chunk = bytes(range(256)) * 1024
        for _ in range(256):
            transport.send(BINARY, chunk)
        underlying = transport.underlying_transport
        left = await settled(underlying.get_write_buffer_size)
        assert left > 32 * MIB, "the relay stopped reading"
        peer.reading.set()
        async with asyncio.timeout(30):
            while len(peer.received) < 256 * len(chunk):
                await asyncio.sleep(0.05)
        assert bytes(peer.received) == chunk * 256
    _, up = held
    assert MAX_BUFFER < max(up) <= MAX_BUFFER + LARGEST_READ


# ---- the ways out


async def test_a_desktop_that_resets_is_told_apart_from_one_that_hangs_up(world, peer):
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.data)
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()
        await heard.until(lambda: heard.closed)
        assert heard.closed == (1014, f"desktop 127.0.0.1:{peer.port} dropped the connection")


@pytest.mark.parametrize("how", ["reset", "eof"])
async def test_a_browser_that_vanishes_frees_its_desktop(world, peer, how):
    _, writer, _ = await request(world.port, "Connection: Upgrade")
    while not peer.connections:
        await asyncio.sleep(0.01)
    if how == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.write_eof()
    async with asyncio.timeout(5):
        await peer.gone.get()
    writer.close()


async def test_closing_tells_every_browser_why_and_cuts_those_that_do_not_answer(world):
    reader, writer, _ = await request(world.port, "Connection: Upgrade")
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.data)
        async with asyncio.timeout(4):
            await world.proxy.close(GOING_AWAY, "the gate is being stopped")
        assert heard.closed == (1001, "the gate is being stopped")
    assert (await close_of(reader))[0] == 1001
    assert world.proxy.traffic().connections == 0
    writer.close()


async def test_a_long_reason_is_cut_to_what_a_close_frame_holds(world):
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.data)
        await world.proxy.close(POLICY, "ü" * 100)
        assert heard.closed == (1008, "ü" * 61)


async def test_a_desktop_that_does_not_answer():
    deaf = socket.socket()
    deaf.bind(("127.0.0.1", 0))
    deaf.listen(0)
    fillers = []
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            filler.connect(deaf.getsockname())
        fillers.append(filler)
    world = await World(limits(connect_timeout=0.3)).open(Desktop(*deaf.getsockname()))
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.closed)
        assert heard.closed == (1014, f"desktop 127.0.0.1:{deaf.getsockname()[1]} did not answer within 0.3 s")
        assert world.suspects == [heard.closed[1]]
    await world.close()
    for sock in (*fillers, deaf):
        sock.close()


async def test_a_desktop_on_a_unix_socket(tmp_path):
    async def greet(reader, writer):
        writer.write(BANNER)
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(greet, tmp_path / "x")
    world = await World().open(Desktop(unix=str(tmp_path / "x")))
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.data == BANNER)
    await world.close()
    server.close()
    world = await World().open(Desktop(unix=str(tmp_path / "gone")))
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.closed)
        assert heard.closed[1] == f"desktop unix:{tmp_path}/gone is not there: no such socket"
    await world.close()


async def test_a_browser_that_leaves_while_the_desktop_is_being_connected_to(world, peer, monkeypatch):
    async def hang(*args):
        await asyncio.sleep(1000)

    monkeypatch.setattr("vncgate.engines.session.connect", hang)
    _, writer, _ = await request(world.port, "Connection: Upgrade")
    writer.write(frame(8, b""))
    await asyncio.sleep(0)
    writer.close()
    await world.proxy.close(POLICY, "stopped")
    assert world.proxy.traffic().connections == 0


# ---- the log


async def test_the_log_names_account_and_browser_but_no_path(world, caplog):
    caplog.set_level(logging.DEBUG)
    async with client(world.port, X_Forwarded_For="10.9.9.9, 192.0.2.7") as (_, heard):
        await heard.until(lambda: heard.data)
    async with asyncio.timeout(5):
        while world.proxy.traffic().connections:
            await asyncio.sleep(0.01)
    records = [record for record in caplog.records if record.name.startswith("vncgate.engines")]
    assert {(record.account, record.client) for record in records} == {("ws01", "192.0.2.7")}
    assert [record.getMessage().split(";")[0] for record in records] == [
        f"connected to {world.proxy.desktop}",
        "the browser vanished",
    ]
    assert "websocketpath01" not in caplog.text
