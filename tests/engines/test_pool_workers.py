"""The Pool with real worker processes: what one that is killed or hangs costs, limits across workers, and the
hand-over to a next master. (test_pool.py has workers that are written down in the test, and no process.)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import resource
import signal
import time
from pathlib import Path

import picows
import pytest

from tests.engines.desktop import BANNER, client, limits
from vncgate import tasks
from vncgate.engines import pool
from vncgate.engines.base import SERVICE_RESTART
from vncgate.engines.pool import Pool
from vncgate.errors import ListenError, ProxyError
from vncgate.listeners import Forgetful, bind
from vncgate.model import Desktop, Route, WorkerState
from vncgate.nursery import Nursery
from vncgate.tally import End, Refusal

PATIENCE = 10.0
PATH = "/ws/path-ws01"


@pytest.fixture
def shared():
    with bind("127.0.0.1", 0, "test") as sock:
        yield sock


@pytest.fixture
def ports():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(bind("127.0.0.1", 0, "test")) for _ in range(4)]


@pytest.fixture
async def browsers():
    """A function that connects one more browser to a port; they stay until the end of the test, or `leave()`."""
    async with Browsers() as all_of_them:
        yield all_of_them


class Browsers(contextlib.AsyncExitStack):
    async def __call__(self, sock, path=PATH):
        transport, heard = await self.enter_async_context(client(port_of(sock), path))
        heard.transport = transport
        return heard

    leave = contextlib.AsyncExitStack.aclose


@contextlib.asynccontextmanager
async def running(nursery, shared, count=2, held_to=None, **more):
    """A Pool that serves."""
    engine = Pool(held_to or limits(max_connections=1000), count, keeper=Forgetful(), nursery=nursery, **more)
    try:
        await engine.start(shared)
        await engine.rest(on=False)
        yield engine
    finally:
        await engine.aclose()


def port_of(sock):
    return sock.getsockname()[1]


def route(peer, name="ws01", sock=None):
    return Route(name, Desktop("127.0.0.1", peer.port), f"path-{name}", port_of(sock) if sock else None)


def ignore(*told):
    pass


async def until(condition, seconds=PATIENCE):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def works(heard):
    """Whether what is typed comes back."""
    before = len(heard.data)
    heard.transport.send(picows.WSMsgType.BINARY, b"typed")
    await heard.until(lambda: heard.data[before:].endswith(b"typed"))


async def greeted(heard):
    await heard.until(lambda: heard.data.startswith(BANNER))


def busy(engine):
    """Connections by worker."""
    return {worker.pid: worker.connections for worker in engine.workers() if worker.pid}


def state(pid):
    """The letter of proc_pid_stat(5); none for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or after
        return ""


async def killed(pid):
    """Kill a process, and wait until it is dead: until then it may accept connections."""
    os.kill(pid, signal.SIGKILL)
    await until(lambda: state(pid) in ("", "Z"))


def stands_again(engine, without):
    """All places are taken, and none by process `without`."""
    serving = [worker for worker in engine.workers() if worker.state is WorkerState.SERVING]
    return len(serving) == 2 and without not in [worker.pid for worker in serving]


async def test_browsers_are_shared_out(nursery, shared, peer, browsers):
    async with running(nursery(), shared) as engine:
        await engine.open(route(peer), None, ignore)
        for _ in range(40):
            await greeted(await browsers(shared))
        await until(lambda: sum(busy(engine).values()) == 40)
        assert min(busy(engine).values()) >= 10
        await browsers.leave()


async def test_a_killed_worker_costs_its_own_sessions_and_no_count(nursery, shared, peer, browsers):
    async with running(nursery(), shared) as engine:
        proxy = await engine.open(route(peer), None, ignore)
        clients = [await browsers(shared) for _ in range(16)]
        for heard in clients:
            await works(heard)
        await until(lambda: proxy.traffic().bytes_up == 16 * len(b"typed") and engine.tally().opened == 16)
        victim, lost = min(busy(engine).items(), key=lambda item: item[1])
        assert 0 < lost < 16
        before = proxy.traffic()
        await killed(victim)
        late = await browsers(shared)
        await until(lambda: sum(heard.gone.is_set() for heard in clients) >= lost)
        alive = [heard for heard in clients if not heard.gone.is_set()]
        assert len(alive) == 16 - lost
        for heard in [*alive, late]:
            await works(heard)
        await until(lambda: stands_again(engine, victim))
        await until(lambda: proxy.traffic().connections == len(alive) + 1)
        await until(lambda: proxy.traffic().bytes_up == before.bytes_up + (len(alive) + 1) * len(b"typed"))
        await until(lambda: engine.tally().opened == 17)
        assert sorted(worker.restarts for worker in engine.workers()) == [0, 1]
        await browsers.leave()


async def test_the_ports_of_a_killed_worker_are_served_by_the_next(nursery, peer, browsers, ports):
    async with running(nursery(), None) as engine:
        for number, sock in enumerate(ports):
            await engine.open(route(peer, f"ws{number}", sock), sock, ignore)
        clients = [await browsers(sock, "/websockify") for sock in ports]
        await until(lambda: sorted(busy(engine).values()) == [2, 2])
        victim, other = busy(engine)
        await killed(victim)
        for sock in ports:  # at once: they wait in the backlog
            await works(await browsers(sock, "/websockify"))
        await until(lambda: sum(heard.gone.is_set() for heard in clients) == 2)
        await until(lambda: stands_again(engine, victim) and sum(busy(engine).values()) == 6)
        assert busy(engine)[other] == 4
        await browsers.leave()


async def test_an_account_that_is_opened_while_no_worker_stands_is_served_by_the_next(
    nursery, shared, peer, browsers, monkeypatch
):
    monkeypatch.setattr(pool, "delay_after", lambda deaths: 0.5)  # else the next one stands before it is looked
    async with running(nursery(), shared, count=1) as engine:
        await engine.open(route(peer, "ws02"), None, ignore)
        (victim,) = busy(engine)
        await killed(victim)
        await until(lambda: victim not in busy(engine))
        assert not busy(engine)
        waiting = tasks.spawn(browsers(shared), "a browser that waits")
        await engine.open(route(peer), None, ignore)
        async with asyncio.timeout(PATIENCE):
            await works(await waiting)
        await works(await browsers(shared, "/ws/path-ws02"))
        await browsers.leave()


async def test_a_worker_that_hangs_is_replaced(nursery, shared, peer, browsers, monkeypatch, caplog):
    monkeypatch.setattr(pool, "LOOK", 0.25)
    monkeypatch.setattr(pool, "HANG_TIMEOUT", 3.0)  # three heartbeats
    async with running(nursery(), shared) as engine:
        await engine.open(route(peer), None, ignore)
        clients = [await browsers(shared) for _ in range(12)]
        await until(lambda: sum(busy(engine).values()) == 12)
        victim = min(busy(engine), key=busy(engine).get)
        its = busy(engine)[victim]
        os.kill(victim, signal.SIGSTOP)
        await until(lambda: state(victim) == "T")
        await until(lambda: stands_again(engine, victim))
        assert f"worker {victim} hangs" in caplog.text
        await until(lambda: sum(heard.gone.is_set() for heard in clients) == its)
        for heard in clients:
            if not heard.gone.is_set():
                await works(heard)
        await works(await browsers(shared))
        await browsers.leave()


async def test_an_account_has_no_more_connections_in_all_workers_than_it_may(
    nursery, shared, peer, browsers, monkeypatch
):
    monkeypatch.setattr(pool, "UNEVEN", 0)  # so that six are enough for both workers to have some
    async with running(nursery(), shared, held_to=limits(max_connections=6)) as engine:
        proxy = await engine.open(route(peer), None, ignore)
        for number in range(1, 7):
            await greeted(await browsers(shared))
            await until(lambda: proxy.traffic().connections == number)  # noqa: B023
            await asyncio.sleep(0.05)  # a worker that was told to rest has its moment to do so
        await until(lambda: proxy.traffic().connections == 6 and min(busy(engine).values()) > 0)
        await no_more(engine, shared, 12)
        victim, elder = sorted(busy(engine), key=busy(engine).get)
        await killed(victim)
        await until(lambda: stands_again(engine, victim))
        while proxy.traffic().connections < 6:  # the next one knows what the elder has
            connections = proxy.traffic().connections
            await greeted(await browsers(shared))
            await until(lambda: proxy.traffic().connections > connections)  # noqa: B023
        os.kill(elder, signal.SIGSTOP)
        try:
            await until(lambda: state(elder) == "T")
            await no_more(engine, shared, 1)
        finally:
            os.kill(elder, signal.SIGCONT)
        await browsers.leave()


async def no_more(engine, shared, attempts):
    before = engine.tally().refused[Refusal.CONNECTIONS]
    for _ in range(attempts):
        with pytest.raises(picows.WSInvalidStatusError, match="503"):
            async with asyncio.timeout(PATIENCE), client(port_of(shared), PATH):
                pass
    await until(lambda: engine.tally().refused[Refusal.CONNECTIONS] == before + attempts)


async def test_a_worker_out_of_descriptors_says_so_and_serves_nothing_by_halves(nursery, peer, browsers, ports):
    own = ports[0]
    async with running(nursery(), None, count=1) as engine:
        (pid,) = busy(engine)
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        with pytest.raises(ProxyError, match=f"port {port_of(own)} cannot be served: .* no file descriptors left"):
            await engine.open(route(peer, sock=own), own, ignore)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        await engine.open(route(peer, sock=own), own, ignore)
        await works(await browsers(own, "/websockify"))
        await browsers.leave()


async def test_while_it_rests_browsers_wait(nursery, shared, peer, browsers):
    async with running(nursery(), shared) as engine:
        await engine.open(route(peer), None, ignore)
        await works(await browsers(shared))
        await engine.rest(on=True)
        await engine.open(route(peer, "ws02"), None, ignore)  # answered after that
        waiting = [tasks.spawn(browsers(shared, "/ws/path-ws02"), "a browser that waits") for _ in range(3)]
        await engine.open(route(peer, "ws03"), None, ignore)
        assert not any(task.done() for task in waiting)
        await engine.rest(on=False)
        async with asyncio.timeout(PATIENCE):
            for heard in await asyncio.gather(*waiting):
                await works(heard)
        await browsers.leave()


async def test_a_killed_nursery_is_replaced_when_a_worker_is_needed(shared, peer, browsers):
    async with running(await Nursery.execute(), shared, count=1) as engine:
        await engine.open(route(peer), None, ignore)
        (pid,) = busy(engine)
        status = Path(f"/proc/{pid}/status").read_text()
        os.kill(int(status.partition("PPid:")[2].split()[0]), signal.SIGKILL)
        await works(await browsers(shared))
        await killed(pid)
        await works(await browsers(shared))
        await browsers.leave()


async def test_desktops_that_cannot_be_reached_are_suspects(nursery, shared, browsers, free_port):
    class Nobody:
        port = free_port()

    suspected = asyncio.Queue()
    async with running(nursery(), shared) as engine:
        await engine.open(route(Nobody), None, lambda *told: suspected.put_nowait(told[0]))
        heard = await browsers(shared)
        async with asyncio.timeout(PATIENCE):
            assert "refused the connection" in await suspected.get()
        await heard.until(lambda: heard.closed)
        await until(lambda: engine.tally().ended[End.DESKTOP_UNREACHABLE] == 1)
        await browsers.leave()


@contextlib.asynccontextmanager
async def succession(old, nursery, shared, **more):
    """A Pool that adopts the workers of `old`, whose process is gone by then: it has become the next one."""
    sockets = {int(name.partition("-")[2]): sock.dup() for name, sock in old.channels().items()}
    await tasks.end(*old._tasks)
    for member in (*old._members, *old._adopted):
        member.channel.close()  # this duplicate of it: the workers hear nothing
    async with running(nursery, shared, adopted=sockets, **more) as engine:
        yield engine


@contextlib.asynccontextmanager
async def two_masters(nursery, shared, peer, browsers, *names, **more):
    """A Pool whose workers were adopted, with a browser for each account, which it does not have yet."""
    async with running(nursery(), shared) as old:
        heard = {}
        for name in names:
            await old.open(route(peer, name), None, ignore)
            heard[name] = await browsers(shared, f"/ws/path-{name}")
            await works(heard[name])
        await until(lambda: old.tally().opened == len(names) and sum(busy(old).values()) == len(names))
        async with succession(old, nursery(), shared, counted=old.lost, **more) as engine:
            yield engine, heard


def draining(engine):
    return [worker for worker in engine.workers() if worker.state is WorkerState.DRAINING]


async def test_adopted_workers_keep_their_desktops_and_end_with_the_last(nursery, shared, peer, browsers):
    async with two_masters(nursery, shared, peer, browsers, "ws01", "ws02") as (engine, heard):
        elders = {worker.pid for worker in draining(engine)}
        assert len(elders) == 2
        proxy = await engine.open(route(peer), None, ignore)
        await engine.open(route(peer, "ws02"), None, ignore)
        await engine.settled(["ws01", "ws02"])
        for each in heard.values():
            await works(each)
        await until(lambda: proxy.traffic().connections == 1)
        # An elder without a desktop ends, and then none of them accepts any more.
        await until(lambda: sum(worker.connections for worker in draining(engine)) == 2)
        async with Browsers() as late:
            await works(await late(shared))
            await until(lambda: engine.tally().opened == 3)
            await browsers.leave()
            await until(lambda: not draining(engine))
            assert not elders & set(busy(engine))
            assert engine.tally().opened == 3, "what they counted stays counted"
            await until(lambda: proxy.traffic().bytes_up == 3 * len(b"typed"))
            assert proxy.traffic().connections == 1


async def test_drain_timeout_ends_the_last_desktops(nursery, shared, peer, browsers):
    async with two_masters(nursery, shared, peer, browsers, "ws01", drain_timeout=0.2) as (engine, heard):
        await engine.open(route(peer), None, ignore)
        await engine.settled(["ws01"])
        await heard["ws01"].until(lambda: heard["ws01"].closed)
        assert heard["ws01"].closed == (1001, "the gate was renewed: connect again")
        await until(lambda: not draining(engine))
        await browsers.leave()


async def test_use_is_told_by_workers_and_by_those_that_were_adopted(nursery, shared, peer, browsers):
    watched = dataclasses.replace(route(peer), watch_input=True)
    async with running(nursery(), shared) as old:
        proxy = await old.open(watched, None, ignore)
        heard = await browsers(shared)
        heard.transport.send(picows.WSMsgType.BINARY, b"RFB 003.008\n\x01\x01")
        await until(lambda: proxy.traffic().bytes_up == 14)
        assert proxy.traffic().used == 0.0
        before = time.monotonic()
        heard.transport.send(picows.WSMsgType.BINARY, b"\x04\x01\0\0\0\0\0a")
        await until(lambda: proxy.traffic().used)
        used = proxy.traffic().used
        assert before <= used <= time.monotonic()
        async with succession(old, nursery(), shared, counted=old.lost) as engine:
            proxy = await engine.open(watched, None, ignore)
            await engine.settled(["ws01"])
            await until(lambda: proxy.traffic().used == used)
            assert heard.closed is None
            await browsers.leave()
            await until(lambda: not draining(engine))
            assert proxy.traffic().used == used


async def test_accounts_that_went_or_moved_meanwhile_are_ended(nursery, shared, peer, browsers):
    async with two_masters(nursery, shared, peer, browsers, "ws01", "ws02", "ws03") as (engine, heard):
        await engine.open(route(peer), None, ignore)
        await engine.open(Route("ws02", Desktop("127.0.0.2", peer.port), "path-ws02", None), None, ignore)
        await engine.settled(["ws01", "ws02"])
        await heard["ws02"].until(lambda: heard["ws02"].closed)
        await heard["ws03"].until(lambda: heard["ws03"].closed)
        assert heard["ws02"].closed == (1012, "the desktop moved")
        assert heard["ws03"].closed == (1008, "the account was removed")
        await works(heard["ws01"])
        await browsers.leave()


async def test_an_account_that_is_closed_is_closed_in_adopted_workers_too(nursery, shared, peer, browsers):
    async with two_masters(nursery, shared, peer, browsers, "ws01") as (engine, heard):
        proxy = await engine.open(route(peer), None, ignore)
        await engine.settled(["ws01"])
        await proxy.close(SERVICE_RESTART, "restarted by the organizers")
        await heard["ws01"].until(lambda: heard["ws01"].closed)
        assert heard["ws01"].closed == (1012, "restarted by the organizers")
        await browsers.leave()


async def test_workers_whose_master_died_leave_the_ports_to_the_next(nursery, peer, free_port, browsers):
    """Also when it dies while accounts are still being opened."""
    shared, own = bind("127.0.0.1", 0, "test"), bind("127.0.0.1", 0, "test")
    addresses = [("127.0.0.1", port_of(shared)), ("127.0.0.1", port_of(own))]
    async with running(nursery(), shared) as engine:
        await engine.open(route(peer), None, ignore)
        heard = await browsers(shared)
        await works(heard)
        orphans = list(busy(engine))
        opening = tasks.spawn(engine.open(route(peer, "ws02", own), own, ignore), "an account that is being opened")
        await asyncio.sleep(0)
        await tasks.end(*engine._tasks)
        for member in engine._members:
            member.channel.close()
            member.end()
        await opening
    shared.close()
    own.close()
    for address in addresses:
        await until(lambda: can_be_bound(*address))  # noqa: B023
    await works(heard)
    await browsers.leave()
    for pid in orphans:
        await until(lambda: not state(pid))  # noqa: B023


def can_be_bound(address, port):
    try:
        bind(address, port, "the next master").close()
    except ListenError:
        return False
    return True
