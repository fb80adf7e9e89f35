"""The relay on real sockets: back-pressure, half-close, resets, slow delivery, and every refusal."""

from __future__ import annotations

import asyncio
import logging
import time

import picows
import pytest

from tests.engines.desktop import BANNER, client, limits
from tests.engines.raw import eventually, handshake, request
from vncgate import tasks
from vncgate.engines.base import POLICY
from vncgate.errors import ProxyError
from vncgate.model import Desktop, Route
from vncgate.tally import End, Refusal

BINARY = picows.WSMsgType.BINARY


def refused(world):
    """The handshakes that a relay refused, by reason."""
    return dict(world.relay.tally().refused)


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


@pytest.mark.parametrize("way", ["own", "shared"])
async def test_who_was_accepted_before_the_end_is_connected_and_who_comes_later_waits_for_the_next_gate(world, way):
    listener, path = {"own": (world.own, "/websockify"), "shared": (world.shared, "/ws/websocketpath01")}[way]
    port = listener.getsockname()[1]
    reader, early = await asyncio.open_connection("127.0.0.1", port)
    await eventually(lambda: world.relay._under_way)
    end = tasks.spawn(world.relay.rest(on=True), "the end")
    await eventually(lambda: world.proxy.server is None)
    _, late = await asyncio.open_connection("127.0.0.1", port)
    late.write(handshake(path))
    assert not end.done()
    early.write(handshake(path))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    await end
    assert world.relay.connections == 1
    listener.accept()[0].close()
    early.close()
    late.close()


async def test_the_end_does_not_wait_for_who_says_nothing(world):
    _, silent = await asyncio.open_connection("127.0.0.1", world.port)
    await eventually(lambda: world.relay._under_way)
    await world.relay.rest(on=True)
    assert world.relay._under_way
    silent.close()


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


async def test_a_handshake_that_comes_byte_by_byte(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    for byte in handshake():
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
    writer.close()


@pytest.mark.parametrize("world", [limits(handshake_timeout=0.3)], indirect=True)
async def test_a_handshake_that_trickles_is_cut_when_its_time_is_over(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    async with asyncio.timeout(5):
        for byte in handshake()[:-1] * 100:
            writer.write(bytes([byte]))
            if reader.at_eof():
                break
            await asyncio.sleep(0.02)
        assert await reader.read() == b""
    await eventually(lambda: refused(world) == {Refusal.TIMED_OUT: 1})
    writer.close()


@pytest.mark.parametrize("world", [limits(max_headers=4096)], indirect=True)
async def test_headers_longer_than_they_may_be(world, caplog):
    _, writer, head = await request(world.port, "Connection: Upgrade", "Cookie: " + "c" * 5000)
    assert head.startswith("HTTP/1.1 431 ")
    assert refused(world) == {Refusal.TOO_LARGE: 1}
    assert "the setting `max_headers` allows 4096" in caplog.text
    writer.close()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Sec-WebSocket-Key: short"], "400"),
        (["Sec-WebSocket-Version: 8"], "426"),
        (["Connection: close"], "426"),
        (["Upgrade: h2c"], "426"),
    ],
)
async def test_handshakes_that_are_none(world, lines, status):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    changed = {line.partition(":")[0] for line in lines}
    kept = [line for line in handshake().decode().split("\r\n")[:-2] if line.partition(":")[0] not in changed]
    writer.write("\r\n".join([*kept, *lines, "", ""]).encode())
    async with asyncio.timeout(5):
        answer = (await reader.read()).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert sum(refused(world).values()) == 1
    writer.close()


@pytest.mark.parametrize("world", [limits(max_connections=1000)], indirect=True)
async def test_a_thousand_handshakes_at_once(world, peer):
    """All from one proxy that does not name its clients, as a load balancer without HTTP would be."""

    async def connect():
        reader, writer = await asyncio.open_connection("127.0.0.1", world.shared_port, limit=4096)
        writer.write(handshake("/ws/websocketpath01"))
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2 + len(BANNER))
        return writer

    async with asyncio.timeout(60):
        writers = await asyncio.gather(*(connect() for _ in range(1000)))
    assert world.proxy.traffic().connections == 1000
    assert refused(world) == {}
    for writer in writers:
        writer.transport.abort()
    await eventually(lambda: world.proxy.traffic().connections == 0)
    tally = world.relay.tally()
    assert (tally.opened, sum(tally.connect.counts), tally.ended) == (1000, 1000, {End.BROWSER_VANISHED: 1000})


# ---- limits


@pytest.mark.parametrize("world", [limits(client_handshakes=1)], indirect=True)
async def test_a_client_that_connects_too_often_is_told_when_to_come_again(world, caplog):
    async def status(*lines):
        _, writer, head = await request(world.port, "Connection: Upgrade", *lines)
        writer.close()
        return int(head.split()[1]), head

    theirs = "X-Forwarded-For: 192.0.2.7"
    assert [(await status(theirs))[0] for _ in range(12)] == [101] * 10 + [429] * 2
    assert "\r\nRetry-After: 1\r\n" in (await status("X-Forwarded-For: 198.51.100.1, 192.0.2.7"))[1]
    assert (await status("X-Forwarded-For: 192.0.2.8"))[0] == 101
    unnamed = [(await status())[0] for _ in range(12)]
    assert unnamed == [101] * 12, "a proxy that does not name its clients is not one of them"
    assert refused(world) == {Refusal.HANDSHAKES: 3}
    said = [record for record in caplog.records if "too many handshakes" in record.getMessage()]
    assert [record.client for record in said] == ["192.0.2.7"], "once, not for each"


@pytest.mark.parametrize("world", [limits(client_handshakes=1, trusted_proxies=())], indirect=True)
async def test_who_is_no_proxy_cannot_take_another_name(world):
    for i in range(11):
        _, writer, head = await request(world.port, "Connection: Upgrade", f"X-Forwarded-For: 192.0.2.{i}")
        writer.close()
    assert head.startswith("HTTP/1.1 429 ")


@pytest.mark.parametrize("world", [limits(handshakes=1)], indirect=True)
async def test_wrong_paths_count_as_handshakes_too(world):
    statuses = []
    for _ in range(11):
        _, writer, head = await request(world.port, "Connection: Upgrade", path="/guess")
        statuses.append(int(head.split()[1]))
        writer.close()
    assert statuses == [404] * 10 + [429]


@pytest.mark.parametrize("world", [limits(max_connections=2)], indirect=True)
async def test_an_account_has_so_many_connections_over_all_processes(world):
    world.proxy.elsewhere = 1
    async with client(world.port) as (_, heard):
        await heard.until(lambda: heard.data)
        reader, writer, head = await request(world.port, "Connection: Upgrade")
        assert head.startswith("HTTP/1.1 503 ")
        assert b"has 2 connections" in await reader.read()
        writer.close()
        assert refused(world) == {Refusal.CONNECTIONS: 1}
        world.proxy.elsewhere = 0
        async with client(world.port) as (_, other):
            await other.until(lambda: other.data)


# ---- what is counted


async def test_what_is_counted_survives_sessions_and_accounts(world):
    async with client(world.port) as (transport, heard):
        transport.send(BINARY, b"12345")
        await heard.until(lambda: heard.data == BANNER + b"12345")
        during = world.relay.tally()
    await eventually(lambda: world.proxy.traffic().connections == 0)
    await world.proxy.close(POLICY, "stopped")
    after = world.relay.tally()
    for tally in (during, after):
        assert (tally.opened, tally.frames_up, tally.bytes_up, tally.bytes_down) == (1, 1, 5, len(BANNER) + 5)
        assert tally.frames_down >= 2
        assert sum(tally.connect.counts) == 1
    assert (during.ended, after.ended) == ({}, {End.BROWSER_VANISHED: 1})


# ---- who uses a desktop

LOGIN = b"RFB 003.008\n" + b"\x01" + b"\x01"
UPDATE_REQUEST = bytes([3, 1, 0, 0, 0, 0, 3, 32, 2, 88])
KEY = bytes([4, 1, 0, 0, 0, 0, 0, 97])


@pytest.fixture
async def watched(world, peer):
    proxy = await world.relay.open(
        Route("ws02", Desktop("127.0.0.1", peer.port), "path-ws02", None, watch_input=True), None, print
    )
    yield proxy
    await proxy.close(POLICY, "end of the test")


async def said(heard, transport, *frames):
    """The desktop had these frames."""
    before = len(heard.data)
    for frame in frames:
        transport.send(BINARY, frame)
    await heard.until(lambda: heard.data[before:].endswith(b"".join(frames)))


async def test_keys_are_told_apart_from_watching_and_outlive_the_session(world, watched):
    async with client(world.shared_port, "/ws/path-ws02") as (transport, heard):
        await heard.until(lambda: heard.data == BANNER)
        await said(heard, transport, LOGIN[:12], LOGIN[12:13], LOGIN[13:], *[UPDATE_REQUEST] * 5)
        assert watched.traffic().used == 0.0
        before = time.monotonic()
        await said(heard, transport, KEY[:3], KEY[3:])
        first = watched.traffic().used
        assert before <= first <= time.monotonic()
        await said(heard, transport, UPDATE_REQUEST)
        assert watched.traffic().used == first
        async with client(world.shared_port, "/ws/path-ws02") as (other, also):
            await said(also, other, LOGIN)
            assert watched.traffic().used == first, "somebody else came, and did nothing yet"
            await said(also, other, KEY)
        last = watched.traffic().used
        assert last > first
        await eventually(lambda: watched.traffic().connections == 1)
        assert watched.traffic().used == last
    await eventually(lambda: watched.traffic().connections == 0)
    assert watched.traffic().used == last


async def test_what_cannot_be_read_is_use_and_said_once(world, watched, caplog):
    caplog.set_level(logging.DEBUG, "vncgate")
    async with client(world.shared_port, "/ws/path-ws02") as (transport, heard):
        await said(heard, transport, LOGIN[:12], b"\x13", b"\x16\x03\x01")
        used = watched.traffic().used
        assert used
        await said(heard, transport, b"encrypted")
        assert watched.traffic().used > used
    words = "a login of security type 19: from here on whatever the browser sends counts as use"
    assert [record.account for record in caplog.records if record.getMessage() == words] == ["ws02"]


async def test_nobody_looks_where_nobody_asked(world):
    async with client(world.port) as (transport, heard):
        await said(heard, transport, LOGIN, KEY)
        assert world.proxy.traffic().used == 0.0


# ---- how busy the loop is


async def test_the_loops_lateness_is_sampled(world):
    samples = sum(world.relay.tally().latency.counts)
    time.sleep(0.6)
    await eventually(lambda: sum(world.relay.tally().latency.counts) > samples)
    latency = world.relay.tally().latency
    assert sum(latency.counts[latency.bounds.index(0.25) :]) >= 1, "it slept through a sample"


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
