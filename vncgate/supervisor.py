"""One runner an account, and what happens to all of them when the roster changes.

A runner turns the lifecycle's actions into deeds and their outcomes into events; it owns at most one task
that starts or ends its proxy, one timer, and the prober of its desktop. An account's failure never touches
another.
"""

from __future__ import annotations

import asyncio
import fnmatch
import functools
import itertools
import logging
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any

from vncgate import tasks
from vncgate.engines.base import POLICY, SERVICE_RESTART, Engine, Proxy
from vncgate.errors import ControlError, DesktopError, VncgateError
from vncgate.lifecycle import Action, Event, Life, step
from vncgate.listeners import Listeners
from vncgate.model import Account, AccountStatus, Readiness, Roster, State, Traffic, Want
from vncgate.plan import Plan, plan
from vncgate.prober import Prober, Probing
from vncgate.readiness import Finding
from vncgate.rfb import Refusal, vnc_auth

log = logging.getLogger(__name__)

OPEN_TIMEOUT = 15.0
"""Seconds that an engine may take to start a proxy."""
OPENS_AT_ONCE = 16
"""Proxies that are started at the same time; a websockify process costs 0.1 CPU seconds to start."""


class Supervisor:
    """All runners. `apply()` makes the roster true; `statuses()` says how things are.

    Without `probing` nothing is known of the desktops. `suspected(name)` is called when an account's desktop could not
    be connected to.
    """

    def __init__(
        self,
        engine: Engine,
        listeners: Listeners,
        probing: Probing | None,
        *,
        suspected: Callable[[str], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.suspected = suspected
        self.engine = engine
        self.listeners = listeners
        self.probing = probing
        self.chance = chance
        self.wall_clock = wall_clock
        self.opening = asyncio.Semaphore(OPENS_AT_ONCE)
        self.roster = Roster()
        self._runners: dict[str, Runner] = {}
        self._restarts_before = 0
        self._lock = asyncio.Lock()
        self._closed = False

    async def apply(self, roster: Roster, stopped: Collection[str] = ()) -> Plan:
        """Make `roster` true, touching only what changed; returns what was done.

        Accounts that are new and in `stopped` wait for an operator's start. Ends when every proxy that had to go is
        gone and every new one runs or has failed once. Raises ControlError when all was stopped for good.
        """
        async with self._lock:
            if self._closed:
                raise ControlError("the gate is being stopped")
            old = self._runners
            todo = plan(roster, {name: runner.account for name, runner in old.items()})
            await asyncio.gather(
                *(old[account.name].retire(POLICY, "the account was removed") for account in todo.remove),
                *(old[account.name].retire(SERVICE_RESTART, _farewell(account)) for account in todo.replace),
            )
            self._restarts_before += sum(old[account.name].restarts for account in (*todo.replace, *todo.remove))
            new = {account.name: Runner(self, account) for account in (*todo.replace, *todo.add)}
            self._runners = {name: new.get(name) or old[name] for name in roster}
            self.roster = roster
            for account in todo.update:
                self._runners[account.name].update(account)
            # What an operator stopped stays stopped, wherever its desktop is now.
            start = [
                runner
                for name, runner in new.items()
                if (old[name].wanted_before is Want.UP if name in old else name not in stopped)
            ]
            await asyncio.gather(*(runner.start() for runner in start))
            return todo

    def statuses(self) -> list[AccountStatus]:
        """Every account as it is now, in the roster's order."""
        return [runner.status() for runner in self._runners.values()]

    @property
    def restarts(self) -> int:
        """How often a proxy was started again without an operator's word, those of accounts that are gone included."""
        return self._restarts_before + sum(runner.restarts for runner in self._runners.values())

    async def start(self, names: Iterable[str]) -> list[str]:
        """Start accounts that are stopped or FATAL; returns their names.

        A name may be a pattern as a shell's (`ws0*`). Raises ControlError for one that is not in the roster.
        """
        runners = self._named(names)
        return await self._told(runners, "start", *(runner.start() for runner in runners))

    async def stop(self, names: Iterable[str]) -> list[str]:
        """Stop accounts, as `start()` starts them; their browsers are told."""
        runners = self._named(names)
        reason = "stopped by the organizers"
        return await self._told(runners, "stop", *(runner.stop(POLICY, reason) for runner in runners))

    async def restart(self, names: Iterable[str]) -> list[str]:
        """Stop and start accounts, as `stop()` and `start()` do."""
        runners = self._named(names)
        reason = "restarted by the organizers"
        await self._told(runners, "restart", *(runner.stop(SERVICE_RESTART, reason) for runner in runners))
        await asyncio.gather(*(runner.start() for runner in runners))
        return [runner.account.name for runner in runners]

    async def _told(self, runners: Sequence[Runner], word: str, *deeds: Coroutine[Any, Any, None]) -> list[str]:
        for runner in runners:
            log.info("an operator's %s", word, extra={"account": runner.account.name})
        await asyncio.gather(*deeds)
        return [runner.account.name for runner in runners]

    def probe_again(self) -> None:
        """Probe desktops whose password was wrong too often: an operator asked to have another look."""
        for runner in self._runners.values():
            runner.probe_again()

    async def aclose(self, code: int, reason: str) -> None:
        """Stop everything, for good."""
        self._closed = True
        await self._stop_all(code, reason)  # also what an apply() under way has just started, so that it ends soon
        async with self._lock:
            await self._stop_all(code, reason)
            self._runners.clear()

    async def _stop_all(self, code: int, reason: str) -> None:
        await asyncio.gather(*(runner.stop(code, reason) for runner in self._runners.values()))

    def _named(self, patterns: Iterable[str]) -> Sequence[Runner]:
        """The runners of names, or of patterns as a shell's (`ws0*`); each once."""
        if self._closed:
            raise ControlError("the gate is being stopped")
        found = {pattern: fnmatch.filter(self._runners, pattern) for pattern in patterns}
        if unknown := [pattern for pattern, names in found.items() if not names]:
            raise ControlError(f"no such account: {', '.join(unknown)}")
        return [self._runners[name] for name in dict.fromkeys(itertools.chain.from_iterable(found.values()))]


class Runner:
    """One account: its life, its proxy, and the prober of its desktop."""

    def __init__(self, supervisor: Supervisor, account: Account) -> None:
        self.account = account
        self.wanted_before = Want.UP
        """What was wanted when it was retired."""
        self._all = supervisor
        self._life = Life()
        self._retired = False
        self._since = supervisor.wall_clock()
        self._proxy: Proxy | None = None
        self._before = Traffic()
        self._prober: Prober | None = None
        self._unprobed = Finding()
        """What browsers found of a desktop that is not probed: how often the password was wrong."""
        self._last_error = ""
        self._farewell = (SERVICE_RESTART, "")
        self._deed: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._log = logging.LoggerAdapter(log, {"account": account.name})

    @property
    def restarts(self) -> int:
        """How often its proxy was started again without an operator's word."""
        return self._life.restarts

    def status(self) -> AccountStatus:
        """The account as it is now."""
        runs = self._life.state is State.RUNNING
        finding = self._prober.finding if runs and self._prober else Finding()
        return AccountStatus(
            account=self.account,
            want=self._life.want,
            state=self._life.state,
            readiness=finding.readiness,
            reason=finding.reason if runs else self._last_error,
            since=self._since,
            traffic=self._traffic(),
            restarts=self.restarts,
            last_error=self._last_error,
        )

    async def start(self) -> None:
        """Want it up; ends when the first try is over. Does nothing once it is retired."""
        if not self._retired:
            self._handle(Event.START)
            await self._done()

    async def stop(self, code: int, reason: str) -> None:
        """Want it down; browsers are told `code` and `reason`. Ends when it is gone."""
        self._farewell = (code, reason)
        self._handle(Event.STOP)
        await self._done()

    async def retire(self, code: int, reason: str) -> None:
        """Stop it for good: its account is gone, or another runner takes its place."""
        self.wanted_before = self._life.want
        self._retired = True
        await self.stop(code, reason)

    def update(self, account: Account) -> None:
        """Take over what does not concern the proxy, and probe the desktop anew."""
        self.account = account
        self._unprobed = Finding()
        if self._prober is not None:
            self._prober.update(account)

    def probe_again(self) -> None:
        """Have another look at a desktop whose password was wrong too often."""
        self._unprobed = Finding()
        if self._prober is not None and self._prober.finding.is_final:
            self._prober.update(self.account)

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
                self._do(self._launch, Event.START_FAILED, "start")
            case Action.WAIT:
                self._log.warning("%s; trying again in %.0f s", self._last_error, self._life.delay)
                self._timer = loop.call_later(self._life.delay, self._handle, Event.DELAY_OVER)
            case Action.END:
                self._do(functools.partial(self._end, self._deed), Event.ENDED, "stop")
            case Action.END_WAIT:
                self._cancel_timer()
                self._close_listener()
            case Action.GIVE_UP:
                self._close_listener()
                self._log.error("%s; given up: `vncgate start %s` tries again", self._last_error, self.account.name)

    def _do(self, deed: Callable[[], Coroutine[Any, Any, Event]], otherwise: Event, word: str) -> None:
        """Run `deed` as this runner's one task; its outcome is the next event, `otherwise` if it breaks."""

        async def run() -> None:
            event = otherwise
            try:
                event = await deed()
            except Exception as error:  # noqa: BLE001  (a defect of ours must not leave the account in between)
                self._last_error = f"the proxy could not {word}; the gate's log says why"
                self._log.error("a defect: the proxy could not %s", word, exc_info=error)
            finally:
                if self._deed is asyncio.current_task():
                    self._deed = None
            self._handle(event)

        self._deed = tasks.spawn(run(), f"{word} {self.account.name}")

    async def _launch(self) -> Event:
        account = self.account
        self._unprobed = Finding()
        await self._end_prober()
        try:
            port = account.port
            listener = self._all.listeners.open(port, f"account {account.name}") if port is not None else None
            async with self._all.opening, asyncio.timeout(OPEN_TIMEOUT):
                proxy = await self._all.engine.open(account.route, listener, self._suspect, self._log_in)
        except TimeoutError:
            self._last_error = f"the proxy did not start within {OPEN_TIMEOUT:g} s"
            return Event.START_FAILED
        except (VncgateError, OSError) as error:
            self._last_error = str(error)
            return Event.START_FAILED
        self._proxy = proxy
        if proxy.died is not None:
            proxy.died.add_done_callback(self._died)
        if self._all.probing is not None and account.desktop is not None:
            self._prober = Prober(self.account, self._all.probing, lambda: self._traffic().connections > 0)
        return Event.STARTED

    async def _end(self, launch: asyncio.Task[None] | None) -> Event:
        if launch is not None:
            await tasks.end(launch)
        await self._end_prober()
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
        if self._prober is not None:
            self._prober.stop()
        self._handle(Event.DIED)

    def _suspect(self, reason: str, readiness: Readiness = Readiness.OFFLINE, /) -> None:
        if self._prober is not None:
            self._prober.suspect(reason, readiness)
        elif readiness is Readiness.WRONG_PASSWORD:
            self._unprobed = self._unprobed.found(readiness)
        if readiness is Readiness.OFFLINE:
            self._all.suspected(self.account.name)

    async def _log_in(self, challenge: bytes) -> bytes:
        """See engines.base.Login. A password that was refused too often is not tried until it is another, or an
        operator wants it: browsers that come again and again would have the desktop refuse everybody.
        """
        known = self._prober.finding if self._prober is not None else self._unprobed
        if known.is_final:
            raise DesktopError(
                f"desktop {self.account.desktop} {Refusal.WRONG_PASSWORD.value}", Readiness.WRONG_PASSWORD
            )
        return vnc_auth(self.account.password.reveal(), challenge) if challenge else b""

    def _traffic(self) -> Traffic:
        if self._proxy is None:
            return Traffic(0, self._before.bytes_up, self._before.bytes_down, self._before.used)
        now = self._proxy.traffic()
        return Traffic(
            now.connections,
            _sum(self._before.bytes_up, now.bytes_up),
            _sum(self._before.bytes_down, now.bytes_down),
            max(self._before.used, now.used),
            now.delay,
        )

    async def _end_prober(self) -> None:
        if self._prober is not None:
            prober, self._prober = self._prober, None
            await prober.end()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_listener(self) -> None:
        if self.account.port is not None:
            self._all.listeners.close(self.account.port)


def _sum(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else before + now


def _farewell(account: Account) -> str:
    """What browsers are told when their account's route is another one now."""
    return "the desktop moved" if account.desktop else "the desktop ended, or is started again"
