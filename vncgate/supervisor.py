"""One runner an account, and what happens to all of them when the roster changes.

A runner turns the lifecycle's actions into deeds and their outcomes into events; it owns at most one task
that starts or ends its proxy, one timer, and one task that looks whether the desktop is there. An
account's failure never touches another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from vncgate.engines.base import POLICY, SERVICE_RESTART, Engine, Proxy
from vncgate.errors import ControlError, DesktopError, ProxyError
from vncgate.lifecycle import Action, Event, Life, step
from vncgate.listeners import Listeners
from vncgate.model import Account, AccountStatus, Readiness, Roster, State, Traffic
from vncgate.plan import Plan, plan
from vncgate.readiness import Look

log = logging.getLogger("vncgate.supervisor")

OPEN_TIMEOUT = 15.0
"""Seconds that an engine may take to start a proxy."""
OPENS_AT_ONCE = 16
"""Proxies that are started at the same time; a websockify process costs 0.1 CPU seconds to start."""
LOOKS_AT_ONCE = 16
"""Desktops that are looked at at the same time."""

Probe = Callable[[Account], Coroutine[Any, Any, object]]
"""Logs in to the account's desktop; raises DesktopError where that fails."""


class Supervisor:
    """All runners. `apply()` makes the roster true; `statuses()` says how things are."""

    def __init__(
        self,
        engine: Engine,
        listeners: Listeners,
        probe: Probe | None,
        *,
        probe_interval: float = 30.0,
        chance: Callable[[], float] = random.random,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self.listeners = listeners
        self.probe = probe
        self.probe_interval = probe_interval
        self.chance = chance
        self.wall_clock = wall_clock
        self.opening = asyncio.Semaphore(OPENS_AT_ONCE)
        self.looking = asyncio.Semaphore(LOOKS_AT_ONCE)
        self.roster = Roster()
        self._runners: dict[str, Runner] = {}
        self._lock = asyncio.Lock()
        self._closed = False

    async def apply(self, roster: Roster) -> Plan:
        """Make `roster` true, touching only what changed; returns what was done.

        Ends when every proxy that had to go is gone and every new one runs or has failed once. Raises
        ControlError when all was stopped for good.
        """
        async with self._lock:
            if self._closed:
                raise ControlError("the gate is being stopped")
            todo = plan(roster, {name: runner.account for name, runner in self._runners.items()})
            await asyncio.gather(
                *(self._remove(account, POLICY, "the account was removed") for account in todo.remove),
                *(self._remove(account, SERVICE_RESTART, "the desktop moved") for account in todo.replace),
            )
            for account in (*todo.update, *todo.keep):
                self._runners[account.name].update(account)
            new = [Runner(self, account) for account in (*todo.replace, *todo.add)]
            runners = self._runners | {runner.account.name: runner for runner in new}
            self._runners = {name: runners[name] for name in roster}
            self.roster = roster
            await asyncio.gather(*(runner.start() for runner in new))
            return todo

    def statuses(self) -> list[AccountStatus]:
        """Every account as it is now, in the roster's order."""
        return [runner.status() for runner in self._runners.values()]

    async def start(self, names: Iterable[str]) -> None:
        """Start accounts that are stopped or FATAL. Raises ControlError for a name that is not in the roster."""
        await asyncio.gather(*(runner.start() for runner in self._named(names)))

    async def stop(self, names: Iterable[str]) -> None:
        """Stop accounts; their browsers are told. Raises ControlError for a name that is not in the roster."""
        reason = "stopped by the organizers"
        await asyncio.gather(*(runner.stop(POLICY, reason) for runner in self._named(names)))

    async def restart(self, names: Iterable[str]) -> None:
        """Stop and start accounts. Raises ControlError for a name that is not in the roster."""
        runners = self._named(names)
        await asyncio.gather(*(runner.stop(SERVICE_RESTART, "restarted by the organizers") for runner in runners))
        await asyncio.gather(*(runner.start() for runner in runners))

    async def aclose(self, code: int, reason: str) -> None:
        """Stop everything, for good."""
        self._closed = True
        await self._stop_all(code, reason)  # also what an apply() under way has just started, so that it ends soon
        async with self._lock:
            await self._stop_all(code, reason)
            self._runners.clear()

    async def _stop_all(self, code: int, reason: str) -> None:
        await asyncio.gather(*(runner.stop(code, reason) for runner in self._runners.values()))

    async def _remove(self, account: Account, code: int, reason: str) -> None:
        await self._runners[account.name].stop(code, reason)
        del self._runners[account.name]

    def _named(self, names: Iterable[str]) -> Sequence[Runner]:
        names = list(dict.fromkeys(names))
        if self._closed:
            raise ControlError("the gate is being stopped")
        unknown = [name for name in names if name not in self._runners]
        if unknown:
            raise ControlError(f"no such account: {', '.join(unknown)}")
        return [self._runners[name] for name in names]


class Runner:
    """One account: its life, its proxy, and what is known of its desktop."""

    def __init__(self, supervisor: Supervisor, account: Account) -> None:
        self.account = account
        self._all = supervisor
        self._life = Life()
        self._since = supervisor.wall_clock()
        self._proxy: Proxy | None = None
        self._before = Traffic()
        self._look = Look()
        self._last_error = ""
        self._farewell = (SERVICE_RESTART, "")
        self._deed: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()
        self._log = logging.LoggerAdapter(log, {"account": account.name})

    def status(self) -> AccountStatus:
        """The account as it is now."""
        traffic = self._traffic()
        return AccountStatus(
            account=self.account,
            want=self._life.want,
            state=self._life.state,
            readiness=self._look.readiness if self._life.state is State.RUNNING else Readiness.UNKNOWN,
            reason=self._look.reason if self._life.state is State.RUNNING else self._last_error,
            since=self._since,
            traffic=traffic,
            restarts=self._life.restarts,
            last_error=self._last_error,
        )

    async def start(self) -> None:
        """Want it up; ends when the first try is over."""
        self._handle(Event.START)
        await self._done()

    async def stop(self, code: int, reason: str) -> None:
        """Want it down; browsers are told `code` and `reason`. Ends when it is gone."""
        self._farewell = (code, reason)
        self._handle(Event.STOP)
        await self._done()

    def update(self, account: Account) -> None:
        """Take over what does not concern the proxy, and look again where looking had stopped."""
        changed = account != self.account
        self.account = account
        if changed or self._look.readiness is Readiness.WRONG_PASSWORD:
            self._look = Look()
            self._nudge.set()

    def suspect(self, reason: str) -> None:
        """The desktop could not be connected to: it is offline until a login succeeds."""
        self._note(self._look.found(Readiness.OFFLINE, reason))
        self._nudge.set()

    async def _done(self) -> None:
        while self._deed is not None:
            await asyncio.wait([self._deed])

    def _handle(self, event: Event) -> None:
        before = self._life
        loop = asyncio.get_running_loop()
        self._life, action = step(before, event, loop.time(), self._all.chance())
        if self._life.state is not before.state:
            self._since = self._all.wall_clock()
            self._log.debug("%s -> %s", before.state, self._life.state)
        match action:
            case Action.LAUNCH:
                self._cancel_timer()
                self._do(self._launch, "start")
            case Action.WAIT:
                self._log.warning("%s; trying again in %.0f s", self._last_error, self._life.delay)
                self._timer = loop.call_later(self._life.delay, self._handle, Event.DELAY_OVER)
            case Action.END:
                self._do(self._end, "stop")
            case Action.END_WAIT:
                self._cancel_timer()
                self._close_listener()
            case Action.GIVE_UP:
                self._close_listener()
                self._log.error("%s; given up: `vncgate start %s` tries again", self._last_error, self.account.name)

    def _do(self, deed: Callable[[asyncio.Task[None] | None], Coroutine[Any, Any, Event]], word: str) -> None:
        """Run `deed` as this runner's one task, after the one before; its outcome is the next event."""
        previous = self._deed

        async def run() -> None:
            try:
                event = await deed(previous)
            finally:
                if self._deed is asyncio.current_task():
                    self._deed = None
            self._handle(event)

        self._deed = asyncio.get_running_loop().create_task(run(), name=f"{word} {self.account.name}")

    async def _launch(self, previous: asyncio.Task[None] | None) -> Event:  # noqa: ARG002
        account = self.account
        try:
            port = account.port
            listener = self._all.listeners.open(port, f"account {account.name}") if port is not None else None
            async with self._all.opening, asyncio.timeout(OPEN_TIMEOUT):
                proxy = await self._all.engine.open(account, listener, self.suspect)
        except TimeoutError:
            self._last_error = f"the proxy did not start within {OPEN_TIMEOUT:g} s"
            return Event.START_FAILED
        except (ProxyError, OSError) as error:
            self._last_error = str(error)
            return Event.START_FAILED
        self._proxy = proxy
        proxy.died.add_done_callback(self._died)
        if self._all.probe is not None:
            self._look = Look()
            self._watch = asyncio.get_running_loop().create_task(self._watch_desktop(), name=f"look {account.name}")
        return Event.STARTED

    async def _end(self, previous: asyncio.Task[None] | None) -> Event:
        if previous is not None:
            previous.cancel()
            await asyncio.wait([previous])
        await self._end_watch()
        if self._proxy is not None:
            self._before = self._traffic()
            proxy, self._proxy = self._proxy, None
            await proxy.close(*self._farewell)
        self._close_listener()
        return Event.ENDED

    def _died(self, died: asyncio.Future[str]) -> None:
        if died.cancelled() or self._life.state is not State.RUNNING:
            return  # it ended while it was being stopped
        self._last_error = died.result()
        self._before = self._traffic()
        self._proxy = None
        if self._watch is not None:
            self._watch.cancel()
        self._handle(Event.DIED)

    def _traffic(self) -> Traffic:
        if self._proxy is None:
            return Traffic(0, self._before.bytes_up, self._before.bytes_down)
        now = self._proxy.traffic()
        return Traffic(
            now.connections, _sum(self._before.bytes_up, now.bytes_up), _sum(self._before.bytes_down, now.bytes_down)
        )

    async def _watch_desktop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            wait = self._look.next_after(self._all.probe_interval, self._all.chance())
            self._nudge.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if wait is None else loop.time() + wait):
                    await self._nudge.wait()
                    continue
            if self._traffic().connections and self._look.readiness is not Readiness.UNKNOWN:
                # In use: a login of ours would only disturb. Once it is free the desktop is looked at anew.
                self._look = self._look.found(Readiness.READY)
                continue
            await self._look_once()

    async def _look_once(self) -> None:
        assert self._all.probe is not None  # noqa: S101  (the task is only made with a probe)
        try:
            async with self._all.looking:
                await self._all.probe(self.account)
        except DesktopError as error:
            self._note(self._look.found(error.readiness, str(error)))
        else:
            self._note(self._look.found(Readiness.READY))

    def _note(self, look: Look) -> None:
        if look.readiness is not self._look.readiness:
            level = logging.INFO if look.readiness is Readiness.READY else logging.WARNING
            self._log.log(level, "%s", look.reason or f"desktop {self.account.desktop} is {look.readiness}")
        self._look = look

    async def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_listener(self) -> None:
        if self.account.port is not None:
            self._all.listeners.close(self.account.port)


def _sum(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else before + now
