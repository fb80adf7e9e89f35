"""The relay in worker processes, each with a loop and a core of its own: one Engine to the supervisor.

Every worker serves every account on the shared port; an account's own port is one worker's. A worker that ends, or is
silent for `HANG_TIMEOUT`, costs its own connections only: another takes its place and its accounts, and what connects
meanwhile waits in the backlogs. Workers of the master before this one (`adopted`) serve until `settled()`, and drain.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import socket
from collections.abc import Collection, Mapping, Sequence

from vncgate import tasks
from vncgate.engines.base import (
    GOING_AWAY,
    POLICY,
    SERVICE_RESTART,
    Admissions,
    Limits,
    Login,
    Suspect,
    no_login,
)
from vncgate.engines.member import Member
from vncgate.engines.pool_proxy import PoolProxy
from vncgate.errors import DesktopError, ProxyError
from vncgate.listeners import Keeper
from vncgate.messages import MOST_ACCOUNTS, Adopt, Begin, Challenge, Drain, Elsewhere, Failed, Rest, Stop
from vncgate.model import Readiness, Route, Traffic, WorkerState, WorkerStatus
from vncgate.nursery import Nursery
from vncgate.people import Mode
from vncgate.tally import End, Tally

log = logging.getLogger(__name__)

START_TIMEOUT = 10.0
"""Seconds that a worker has until it is ready; it takes 0.05."""
LEAVE_TIMEOUT = 0.4
"""Seconds that workers have, before all is stopped, to connect whom they accepted: relay.ACCEPTED_GRACE, and a bit."""
OPEN_TIMEOUT = 3.0
"""Seconds that workers have to serve an account before it is said to run without the one that is late."""
ADMIT_TIMEOUT = 3.0
"""Seconds that workers have to follow a change of who may open guarded accounts, before it is said to be late."""
END_TIMEOUT = 1.0
"""Seconds that a worker has to end when all is being stopped, and its accounts are closed already."""
LOOK = 1.0
"""Seconds between two looks at who was silent for how long."""
HANG_TIMEOUT = 10.0
"""Seconds of silence after which a worker is ended: a heartbeat is due every second, also under full load."""
LATE = 2.5
"""Seconds of silence after which connections are shared out as if a worker were not there."""
LONGEST_DELAY = 30.0
"""Seconds that a crash loop waits at most for its next worker."""
WELL = 60.0
"""Seconds after which a worker that ends is the first of its kind again."""
UNEVEN = 4
"""Connections that a worker may have more than the least busy one, beside an eighth of what that one has."""


def delay_after(deaths: int) -> float:
    """Seconds to wait after the `deaths`th end in a row: none after the first, then 0.5, 1, 2 ... LONGEST_DELAY."""
    return 0.0 if deaths <= 1 else min(LONGEST_DELAY, 0.5 * 2.0 ** min(deaths - 2, 30))


class Pool:
    """The engine. It keeps `count` workers, forked by `nursery`, or by a new one where there is none (any more).

    `adopted` are channels to workers by their process numbers. Each channel is left with `keeper`, under the name
    `worker-PID`, for the master after this one. `counted`, and `passed` by account (bytes up, down), is what went
    through workers of the master before that are gone.
    """

    def __init__(
        self,
        limits: Limits,
        count: int,
        *,
        keeper: Keeper,
        nursery: Nursery | None = None,
        adopted: Mapping[int, socket.socket] | None = None,
        counted: Tally | None = None,
        passed: Mapping[str, Sequence[int]] | None = None,
        drain_timeout: float = 0.0,
        log_level: str = "info",
    ) -> None:
        each = dataclasses.replace(limits, handshakes=max(1, limits.handshakes // count))
        self._begin = Begin(dataclasses.asdict(each), drain_timeout, log_level)
        self._keeper = keeper
        self._nursery = nursery
        self._hatching = asyncio.Lock()
        self._to_adopt = dict(adopted or {})
        self._slots = [_Slot() for _ in range(count)]
        self._members: list[Member] = []
        self._adopted: list[Member] = []
        self._proxies: dict[str, PoolProxy] = {}
        self._admissions: dict[str, Mapping[str, Mode]] = {}
        self._unanswered: list[tuple[Member, Challenge]] = []
        self._answering: set[asyncio.Task[None]] = set()
        self._shared: socket.socket | None = None
        self._resting = True
        self.lost = counted or Tally()
        """What workers that are gone had counted."""
        self._passed = dict(passed or {})
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, shared: socket.socket | None) -> None:
        """See Engine.start. Ends when the first worker of each place stands; raises ProxyError when none does.

        Then adopted workers are left as they are: their channels may be kept for yet another master; else they drain.
        """
        self._shared = shared
        self._adopt()
        for member in self._adopted:
            member.channel.send(Adopt())
            self._tasks.append(tasks.spawn(self._see_off(member), f"worker {member.pid}, draining"))
        if self._nursery is not None:
            self._nursery.listen(self._fate, self._nursery_gone)
        self._tasks += [tasks.spawn(self._keep(slot), f"worker {n}") for n, slot in enumerate(self._slots, 1)]
        self._tasks.append(tasks.spawn(self._watch(), "watch workers"))
        await asyncio.gather(*(slot.tried.wait() for slot in self._slots))
        if not self._members:
            for member in self._adopted:
                member.channel.close()
            self._adopted.clear()
            raise ProxyError("no worker process can be started; the log says why (`workers = 0` does without)")

    async def open(
        self, route: Route, listener: socket.socket | None, suspect: Suspect, login: Login = no_login
    ) -> PoolProxy:
        """See Engine.open. While there is no worker, the account waits for the next one."""
        if route.name in self._proxies:
            raise ProxyError(f"account {route.name} is served already")
        proxy = self._proxies[route.name] = PoolProxy(self, route, listener, suspect, login)
        proxy.keep(*self._passed.pop(route.name, (0, 0)))
        if self._members:
            _own(min(self._members, key=lambda member: member.own_ports), proxy)
        try:
            if answers := [_open_on(member, proxy) for member in self._members]:
                answered, late = await asyncio.wait(answers, timeout=OPEN_TIMEOUT)
                for answer in late:  # of a worker that hangs, or is overrun: the others serve
                    answer.add_done_callback(functools.partial(self._opened_late, proxy))
                for answer in answered:
                    if isinstance(failed := answer.result(), Failed):
                        raise ProxyError(failed.reason)
        except BaseException:
            self.let_go(proxy, SERVICE_RESTART, "the account could not be served")
            raise
        return proxy

    async def rest(self, *, on: bool) -> None:
        """See Engine.rest. Adopted workers are not told to begin: they go on as their own master had them."""
        self._resting = on
        self._balance()
        while self._unanswered and not on:
            self.asks(*self._unanswered.pop(0))
        everyone = [*self._members, *self._adopted]
        if on and everyone:
            await asyncio.wait([member.leave() for member in everyone], timeout=LEAVE_TIMEOUT)

    async def admit(self, admissions: Admissions) -> None:
        """See Engine.admit. Workers to come are told before they serve anybody."""
        self._admissions.update(admissions)
        adopted = [member for member in self._adopted if any(route.guarded for route in member.routes.values())]
        if answers := [member.admit(admissions) for member in (*self._members, *adopted)]:
            _, late = await asyncio.wait(answers, timeout=ADMIT_TIMEOUT)
            if late:
                log.warning("%d workers do not know yet who is signed in, or signed out", len(late))

    async def settled(self, names: Collection[str]) -> None:
        """The roster stands, these accounts are in it: let adopted workers end with their last desktops.

        Sessions of an account that is gone or has moved meanwhile are ended, as their own master would have done.
        """
        self._tell_of_elsewhere(self._proxies)
        await asyncio.gather(*(self._drain(member, names) for member in self._adopted))

    async def aclose(self) -> None:
        """See Engine.aclose: end all workers, those that drain too; also before `start()`."""
        await tasks.end(*self._tasks, *self._answering)
        self._adopt()
        everyone = [*self._members, *self._adopted]
        try:
            for member in everyone:
                member.channel.send(Stop(GOING_AWAY, "the gate is being stopped"))
            if everyone:
                await asyncio.wait([member.gone for member in everyone], timeout=END_TIMEOUT)
        finally:  # also where the daemon has no more time: what hangs would keep the ports
            for member in everyone:
                member.kill()
                self._keeper.forget(f"worker-{member.pid}")
            if self._nursery is not None:
                self._nursery.close()

    def tally(self) -> Tally:
        """See Engine.tally: as of the workers' last reports."""
        return Tally.total([self.lost, *(member.tally for member in (*self._members, *self._adopted))])

    def workers(self) -> list[WorkerStatus]:
        """All workers, those that drain last."""
        serving = [slot.status() for slot in self._slots]
        return serving + [_status(member, WorkerState.DRAINING, 0) for member in self._adopted]

    def channels(self) -> dict[str, socket.socket]:
        """The channels of all workers, by the names under which a next master adopts them."""
        return {f"worker-{member.pid}": member.channel.sock for member in (*self._members, *self._adopted)}

    def passed(self) -> dict[str, list[int]]:
        """By account, the bytes up and down of workers that are gone."""
        return {name: proxy.before for name, proxy in self._proxies.items() if any(proxy.before)}

    def traffic(self, name: str) -> Traffic:
        """What passed for an account through the workers that are there."""
        seen = [member.traffic[name] for member in (*self._members, *self._adopted) if name in member.traffic]
        return Traffic(
            sum(traffic.connections for traffic in seen),
            sum(traffic.bytes_up or 0 for traffic in seen),
            sum(traffic.bytes_down or 0 for traffic in seen),
            max((traffic.used for traffic in seen), default=0.0),
            max((traffic.delay for traffic in seen), default=0.0),
        )

    def let_go(self, proxy: PoolProxy, code: int, reason: str) -> list[asyncio.Future[object]]:
        """Have every worker end an account; the answers to wait for."""
        self._proxies.pop(proxy.route.name, None)
        if proxy.owner is not None:
            proxy.owner.own_ports -= 1
        answers: list[asyncio.Future[object]] = []
        for member in (*self._members, *self._adopted):
            answers.append(member.close(proxy.route.name, code, reason))  # type: ignore[arg-type]
            member.told.pop(proxy.route.name, None)
        return answers

    def reported(self, names: Collection[str]) -> None:
        """See member.Events."""
        self._tell_of_elsewhere(names)
        self._balance()

    def suspects(self, name: str, reason: str, readiness: Readiness) -> None:
        """See member.Events."""
        if proxy := self._proxies.get(name):
            proxy.suspect(reason, readiness)

    def asks(self, member: Member, challenge: Challenge) -> None:
        """See member.Events. What adopted workers ask before the accounts are known waits for these."""
        if proxy := self._proxies.get(challenge.name):
            task = tasks.spawn(self._answer(member, challenge, proxy.login), f"log in {challenge.name}")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif self._resting:
            self._unanswered.append((member, challenge))
        else:
            gone = DesktopError("the account was removed, or stopped", Readiness.UNKNOWN)
            member.answer(challenge.ticket, gone)

    async def _answer(self, member: Member, challenge: Challenge, login: Login) -> None:
        try:
            member.answer(challenge.ticket, await login(bytes.fromhex(challenge.challenge)))
        except DesktopError as error:
            member.answer(challenge.ticket, error)

    def _adopt(self) -> None:
        while self._to_adopt:
            pid, sock = self._to_adopt.popitem()
            self._adopted.append(Member(sock, self, pid))

    async def _keep(self, slot: _Slot) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            began = loop.time()
            try:
                why = await self._one_life(slot)
            except OSError as error:  # no process, or no descriptor to be had
                why = f"cannot be started: {error.strerror}"
            deaths = 1 if loop.time() - began >= WELL else deaths + 1
            delay = delay_after(deaths)
            slot.restarts += 1
            slot.tried.set()
            log.error("worker %s; another is started %s", why, f"in {delay:g} s" if delay else "now")
            await asyncio.sleep(delay)

    async def _one_life(self, slot: _Slot) -> str:
        """Start a worker, give it all accounts, and wait for its end; how that was, in words.

        Raises OSError when it cannot be started.
        """
        nursery = await self._nursery_at_hand()
        member = slot.member = Member(nursery.start(), self)
        try:
            await asyncio.wait([member.ready, member.gone], timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if member.gone.done():
                return "ended before it was ready"
            if not member.ready.done():
                self._give_up(nursery)
                return f"was not ready within {START_TIMEOUT:g} s"
            self._welcome(member)
            slot.tried.set()
            await asyncio.wait([member.gone])
            return f"{member.pid} ended, and {member.connections} connections with it"
        except OSError:
            member.kill()
            raise
        finally:
            slot.member = None
            if member not in self._members:
                member.kill()
            elif member.gone.done():
                self._bury(member)

    def _share_ports(self) -> None:
        """Give the ports that no worker serves to those that stand."""
        for proxy in self._orphans() if self._members else ():
            _own(min(self._members, key=lambda member: member.own_ports), proxy)
            if proxy.owner is not None:
                self._open_later(proxy.owner, proxy)

    def _orphans(self) -> list[PoolProxy]:
        return [proxy for proxy in self._proxies.values() if proxy.listener is not None and proxy.owner is None]

    def _open_later(self, member: Member, proxy: PoolProxy) -> None:
        _open_on(member, proxy).add_done_callback(functools.partial(self._opened_late, proxy))

    def _opened_late(self, proxy: PoolProxy, answer: asyncio.Future[object]) -> None:
        """An account that nobody waits for any more was opened, or not: then another worker is to serve its port.

        The one that failed keeps it in its count of ports: it counts as fuller than it is, and others come first.
        """
        failed = answer.result()
        if isinstance(failed, Failed):
            proxy.owner = None
            if failed.reason != proxy.trouble:
                log.error("%s; another worker is asked", failed.reason, extra={"account": proxy.route.name})
        proxy.trouble = failed.reason if isinstance(failed, Failed) else ""

    def _welcome(self, member: Member) -> None:
        self._members.append(member)
        self._keeper.keep(f"worker-{member.pid}", member.channel.sock)
        member.channel.send(self._begin, self._shared)
        member.admit(self._admissions)
        vacant = len(self._slots) - len(self._members)  # places whose workers are to have their share, too
        for proxy in self._orphans()[:: 1 + vacant]:
            _own(member, proxy)
        for proxy in self._proxies.values():
            self._open_later(member, proxy)
        self._tell_of_elsewhere(self._proxies)
        self._balance()

    def _bury(self, member: Member) -> None:
        """What it counted stays counted; the ports that it served are for another to serve."""
        self._keeper.forget(f"worker-{member.pid}")
        for members in (self._members, self._adopted):
            if member in members:
                members.remove(member)
        self.lost.add(member.tally)
        for name, traffic in member.traffic.items():
            if traffic.connections:  # their own worker cannot tell of their end
                self.lost.ended[End.WORKER] += traffic.connections
                words = f"{traffic.connections} connection{'' if traffic.connections == 1 else 's'}"
                log.warning("%s ended with worker %d", words, member.pid, extra={"account": name})
            if proxy := self._proxies.get(name):
                proxy.keep(traffic.bytes_up, traffic.bytes_down, traffic.used)
        for proxy in self._proxies.values():
            if proxy.owner is member:
                proxy.owner = None
        self._tell_of_elsewhere(member.traffic)
        self._balance()

    async def _see_off(self, member: Member) -> None:
        await asyncio.wait([member.gone])
        if member.connections:
            log.error("worker %d, which drained, ended, and %d connections with it", member.pid, member.connections)
        else:
            log.info("worker %d has drained and is gone", member.pid)
        self._bury(member)

    async def _nursery_at_hand(self) -> Nursery:
        async with self._hatching:
            if self._nursery is None:
                self._nursery = await Nursery.execute()
                self._nursery.listen(self._fate, self._nursery_gone)
            return self._nursery

    async def _drain(self, member: Member, names: Collection[str]) -> None:
        await asyncio.wait([member.ready, member.gone], timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if known := {name: self._admissions[name] for name in member.routes if name in self._admissions}:
            member.admit(known)
        for name, route in member.routes.items():
            proxy = self._proxies.get(name)
            if name not in names:
                member.close(name, POLICY, "the account was removed")
            elif proxy is not None and proxy.route != route:
                member.close(name, SERVICE_RESTART, "the desktop moved")
        log.info("worker %d drains: %d desktops in use", member.pid, member.connections)
        member.channel.send(Drain(self._begin.drain_timeout))

    def _give_up(self, nursery: Nursery) -> None:
        """Have another one started: this one hangs."""
        nursery.close()
        if self._nursery is nursery:
            self._nursery = None

    def _nursery_gone(self) -> None:
        log.warning("the process that starts workers is gone; another takes its place when one is needed")
        self._nursery = None

    def _fate(self, pid: int, words: str) -> None:
        log.log(logging.DEBUG if words == "ended with exit status 0" else logging.ERROR, "worker %d %s", pid, words)

    async def _watch(self) -> None:
        """End workers that hang. A master that was held up itself (SIGSTOP, a machine asleep) judges nobody: it has not
        listened.
        """
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(LOOK)
            late = loop.time() - before - LOOK
            for member in (*self._members, *self._adopted):
                if late > LOOK:
                    member.heard = loop.time()
                elif loop.time() - member.heard > HANG_TIMEOUT:
                    log.error("worker %d hangs: it said nothing for %g s, and is ended", member.pid, HANG_TIMEOUT)
                    member.kill()
            self._share_ports()
            self._balance()

    def _balance(self) -> None:
        """Have workers with more connections than others leave the shared port to these for a while."""
        now = asyncio.get_running_loop().time()
        awake = [member.connections for member in self._members if now - member.heard < LATE]
        least = min(awake, default=0)
        for member in self._members:
            rest = self._resting or (len(awake) > 1 and member.connections > least + least // 8 + UNEVEN)
            if rest is not member.resting:
                member.resting = rest
                member.channel.send(Rest(rest))

    def _tell_of_elsewhere(self, names: Collection[str]) -> None:
        """Tell workers how many connections these accounts have in others, where that is news."""
        totals = {name: self.traffic(name).connections for name in names if name in self._proxies}
        for member in self._members:
            news = {}
            for name, total in totals.items():
                own = member.traffic.get(name)
                elsewhere = total - own.connections if own else total
                if elsewhere != member.told.get(name, 0):
                    news[name] = member.told[name] = elsewhere
            while news:
                some = dict(list(news.items())[:MOST_ACCOUNTS])
                member.channel.send(Elsewhere(some))
                news = {name: count for name, count in news.items() if name not in some}


class _Slot:
    """One of the places for a worker."""

    def __init__(self) -> None:
        self.member: Member | None = None
        self.restarts = 0
        self.tried = asyncio.Event()
        """Set when its first worker stands, or failed."""

    def status(self) -> WorkerStatus:
        if self.member is None or not self.member.ready.done():
            return WorkerStatus(0, WorkerState.STARTING, "", 0, 0.0, self.restarts)
        return _status(self.member, WorkerState.SERVING, self.restarts)


def _status(member: Member, state: WorkerState, restarts: int) -> WorkerStatus:
    return WorkerStatus(member.pid, state, member.version, member.connections, member.since, restarts)


def _own(member: Member, proxy: PoolProxy) -> None:
    """Have the account's own port, where it has one, be accepted on by this worker."""
    if proxy.listener is not None:
        proxy.owner = member
        member.own_ports += 1


def _open_on(member: Member, proxy: PoolProxy) -> asyncio.Future[object]:
    return member.open(proxy.route, proxy.listener if proxy.owner is member else None)  # type: ignore[return-value]
