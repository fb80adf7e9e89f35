"""What every engine must do, on a real websocket and a real socket behind it."""

from __future__ import annotations

import asyncio
import json

import picows
import pytest

from tests.engines.desktop import BANNER, Peer, client, limits
from vncgate.engines import ENGINES
from vncgate.engines.base import SERVICE_RESTART
from vncgate.engines.pool import Pool
from vncgate.listeners import Forgetful, bind
from vncgate.model import Desktop, Route, Traffic
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
