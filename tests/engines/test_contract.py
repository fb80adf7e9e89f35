"""What every engine must do, on a real websocket and a real socket behind it."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import picows
import pytest

from tests.engines.desktop import BANNER, Peer, client, limits
from tests.engines.raw import request
from tests.engines.vnc import COOKIE, DIGEST, INIT, OTHER, OTHER_DIGEST, Keeper, Vnc, browser, enter, say
from vncgate.cookies import SESSION
from vncgate.engines import ENGINES
from vncgate.engines.base import SERVICE_RESTART
from vncgate.engines.pool import Pool
from vncgate.engines.relay import Relay
from vncgate.engines.websockify import Websockify
from vncgate.errors import DesktopError, ProxyError
from vncgate.listeners import Forgetful, bind
from vncgate.model import Desktop, Readiness, Route, Traffic
from vncgate.people import Mode
from vncgate.tally import Tally


@pytest.fixture(params=[*ENGINES, "pool"])
async def engine(request, nursery):
    if request.param == "pool":
        engine = Pool(limits(), 2, keeper=Forgetful(), nursery=nursery())
    else:
        engine = ENGINES[request.param](limits())
    await engine.start(None)
    yield engine
    await engine.aclose()


@pytest.fixture(params=["relay", "pool"])
async def guarding(request, nursery):
    """An engine that knows guarded accounts."""
    held_to = limits(guarded=True)
    engine = Pool(held_to, 2, keeper=Forgetful(), nursery=nursery()) if request.param == "pool" else Relay(held_to)
    await engine.start(None)
    yield engine
    await engine.aclose()


@pytest.fixture
def listener():
    sock = bind("127.0.0.1", 0, "test")
    yield sock
    sock.close()


def route(listener, port, host="127.0.0.1"):
    return Route("ws01", Desktop(host, port), "websocketpath01", listener.getsockname()[1])


def port_of(listener):
    return listener.getsockname()[1]


async def test_bytes_pass_both_ways_and_are_counted(engine, listener):
    async with Peer() as peer:
        proxy = await engine.open(route(listener, peer.port), listener, lambda reason: None)
        async with client(port_of(listener)) as (socket, heard):
            payload = bytes(range(256)) * 4000
            socket.send(picows.WSMsgType.BINARY, payload)
            await heard.until(lambda: len(heard.data) >= len(BANNER) + len(payload))
            assert bytes(heard.data) == BANNER + payload
            await soon(
                lambda: (
                    proxy.traffic() in (Traffic(1, len(payload), len(BANNER) + len(payload)), Traffic(1, None, None))
                )
            )
        await proxy.close(SERVICE_RESTART, "test")


async def test_two_browsers_share_an_account(engine, listener):
    async with Peer() as peer:
        proxy = await engine.open(route(listener, peer.port), listener, lambda reason: None)
        async with client(port_of(listener)) as (_, one), client(port_of(listener)) as (_, two):
            await one.until(lambda: one.data)
            await two.until(lambda: two.data)
            await soon(lambda: proxy.traffic().connections == 2)
        await proxy.close(SERVICE_RESTART, "test")


async def test_a_desktop_that_is_not_there_is_a_suspect_and_the_browser_is_told(engine, listener, free_port):
    suspected = asyncio.Queue()
    proxy = await engine.open(route(listener, free_port()), listener, lambda *told: suspected.put_nowait(told[0]))
    async with client(port_of(listener)) as (_, heard):
        await heard.until(lambda: heard.closed)
        code, reason = heard.closed
        assert code in (1011, 1014)
        assert reason
    async with asyncio.timeout(5):
        assert "refused" in await suspected.get()
    await proxy.close(SERVICE_RESTART, "test")


async def test_a_desktop_that_hangs_up_ends_the_session_after_its_last_bytes(engine, listener):
    async with Peer() as peer:
        proxy = await engine.open(route(listener, peer.port), listener, lambda reason: None)
        async with client(port_of(listener)) as (_, heard):
            await heard.until(lambda: heard.data)
            peer.writer.write(b"x" * 300_000 + b"end")
            peer.writer.close()
            await heard.until(lambda: heard.closed)
            assert heard.data.endswith(b"xend")
            assert len(heard.data) == len(BANNER) + 300_003
            assert heard.closed[0] == 1000
        await proxy.close(SERVICE_RESTART, "test")


async def test_a_browser_that_leaves_hangs_up_at_the_desktop_after_its_last_bytes(engine, listener):
    async with Peer() as peer:
        peer.echo = False
        proxy = await engine.open(route(listener, peer.port), listener, lambda reason: None)
        async with client(port_of(listener)) as (socket, heard):
            await heard.until(lambda: heard.data)
            socket.send(picows.WSMsgType.BINARY, b"k" * 200_000)
            socket.send_close(1000)
            async with asyncio.timeout(5):
                await peer.gone.get()
        assert bytes(peer.received) == b"k" * 200_000
        await proxy.close(SERVICE_RESTART, "test")


async def test_after_close_nothing_is_served_and_the_socket_is_still_the_daemons(engine, listener):
    async with Peer() as peer:
        who = route(listener, peer.port)
        proxy = await engine.open(who, listener, lambda reason: None)
        async with client(port_of(listener)) as (_, heard):
            await heard.until(lambda: heard.data)
            await proxy.close(SERVICE_RESTART, "restarted by the organizers")
            async with asyncio.timeout(5):
                await heard.gone.wait()
        waiting = asyncio.ensure_future(connected(port_of(listener)))
        await asyncio.sleep(0.05)
        assert not waiting.done(), "a browser that comes meanwhile waits in the backlog"
        again = await engine.open(who, listener, lambda reason: None)
        async with asyncio.timeout(10):
            await waiting
        await again.close(SERVICE_RESTART, "test")


async def test_what_was_counted_is_the_callers_own_and_crosses_processes(engine, listener):
    async with Peer() as peer:
        proxy = await engine.open(route(listener, peer.port), listener, lambda reason: None)
        await connected(port_of(listener))
        before = engine.tally()
        assert Tally.from_json(json.loads(json.dumps(before.to_json()))) == before
        before.opened += 7
        assert engine.tally().opened in (0, before.opened - 7)
        await proxy.close(SERVICE_RESTART, "test")


async def soon(condition):
    """Workers tell what they count once a second."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def connected(port):
    async with client(port) as (_, heard):
        await heard.until(lambda: heard.data)


def guarded_route(listener, server):
    return dataclasses.replace(route(listener, server.port), guarded=True)


async def test_a_guarded_account_opens_for_those_who_are_admitted(guarding, listener):
    async with Vnc() as server:
        keeper = Keeper()
        proxy = await guarding.open(guarded_route(listener, server), listener, lambda *_: None, keeper)
        assert await status(port_of(listener)) == "403", "nobody was admitted"
        await guarding.admit({"ws01": {DIGEST: Mode.CONTROL}, "ws02": {OTHER_DIGEST: Mode.CONTROL}})
        assert await status(port_of(listener)) == "403"
        assert await status(port_of(listener), OTHER) == "403"
        assert not server.connections
        async with browser(port_of(listener)) as (socket, heard):
            await enter(socket, heard)
            assert bytes(heard.data) == INIT
            say(socket, b"typed")
            await server.until(lambda: server.received)
            await soon(lambda: proxy.traffic().delay > 0)
            await guarding.admit({"ws01": {}})
            await heard.until(lambda: heard.closed)
            assert heard.closed == (1008, "you were signed out")
        assert await status(port_of(listener), COOKIE) == "403", "it is so when the call has ended"
        assert keeper.asked[0] == b""
        assert len(keeper.asked) == 2
        await proxy.close(SERVICE_RESTART, "test")


async def test_who_only_watches_is_held_to_it(guarding, listener):
    async with Vnc() as server:
        await guarding.admit({"ws01": {DIGEST: Mode.VIEW}})
        proxy = await guarding.open(guarded_route(listener, server), listener, lambda *_: None, Keeper())
        async with browser(port_of(listener)) as (socket, heard):
            await enter(socket, heard)
            say(socket, bytes([4] * 8) + bytes([3] * 10))
            await server.until(lambda: server.received)
            assert bytes(server.received) == bytes([3] * 10)
        await proxy.close(SERVICE_RESTART, "test")


async def test_admissions_outlive_a_proxy_that_is_replaced(guarding, listener):
    async with Vnc() as server:
        await guarding.admit({"ws01": {DIGEST: Mode.CONTROL}})
        for _ in range(2):
            proxy = await guarding.open(guarded_route(listener, server), listener, lambda *_: None, Keeper())
            assert await status(port_of(listener), COOKIE) == "101"
            await proxy.close(SERVICE_RESTART, "test")


async def test_a_wrong_password_and_an_objection_are_told_apart(guarding, listener):
    told = asyncio.Queue()
    async with Vnc() as server:
        keeper = Keeper("wrong")
        await guarding.admit({"ws01": {DIGEST: Mode.CONTROL}})
        proxy = await guarding.open(
            guarded_route(listener, server), listener, lambda *each: told.put_nowait(each), keeper
        )
        async with browser(port_of(listener)) as (socket, heard):
            await enter(socket, heard)
            assert heard.closed == (1014, f"desktop 127.0.0.1:{server.port} refused the password")
        async with asyncio.timeout(30):
            assert (await told.get())[1] is Readiness.WRONG_PASSWORD
        for objection, code in (
            (DesktopError("wrong too often", Readiness.WRONG_PASSWORD), 1014),
            (DesktopError("come again", Readiness.UNKNOWN), 1012),
        ):
            keeper.objection = objection
            async with browser(port_of(listener)) as (socket, heard):
                await enter(socket, heard)
                assert heard.closed == (code, str(objection))
        assert server.connections == 1
        await proxy.close(SERVICE_RESTART, "test")


async def test_the_engine_that_lets_anybody_in_opens_no_guarded_account(listener):
    engine = Websockify(limits())
    await engine.admit({"ws01": {}})
    with pytest.raises(ProxyError, match="needs engine relay"):
        await engine.open(dataclasses.replace(route(listener, 1), guarded=True), listener, lambda *_: None)


async def status(port, cookie=""):
    """What a handshake is answered."""
    lines = [f"Cookie: {SESSION}={cookie}"] if cookie else []
    _, writer, head = await request(port, "Connection: Upgrade", *lines)
    writer.close()
    return head.split()[1]
