"""Many workers behind one Engine: who serves what, who is told what, and what a worker's end leads to.

The workers here are written down in the test, and their nursery is a stand-in: time is virtual, and no process starts.
tests/engines/test_contract.py and tests/test_workers.py have real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os

import pytest

from tests.engines.desktop import limits
from vncgate.channel import Channel, pair
from vncgate.engines import pool
from vncgate.engines.base import POLICY, SERVICE_RESTART
from vncgate.engines.pool import Pool, delay_after
from vncgate.errors import ProxyError
from vncgate.listeners import Forgetful, bind
from vncgate.messages import (
    Admit,
    Admitted,
    Begin,
    Close,
    Closed,
    Drain,
    Elsewhere,
    Failed,
    Holds,
    Leave,
    Left,
    Open,
    Opened,
    Ready,
    Report,
    Rest,
    Stop,
    route_to_json,
)
from vncgate.model import Desktop, Route, WorkerState

pytestmark = pytest.mark.virtual_time

PIDS = range(2**22, 2**31)  # above all that Linux gives: nobody is hurt


class Puppet:
    """A worker's end of a channel: it answers as a worker would, and keeps what it heard."""

    def __init__(self, sock, pid, willing=True):
        self.pid = pid
        self.heard = []
        self.listens = set()
        self.refuses = ""
        self.beats = None
        self.willing = willing
        self.admits = True
        self.channel = Channel(sock, self._receive, self.die)
        if willing:
            self.channel.send(Ready(pid, "1.2.3", 0.0))
            self.beats = asyncio.ensure_future(self._beat())

    def _receive(self, message, beside):
        self.heard.append(message)
        match message:
            case Open():
                if beside is not None:
                    self.listens.add(message.route["name"])
                failed = Failed(message.ticket, self.refuses)
                self.channel.send(failed if self.refuses else Opened(message.ticket))
            case Close():
                self.listens.discard(message.name)
                self.channel.send(Closed(message.ticket))
            case Leave() if self.willing:
                self.channel.send(Left(message.ticket))
            case Admit() if not message.more and self.admits and self.willing:
                self.channel.send(Admitted(message.ticket))
            case Stop():
                self.die()
        if beside is not None:
            beside.close()

    async def _beat(self):
        while True:
            await asyncio.sleep(1.0)
            self.channel.send(Report(0, {}))

    def report(self, used=None, **connections):
        """It has so many connections to these accounts."""
        traffic = {name: (n, 7, 9) for name, n in connections.items()}
        self.channel.send(Report(sum(connections.values()), traffic, None, used or {}))

    def told(self, kind):
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def rests(self):
        return self.told(Rest)[-1].on

    @property
    def elsewhere(self):
        known = {}
        for message in self.told(Elsewhere):
            known |= message.connections
        return known

    def hang(self):
        self.willing = False
        self.beats.cancel()

    def die(self):
        if self.beats:
            self.beats.cancel()
        self.channel.close()


class Nursery:
    """In place of the real one: its workers are puppets."""

    def __init__(self):
        self.puppets = []
        self.started = []
        self.pids = iter(PIDS)
        self.willing = True
        self.trouble = None
        self.closed = False

    def listen(self, ended, gone):
        self.gone = gone

    def start(self):
        self.started.append(asyncio.get_running_loop().time())
        if self.trouble:
            raise self.trouble
        ours, theirs = pair()
        self.puppets.append(Puppet(theirs, next(self.pids), self.willing))
        return ours

    def close(self):
        self.closed = True


class Keeper(Forgetful):
    def __init__(self):
        self.kept = set()

    def keep(self, name, sock):
        self.kept.add(name)

    def forget(self, name):
        self.kept.discard(name)


@pytest.fixture
def nursery():
    return Nursery()


@pytest.fixture
def keeper():
    return Keeper()


@pytest.fixture
async def two(nursery, keeper):
    """A pool of two workers, which serves."""
    async with running(nursery, keeper) as engine:
        yield engine


@contextlib.asynccontextmanager
async def running(nursery, keeper, count=2, **more):
    engine = Pool(limits(), count, keeper=keeper, nursery=nursery, **more)
    await engine.start(None)
    await engine.rest(on=False)
    try:
        yield engine
    finally:
        await engine.aclose()
        for puppet in nursery.puppets:
            puppet.die()


@pytest.fixture
def sockets():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(bind("127.0.0.1", 0, "test")) for _ in range(6)]


def route(number, port=None):
    return Route(f"ws{number}", Desktop("127.0.0.1", 5900 + number), f"path{number}", port)


def ignore(*told):
    pass


async def moment():
    """Let messages travel."""
    await asyncio.sleep(0.01)


async def test_an_account_is_opened_everywhere_and_its_own_port_in_one_place(two, nursery, sockets):
    for number, sock in enumerate(sockets):
        await two.open(route(number, 7000 + number), sock, ignore)
    one, other = nursery.puppets
    assert len(one.told(Open)) == len(other.told(Open)) == 6
    assert len(one.listens) == len(other.listens) == 3
    assert not one.listens & other.listens


async def test_every_port_of_a_worker_that_died_is_the_next_ones(two, nursery, sockets):
    proxies = [await two.open(route(number, 7000 + number), sock, ignore) for number, sock in enumerate(sockets)]
    dead, alive = nursery.puppets
    few = sorted(alive.listens)[:2]  # the survivor has fewer ports than the next one takes over
    for proxy in proxies:
        if proxy.route.name in few:
            await proxy.close(POLICY, "test")
    lost, kept = set(dead.listens), set(alive.listens)
    dead.die()
    await moment()
    newcomer = nursery.puppets[2]
    assert newcomer.listens == lost
    assert alive.listens == kept
    assert len(newcomer.told(Open)) == 4


async def test_with_no_worker_at_all_accounts_wait_for_the_next(nursery, keeper, sockets):
    async with running(nursery, keeper, count=1) as engine:
        for _ in range(2):  # the second one is waited for
            nursery.puppets[-1].die()
            await moment()
        assert engine.workers()[0].state is WorkerState.STARTING
        await engine.open(route(1, 7001), sockets[0], ignore)
        await asyncio.sleep(1.1)
        assert nursery.puppets[2].listens == {"ws1"}


async def test_a_worker_that_fails_to_open_an_account_fails_it_everywhere(two, nursery):
    nursery.puppets[1].refuses = "no file descriptors left"
    with pytest.raises(ProxyError, match="no file descriptors left"):
        await two.open(route(1), None, ignore)
    await moment()
    assert [message.name for message in nursery.puppets[0].told(Close)] == ["ws1"]
    nursery.puppets[1].refuses = ""
    await two.open(route(1), None, ignore)


async def test_one_that_dies_while_it_is_asked_does_not_keep_an_account_from_being_served(two, nursery):
    nursery.puppets[1]._receive = lambda *_: nursery.puppets[1].die()
    nursery.puppets[1].channel._receive = nursery.puppets[1]._receive
    async with asyncio.timeout(1):
        await two.open(route(1), None, ignore)
    await moment()
    assert len(nursery.puppets[2].told(Open)) == 1


async def test_what_an_account_has_elsewhere(two, nursery):
    await two.open(route(1), None, ignore)
    one, other = nursery.puppets
    one.report(ws1=3)
    await moment()
    assert (one.elsewhere, other.elsewhere) == ({}, {"ws1": 3})
    other.report(ws1=1)
    await moment()
    assert one.elsewhere == {"ws1": 1}
    assert two.traffic("ws1").connections == 4
    one.die()
    await moment()
    assert other.elsewhere == {"ws1": 0}
    assert nursery.puppets[2].elsewhere == {"ws1": 1}


async def test_the_only_worker_hears_that_those_before_it_are_gone(nursery, keeper):
    ours, theirs = pair()
    old = Puppet(theirs, next(nursery.pids))
    async with running(nursery, keeper, count=1, adopted={old.pid: ours}) as engine:
        await engine.open(route(1), None, ignore)
        old.report(ws1=5)
        await moment()
        assert nursery.puppets[0].elsewhere == {"ws1": 5}
        old.die()
        await moment()
        assert nursery.puppets[0].elsewhere == {"ws1": 0}


async def test_bytes_are_counted_on_when_a_worker_dies_and_forgotten_when_an_account_is_closed(two, nursery):
    proxy = await two.open(route(1), None, ignore)
    for puppet in nursery.puppets:
        puppet.report(ws1=1)
    await moment()
    nursery.puppets[0].die()
    await moment()
    traffic = proxy.traffic()
    assert (traffic.connections, traffic.bytes_up, traffic.bytes_down) == (1, 14, 18)
    await proxy.close(SERVICE_RESTART, "test")
    await moment()
    again = await two.open(route(1), None, ignore)
    assert (again.traffic().connections, again.traffic().bytes_up) == (0, 0)


async def test_the_last_use_is_that_in_any_worker_also_one_that_is_gone(two, nursery):
    proxy = await two.open(route(1), None, ignore)
    one, other = nursery.puppets
    await asyncio.sleep(50)
    one.report(used={"ws1": 30.0}, ws1=1)
    other.report(used={"ws1": 20.0}, ws1=1)
    await moment()
    assert proxy.traffic().used == 30.0
    one.report(ws1=0)
    await moment()
    assert proxy.traffic().used == 30.0, "it went, and that was not unsaid"
    one.die()
    await moment()
    assert proxy.traffic().used == 30.0
    other.report(used={"ws1": 40.0}, ws1=1)
    await moment()
    assert proxy.traffic().used == 40.0
    await proxy.close(SERVICE_RESTART, "test")
    assert (await two.open(route(1), None, ignore)).traffic().used == 0.0


@pytest.mark.parametrize("used", [1e12, float("inf"), float("nan")])
async def test_no_worker_makes_a_desktop_used_for_ever(two, nursery, used):
    proxy = await two.open(route(1), None, ignore)
    await asyncio.sleep(50)
    nursery.puppets[0].report(used={"ws1": used}, ws1=1)
    await moment()
    assert 50 <= proxy.traffic().used <= asyncio.get_running_loop().time()


async def test_who_has_more_connections_leaves_the_shared_port_to_others(two, nursery):
    await two.open(route(1), None, ignore)
    one, other = nursery.puppets
    assert (one.rests, other.rests) == (False, False)
    one.report(ws1=pool.UNEVEN)
    await moment()
    assert not one.rests
    one.report(ws1=pool.UNEVEN + 1)
    await moment()
    assert (one.rests, other.rests) == (True, False)
    other.die()  # whoever is left accepts again, at once
    await moment()
    assert nursery.puppets[2].rests is False
    await two.rest(on=True)
    await moment()
    assert all(puppet.rests for puppet in (one, nursery.puppets[2]))


async def test_before_the_end_all_workers_leave_their_ports_and_who_hangs_is_not_waited_for(two, nursery):
    loop = asyncio.get_running_loop()
    began = loop.time()
    await two.rest(on=True)
    assert loop.time() == began
    one, other = nursery.puppets
    other.hang()
    await two.rest(on=True)
    assert loop.time() == pytest.approx(began + pool.LEAVE_TIMEOUT)
    assert (len(one.told(Leave)), len(other.told(Leave))) == (2, 2)


async def test_a_hanging_worker_is_not_waited_for_and_then_replaced(two, nursery, caplog):
    one, other = nursery.puppets
    other.report(ws1=50)
    await moment()
    assert other.rests
    one.hang()
    await asyncio.sleep(pool.LATE + pool.LOOK + 0.1)
    other.report(ws1=50)
    await moment()
    assert not other.rests
    assert len(nursery.puppets) == 2
    await asyncio.sleep(pool.HANG_TIMEOUT)
    assert len(nursery.puppets) == 3
    assert f"worker {one.pid} hangs" in caplog.text
    assert other.pid in [worker.pid for worker in two.workers()]


async def test_a_master_that_was_held_up_judges_nobody(two, nursery):
    loop = asyncio.get_running_loop()
    for puppet in nursery.puppets:
        puppet.hang()
    await asyncio.sleep(pool.HANG_TIMEOUT - 1)
    loop._now += 100  # SIGSTOP and SIGCONT
    await asyncio.sleep(pool.LOOK + 0.1)
    for puppet in nursery.puppets:
        puppet.report()
    await asyncio.sleep(pool.LOOK + 0.1)
    assert len(nursery.puppets) == 2


def test_delays():
    assert [delay_after(deaths) for deaths in (1, 2, 3, 4, 5, 6, 7, 8, 1000)] == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(
    "nonsense",
    [
        Report("many", {}),
        Report(1, {"ws1": ["x", "y", "z"]}),
        Report(1, {"ws1": 7}),
        Report(1, {}, {"opened": "no number"}),
        Report(1, {"ws1": (1, 7, 9)}, None, {"ws1": "now"}),
        Report(1, {"ws1": (1, 7, 9)}, None, 7),
        Ready("no number", "1.2.3", 0.0),
    ],
    ids=repr,
)
async def test_a_worker_that_says_what_makes_no_sense_is_replaced(two, nursery, nonsense, monkeypatch, caplog):
    monkeypatch.setattr("os.kill", lambda pid, number: None)  # puppets have no process
    nursery.puppets[0].channel.send(nonsense)
    await moment()
    await moment()
    assert "says what makes no sense" in caplog.text
    assert [worker.state for worker in two.workers()] == [WorkerState.SERVING] * 2
    assert len(nursery.puppets) == 3


async def test_a_crash_loop_backs_off_and_a_long_life_ends_it(nursery, keeper, caplog):
    async with running(nursery, keeper, count=1) as engine:
        for delay in (0, 0.5, 1, 2):
            nursery.puppets[-1].die()
            before = asyncio.get_running_loop().time()
            await asyncio.sleep(delay + 0.1)
            assert nursery.started[-1] - before == pytest.approx(delay, abs=0.05)
        assert engine.workers()[0].restarts == 4
        assert "another is started in 2 s" in caplog.text
        await asyncio.sleep(pool.WELL)
        nursery.puppets[-1].die()
        await moment()
        assert len(nursery.puppets) == 6


async def test_workers_that_cannot_be_started_are_tried_again(two, nursery, caplog):
    nursery.trouble = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    nursery.puppets[0].die()
    await asyncio.sleep(2)
    assert "worker cannot be started: Too many open files" in caplog.text
    nursery.trouble = None
    await asyncio.sleep(5)
    assert [worker.state for worker in two.workers()] == [WorkerState.SERVING] * 2


async def test_a_lack_of_descriptors_when_a_worker_is_given_its_accounts_costs_no_place(
    two, nursery, keeper, monkeypatch, caplog
):
    real, full = Channel.send, [True]

    def send(channel, message, beside=None):
        if isinstance(message, Begin) and full:
            full.clear()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        real(channel, message, beside)

    monkeypatch.setattr(Channel, "send", send)
    nursery.puppets[0].die()
    await asyncio.sleep(2)
    assert "worker cannot be started: Too many open files" in caplog.text
    assert [worker.state for worker in two.workers()] == [WorkerState.SERVING] * 2
    assert keeper.kept == {f"worker-{worker.pid}" for worker in two.workers()}


async def test_without_a_single_worker_there_is_no_pool(nursery, keeper):
    nursery.trouble = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    engine = Pool(limits(), 2, keeper=keeper, nursery=nursery)
    with pytest.raises(ProxyError, match="no worker process can be started"):
        await engine.start(None)
    await engine.aclose()


async def test_a_master_that_cannot_begin_leaves_the_workers_before_it_their_desktops(nursery, keeper):
    ours, theirs = pair()
    old = Puppet(theirs, next(nursery.pids))
    keeper.keep(f"worker-{old.pid}", ours)
    nursery.trouble = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    engine = Pool(limits(), 1, keeper=keeper, nursery=nursery, adopted={old.pid: ours})
    with pytest.raises(ProxyError):
        await engine.start(None)
    await engine.aclose()
    await moment()
    assert not old.told(Stop)
    assert not old.channel._open, "it is told by the channel's end, where nobody keeps that"
    assert keeper.kept == {f"worker-{old.pid}"}


async def test_a_nursery_that_hangs_is_given_up(nursery, keeper, monkeypatch, caplog):
    other = Nursery()

    async def execute():
        return other

    monkeypatch.setattr(pool.Nursery, "execute", execute)
    nursery.willing = False
    engine = Pool(limits(), 1, keeper=keeper, nursery=nursery)
    starting = asyncio.ensure_future(engine.start(None))
    await asyncio.sleep(pool.START_TIMEOUT + 1)
    with pytest.raises(ProxyError):
        await starting
    assert nursery.closed
    assert "was not ready within 10 s" in caplog.text
    await asyncio.sleep(2)
    assert [worker.state for worker in engine.workers()] == [WorkerState.SERVING]
    await engine.aclose()
    for puppet in (*nursery.puppets, *other.puppets):
        puppet.die()


async def test_adopted_workers_serve_until_the_roster_stands_and_then_drain(nursery, keeper):
    ours, theirs = pair()
    old = Puppet(theirs, next(nursery.pids), willing=False)
    async with running(nursery, keeper, adopted={old.pid: ours}, drain_timeout=7.0) as engine:
        routes = [route(1), route(2), route(3)]
        old.channel.send(Holds([route_to_json(each) for each in routes]))
        old.channel.send(Report(3, {f"ws{n}": (1, 7, 9) for n in (1, 2, 3)}))
        old.channel.send(Ready(old.pid, "1.2.2", 0.0))
        stays = await engine.open(route(1), None, ignore)
        moved = Route("ws2", Desktop("127.0.0.1", 1), "path2", None)
        await engine.open(moved, None, ignore)
        assert not old.told(Drain)
        await engine.settled(["ws1", "ws2"])
        await moment()
        assert [(each.name, each.code, each.reason) for each in old.told(Close)] == [
            ("ws2", 1012, "the desktop moved"),
            ("ws3", 1008, "the account was removed"),
        ]
        assert old.told(Drain) == [Drain(7.0)]
        assert engine.workers()[-1].state is WorkerState.DRAINING
        assert engine.workers()[-1].version == "1.2.2"
        assert stays.traffic().connections == 1
        await stays.close(POLICY, "stopped")
        assert [each.name for each in old.told(Close)][-1] == "ws1"
        old.die()
        await moment()
        assert [worker.state for worker in engine.workers()] == [WorkerState.SERVING] * 2


async def test_adopted_workers_that_end_or_hang_keep_no_other_from_draining(nursery, keeper):
    ends = [pair() for _ in range(3)]
    hangs, dies, well = (Puppet(theirs, next(nursery.pids), willing=False) for _, theirs in ends)
    adopted = {puppet.pid: ours for puppet, (ours, _) in zip((hangs, dies, well), ends, strict=True)}
    async with running(nursery, keeper, adopted=adopted) as engine:
        well.channel.send(Ready(well.pid, "1.2.2", 0.0))
        settling = asyncio.ensure_future(engine.settled([]))
        await moment()
        assert well.told(Drain)
        dies.die()
        await asyncio.sleep(pool.HANG_TIMEOUT + pool.LOOK + 1)
        await settling
        assert [worker.pid for worker in engine.workers() if worker.state is WorkerState.DRAINING] == []
    hangs.die()
    well.die()


async def test_the_end_is_told_and_nothing_is_kept(nursery, keeper):
    async with running(nursery, keeper) as engine:
        assert len(keeper.kept) == 2
        assert set(engine.channels()) == keeper.kept
    assert [len(puppet.told(Stop)) for puppet in nursery.puppets] == [1, 1]
    assert not keeper.kept
    assert nursery.closed
