"""One session of the relay, on real sockets: frames, back-pressure, and every way in which either end goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import os
import socket
import struct
import threading
from pathlib import Path

import picows
import pytest

from tests.engines.desktop import BANNER, client, limits
from tests.engines.raw import close_of, eventually, frame, handshake, relay_to, request, slow_browser
from vncgate.engines import session
from vncgate.engines.base import GOING_AWAY, POLICY
from vncgate.engines.listening import RECEIVE_BUFFER
from vncgate.engines.room import READ_SIZE
from vncgate.model import Desktop
from vncgate.tally import End

BINARY = picows.WSMsgType.BINARY
MIB = 1 << 20
MAX_FRAME, MAX_BUFFER = limits().max_frame, limits().max_buffer
FRAME_HEAD = 10
"""Bytes that a frame of the relay has before its payload, at most (RFC 6455, section 5.2)."""
LARGEST_READ = 2 * int(Path("/proc/sys/net/core/rmem_max").read_text())
"""What the kernel keeps of a browser's bytes, and picows reads at once (socket(7))."""


def ended(world):
    """How the sessions of a relay ended."""
    return dict(world.relay.tally().ended)


# ---- frames


REFUSED = {
    "text": (frame(1, b"text"), 1003),
    "unmasked": (frame(2, b"unmasked", mask=False), 1002),
    "unmasked ping": (frame(9, b"", mask=False), 1002),
    "unmasked close": (frame(8, b"", mask=False), 1002),
    "too long": (frame(2, bytes(65537)), 1009),
    "rsv1": (frame(2, b"compressed", rsv=4), 1002),
    "rsv2": (frame(2, b"?", rsv=2), 1002),
    "rsv3": (frame(2, b"?", rsv=1), 1002),
    "continues nothing": (frame(0, b"?"), 1002),
    "begun twice": (frame(2, b"begun", fin=False) + frame(2, b"begun again"), 1002),
    **{f"opcode {opcode}": (frame(opcode, b"reserved"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping in fragments": (frame(9, b"ping", fin=False), 1002),
    "close in fragments": (frame(8, b"", fin=False), 1002),
    "ping too long": (frame(9, bytes(126)), 1002),
    "close too long": (frame(8, b"\x03\xe8" + bytes(124)), 1002),
    "length 2^63": (struct.pack("!BBQ", 0x82, 0xFF, 1 << 63), 1002),
    "length 2^63 - 1": (struct.pack("!BBQ", 0x82, 0xFF, (1 << 63) - 1), 1009),
    "length not in the fewest bytes": (struct.pack("!BBH", 0x82, 0xFE, 5) + bytes(9), 1002),
    "length not in the fewest bytes, of 64 bits": (struct.pack("!BBQ", 0x82, 0xFF, 5) + bytes(9), 1002),
    "close code of 1 byte": (frame(8, b"\x03"), 1002),
    "close reason that is not UTF-8": (frame(8, b"\x03\xe8\xff\xfe"), 1007),
    **{
        f"close code {code}": (frame(8, struct.pack("!H", code)), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize(("sent", "code"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("world", [limits(max_frame=65536)], indirect=True)
async def test_what_is_not_rfb_over_websocket_is_refused_with_the_right_code(world, peer, sent, code):
    peer.echo = False
    async with client(world.port) as (_, other):
        reader, writer, _ = await request(world.port, "Connection: Upgrade")
        await other.until(lambda: other.data)
        writer.write(sent + frame(2, b"and then a key"))
        found, reason = await close_of(reader)
        assert found == code
        assert reason
        writer.close()
        await eventually(lambda: world.proxy.traffic().connections == 1)
        assert ended(world) == {End.PROTOCOL_ERROR: 1}
        assert b"and then a key" not in peer.received
        assert other.closed is None, "it is nobody else's concern"


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", 1000)]
    + [(struct.pack("!H", code), code) for code in (1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999)]
    + [(b"\x03\xe8" + "bye €".encode(), 1000), (b"\x03\xe8" + bytes(123), 1000)],
)
async def test_a_close_is_answered_with_its_own_code(world, peer, payload, code):
    reader, writer, _ = await request(world.port, "Connection: Upgrade")
    writer.write(frame(2, b"last key") + frame(8, payload))
    assert (await close_of(reader))[0] == code
    assert await reader.read() == b""
    writer.close()
    async with asyncio.timeout(5):
        await peer.gone.get()
    assert peer.received == b"last key"
    assert ended(world) == {End.BROWSER_CLOSED: 1}


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
    writer.write(handshake() + frame(2, b"early"))
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
    (session,) = world.proxy.sessions
    assert session.ending == ""
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


async def test_a_refused_frame_does_not_reach_the_desktop(world, peer):
    peer.echo = False
    reader, writer, _ = await request(world.port, "Connection: Upgrade")
    writer.write(frame(2, bytes(MAX_FRAME + 1)) + frame(2, b"and more"))
    assert (await close_of(reader))[0] == 1009
    writer.close()
    async with asyncio.timeout(5):
        await peer.gone.get()
    assert peer.received == b""


async def test_what_a_browser_sends_before_its_desktop_is_connected_waits_in_the_kernel(world, monkeypatch):
    monkeypatch.setattr(session, "connect", lambda *args: asyncio.sleep(1000))
    _, writer, _ = await request(world.port, "Connection: Upgrade")
    writer.write(frame(2, bytes(1000)) * 16384)
    await settled(writer.transport.get_write_buffer_size)
    (waiting,) = world.proxy.sessions
    assert len(waiting._early) <= 16384, "what came together with the handshake"
    writer.transport.abort()


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


def test_a_piece_is_read_to_the_place_in_its_page_that_it_is_sent_to():
    room, sent = session.Room(), 0
    first_page = address(room.free()) - FRAME_HEAD
    assert first_page % mmap.PAGESIZE == 0
    for size in (READ_SIZE, 1, 125, 126, 65535, 65536, READ_SIZE, 100_000):
        free = room.free()
        assert len(free) == READ_SIZE
        assert address(free) == first_page + (sent + FRAME_HEAD) % mmap.PAGESIZE
        filled = room.filled(size)
        assert (address(filled), len(filled)) == (address(free), size)
        sent += len(frame(2, bytes(size), mask=False))
        room.sent += 7  # a key that was passed on to a desktop
        sent += 7


def address(view):
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


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
    assert MAX_BUFFER < max(up) <= MAX_BUFFER + LARGEST_READ + len(chunk)
    (session,) = world.proxy.sessions
    kernel = session.socket.underlying_transport.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF
    )
    assert kernel <= min(2 * RECEIVE_BUFFER, LARGEST_READ), "it does not grow to megabytes"


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
    async with (
        relay_to(Desktop(*deaf.getsockname()), connect_timeout=0.3) as world,
        client(world.port) as (_, heard),
    ):
        await heard.until(lambda: heard.closed)
        assert heard.closed == (1014, f"desktop 127.0.0.1:{deaf.getsockname()[1]} did not answer within 0.3 s")
        assert world.suspects == [heard.closed[1]]
    for sock in (*fillers, deaf):
        sock.close()


async def test_a_desktop_on_a_unix_socket(tmp_path):
    async def greet(reader, writer):
        writer.write(BANNER)
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(greet, tmp_path / "x")
    async with relay_to(Desktop(unix=str(tmp_path / "x"))) as world, client(world.port) as (_, heard):
        await heard.until(lambda: heard.data == BANNER)
    server.close()
    async with relay_to(Desktop(unix=str(tmp_path / "gone"))) as world, client(world.port) as (_, heard):
        await heard.until(lambda: heard.closed)
        assert heard.closed[1] == f"desktop unix:{tmp_path}/gone is not there: no such socket"


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


# ---- desktops that misbehave


async def test_a_desktop_that_is_not_there(free_port):
    port = free_port()
    async with relay_to(Desktop("127.0.0.1", port)) as world, client(world.port) as (_, heard):
        await heard.until(lambda: heard.closed)
        assert heard.closed == (1014, f"desktop 127.0.0.1:{port} refused the connection")
        await heard.gone.wait()
        await eventually(lambda: ended(world) == {End.DESKTOP_UNREACHABLE: 1})
        assert world.suspects == [heard.closed[1]]
        assert sum(world.relay.tally().connect.counts) == 0


async def test_a_desktop_whose_name_is_not_known():
    async with relay_to(Desktop("no-such-host.invalid", 5900)) as world, client(world.port) as (_, heard):
        await heard.until(lambda: heard.closed)
        assert heard.closed[0] == 1014
        assert "no-such-host.invalid:5900" in heard.closed[1]
        assert world.suspects == [heard.closed[1]]


async def test_a_name_that_takes_for_ever_to_look_up(monkeypatch):
    answer = threading.Event()
    real = socket.getaddrinfo

    def hang(host, *args, **kwargs):
        if kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, *args, **kwargs)
        answer.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    async with relay_to(Desktop("slow.invalid", 5900), connect_timeout=0.2) as world, client(world.port) as (_, heard):
        await heard.until(lambda: heard.closed)
        assert heard.closed[1].startswith("desktop slow.invalid:5900 did not answer within 0.2 s")
        await eventually(lambda: ended(world) == {End.DESKTOP_UNREACHABLE: 1})
    answer.set()


async def test_a_desktop_that_accepts_and_says_nothing(peer, monkeypatch):
    monkeypatch.setattr("tests.engines.desktop.BANNER", b"")
    peer.echo = False
    async with (
        relay_to(Desktop("127.0.0.1", peer.port), handshake_timeout=0.3) as world,
        client(world.port) as (transport, heard),
    ):
        transport.send(BINARY, b"keys do not count")
        await heard.until(lambda: heard.closed)
        reason = f"desktop 127.0.0.1:{peer.port} takes connections, but said nothing within 0.3 s"
        assert heard.closed == (1014, reason)
        assert world.suspects == [reason]
        await eventually(lambda: ended(world) == {End.DESKTOP_UNREACHABLE: 1})


async def test_a_desktop_that_has_greeted_may_be_silent(peer):
    async with (
        relay_to(Desktop("127.0.0.1", peer.port), handshake_timeout=0.2) as world,
        client(world.port) as (_, heard),
    ):
        await heard.until(lambda: heard.data)
        await asyncio.sleep(0.5)
        assert heard.closed is None
        assert world.suspects == []


async def test_garbage_and_single_bytes_of_a_desktop_arrive_as_they_are(world, peer):
    peer.echo = False
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.data)
        garbage = os.urandom(3000)
        for i in range(100):
            peer.writer.write(garbage[i : i + 1])
            await asyncio.sleep(0)
        peer.writer.write(garbage[100:])
        await heard.until(lambda: bytes(heard.data) == BANNER + garbage)
        assert heard.closed is None


@pytest.mark.parametrize(
    ("how", "code", "end"), [("dies", 1000, End.DESKTOP_CLOSED), ("is cut", 1014, End.DESKTOP_DROPPED)]
)
async def test_a_desktop_that_goes_in_the_middle_of_an_update(world, peer, how, code, end):
    peer.echo = False
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.data)
        update = b"\0\0\0\1" + bytes(8) + struct.pack("!I", 0) + b"u" * 5000  # a rectangle that never ends
        peer.writer.write(update)
        await heard.until(lambda: bytes(heard.data) == BANNER + update)
        if how == "is cut":
            peer.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        peer.writer.transport.abort()
        await heard.until(lambda: heard.closed)
        assert heard.closed[0] == code
        await heard.gone.wait()
        await eventually(lambda: ended(world) == {end: 1})
        assert world.suspects == [], "it is no suspect: a login of ours would clear a guesser's count"


# ---- browsers that go, and leave bytes that nobody takes


@pytest.fixture
async def backlog(world, peer):
    """A session whose browser has stopped reading in the middle of megabytes: its (reader, writer)."""
    peer.echo = False
    reader, writer = await slow_browser(world.port)
    peer.writer.write(bytes(16 * MIB))
    (session,) = world.proxy.sessions
    await eventually(lambda: session.socket.underlying_transport.get_write_buffer_size() > MAX_BUFFER)
    yield reader, writer
    writer.transport.abort()


async def test_a_browser_that_vanished_without_a_word_while_it_was_sent_to(peer):
    async with relay_to(Desktop("127.0.0.1", peer.port), ping_interval=0.2) as world:
        peer.echo = False
        _, writer = await slow_browser(world.port)
        peer.writer.write(bytes(16 * MIB))
        await eventually(lambda: ended(world) == {End.NO_ANSWER: 1})
        assert world.proxy.traffic().connections == 0
        async with asyncio.timeout(5):
            await peer.gone.get()
        writer.transport.abort()


@pytest.mark.parametrize("world", [limits(ping_interval=0.2)], indirect=True)
@pytest.mark.parametrize(
    ("what", "end"), [("fin", End.BROWSER_VANISHED), ("bad frame", End.PROTOCOL_ERROR), ("close", End.BROWSER_CLOSED)]
)
async def test_a_browser_that_ends_its_session_and_does_not_take_what_waits_is_cut(
    world, backlog, monkeypatch, what, end
):
    monkeypatch.setattr(session, "DRAIN_GRACE", 0.3)
    _, writer = backlog
    if what == "fin":
        writer.write_eof()
    else:
        writer.write(frame(3, b"") if what == "bad frame" else frame(8, b""))
    await eventually(lambda: ended(world) == {end: 1})
    assert world.proxy.traffic().connections == 0
