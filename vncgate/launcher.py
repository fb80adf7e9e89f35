"""The desktops that the gate starts itself: which are wanted, and when, over all accounts and pools.

What happens to one of them is `desktop_runner`'s, what happens at one place `yard`'s. A restarted daemon finds on disk
what it had started, and starts none twice; a daemon that ends leaves desktops as they are.
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

from vncgate import tasks
from vncgate.desktop_runner import Runner, Shared
from vncgate.errors import ControlError
from vncgate.kinds import DesktopsSettings, Policy
from vncgate.launchers.base import Place
from vncgate.model import Account, Desktop, DesktopState, DesktopStatus, Roster, Secret, Want
from vncgate.pools import Pools
from vncgate.store import Ending, Entry, Store
from vncgate.yard import Yard

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 1.0
"""Seconds that all that is under way at places has to end, when the daemon ends; and again as many that all places
together have to let go of their connections.
"""
GRACE = 60.0
"""Seconds for which the desktop of an account that is not in the token file any more is kept: somebody's work is in it,
and the file may be half written, or a copy that was cut short.
"""
CLOCK_LOOK = 60.0
"""Seconds between two looks at the clock for the end of the workshop: it may be set meanwhile."""
OVER = "the workshop is over"
_REMOVED = "the account was removed"
_ABSENT = f"the account is not in the token file any more: its desktop is ended within {GRACE:g} s"
_STOPPED = "stopped by the organizers"
_RESTING = "its pool is filled again when somebody asks for a desktop of this kind"
_OPENED = (Policy.ON_DEMAND, Policy.POOL)


def _asked_by(account: Account) -> tuple[str, str, str]:
    return account.kind, account.size, account.policy


def _nonce() -> str:
    return secrets.token_hex(8)


def _password() -> Secret:
    return Secret(secrets.token_urlsafe(6))  # 8 characters: VncAuth reads no more


class Launcher:
    """All desktops. `apply()` says whose; the policies of their kinds and people say when.

    `places` are by their names in `settings`; `aclose()` closes them. `login(account)` makes a full VNC login to
    `account.desktop` and raises DesktopError; `changed(names)` is called, at most once in a turn of the loop, after
    something that a status shows changed. `chance` gives random numbers in [0, 1), `wall_clock` seconds since the
    epoch, `nonce` 16 letters and digits, `password` one for a desktop whose account has none. With `is_blind`, people
    may use what is on disk whom this gate does not see.
    """

    def __init__(
        self,
        settings: DesktopsSettings,
        places: Mapping[str, Place],
        *,
        store: Store,
        login: Callable[[Account], Awaitable[object]],
        changed: Callable[[frozenset[str]], None],
        chance: Callable[[], float] = random.random,
        wall_clock: Callable[[], float] = time.time,
        nonce: Callable[[], str] = _nonce,
        password: Callable[[], Secret] = _password,
        is_blind: bool = False,
    ) -> None:
        self._yards = {
            name: Yard(name, known, place) for name, place in places.items() if (known := settings.place(name))
        }
        self._settings = settings
        self._changed = changed
        self._news: set[str] = set()
        self._all = Shared(
            settings=settings,
            yards=self._yards,
            store=store,
            login=login,
            changed=self._note,
            chance=chance,
            wall_clock=wall_clock,
            nonce=nonce,
            password=password,
            is_blind=is_blind,
        )
        self._runners: dict[str, Runner] = {}
        self._pools = Pools(self._all, self._retire)
        self._leaving: set[Runner] = set()
        self._absent: dict[str, tuple[Runner, asyncio.TimerHandle]] = {}
        self._found: list[Entry] = []
        self._endings: list[Ending] = []
        self._tidying: asyncio.Task[None] | None = None
        self._is_over = False
        self._is_shut = False
        self._closed = False
        self._end: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Read what is on disk; the first `apply()` takes it up. Raises OSError where the folder cannot be read."""
        self._found = await self._all.store.load()
        self._endings = await self._all.store.endings()
        if self._found:
            log.info("%d desktops of a daemon before this one are on disk", len(self._found))
        self._await_end()

    def apply(self, roster: Roster) -> None:
        """Make `roster` true: its accounts without a desktop of their own are ours. The desktops of those that have one
        now are ended, and those of accounts that are not in it after GRACE, unless they are back by then.
        """
        ours = {name: account for name, account in roster.items() if account.desktop is None}
        for name in self._runners.keys() - ours.keys():
            self._lose(self._runners.pop(name), roster)
        for name in self._absent.keys() & (roster.keys() - ours.keys()):
            self._give_up(name)
        unknown = [name for name in ours if name not in self._runners]
        back = {name: runner for name in unknown if (runner := self._take_back(name))}
        new = [back[name] if name in back else Runner(self._all, ours[name]) for name in unknown]
        for name, runner in {**self._runners, **back}.items():
            if runner.view.account != ours[name]:
                self._update(runner, ours[name])
        known = {**self._runners, **{runner.name: runner for runner in new}}
        self._runners = {name: known[name] for name in ours}
        self._take_up(roster)
        for runner in new:
            if runner.state is DesktopState.STOPPED or (runner.name in back and runner.want is Want.DOWN):
                self._begin(runner)
        if self._is_over:
            self._end_all()
        self._fill()

    def statuses(self) -> list[DesktopStatus]:
        """Every account's desktop as it is now, in the roster's order."""
        return [runner.status() for runner in self._runners.values()]

    def status(self, name: str) -> DesktopStatus | None:
        """An account's desktop; None for one that is not ours."""
        runner = self._runners.get(name)
        return runner.status() if runner else None

    def spares(self) -> list[DesktopStatus]:
        """Every desktop of a pool that nobody has yet; named, in the place of an account, `pool:KIND:NUMBER`. And those
        of accounts that are not in the roster any more, until they are ended.
        """
        return [runner.status() for runner in (*self._pools, *self._missed())]

    def located(self) -> dict[str, Desktop]:
        """Where browsers are led, by account."""
        return {name: runner.view.led_to for name, runner in self._runners.items() if runner.view.led_to}

    def password(self, name: str) -> Secret | None:
        """What an account's desktop asks for: the account's password, or one of ours where it has none."""
        runner = self._runners.get(name)
        return runner.view.password if runner else None

    def shut(self, *, on: bool) -> None:
        """With `on`, start no desktop by itself, nor because somebody opens its page or asks for it there: the workshop
        is not open. Those that are there stay, and an operator may start more.
        """
        was, self._is_shut = self._is_shut, on
        if was and not on:
            for runner in self._runners.values():
                if runner.want is Want.DOWN and runner.state is DesktopState.STOPPED:
                    self._begin(runner)
            self._fill()

    async def start_desktops(self, names: Iterable[str]) -> list[str]:
        """Ask for desktops; returns their accounts at once, statuses say how it goes on.

        A name may be a pattern as a shell's (`ws0*`), and that of a pool's. Raises ControlError for one that no desktop
        of ours has, and when the workshop is over.
        """
        named = self._named(names, "start")
        if self._is_over:
            raise ControlError(OVER)
        for name, runner in named.items():
            if runner.name == name:  # else it was given out right now
                self._want(runner)
        return list(named)

    async def stop_desktops(self, names: Iterable[str], reason: str = _STOPPED) -> list[str]:
        """End desktops, as `start_desktops()` asks for them; `reason` is what is told. A pool stays empty until one of
        its kind is asked for.
        """
        named = self._named(names, "stop")
        for runner in named.values():
            runner.stop(f"{reason}: {_RESTING}" if runner.in_pool else reason)
        return list(named)

    async def start_as(self, name: str, kind: str, size: str) -> None:
        """Ask for an account's desktop, which until it ends is of this kind and size, of those that the settings have.

        Raises ControlError as `start_desktops()` does, and where one of another kind or size is there.
        """
        (runner,) = self._named([name], "start").values()
        if self._is_over:
            raise ControlError(OVER)
        has = runner.status()
        if has.want is Want.DOWN or has.state is DesktopState.FAILED:
            runner.view.chosen = (kind, size)
        elif (has.kind, has.size) != (kind, size):
            what = f"{has.kind} ({has.size})" if has.size else has.kind
            raise ControlError(f"{name} has a session of kind {what}: end it first")
        self._want(runner)

    async def restart_desktops(self, names: Iterable[str]) -> list[str]:
        """End desktops and start them anew, as `start_desktops()` does."""
        named = self._named(names, "restart")
        if self._is_over:
            raise ControlError(OVER)
        for name, runner in named.items():
            if runner.name == name:
                runner.stop("restarted by the organizers")
                self._want(runner)
        return list(named)

    def visit(self, name: str) -> None:
        """The participant opened the page: a desktop that starts on demand does so now."""
        runner = self._runners.get(name)
        if runner is None or self._is_over or self._is_shut or runner.view.policy not in _OPENED:
            return
        if runner.want is Want.DOWN and runner.state is not DesktopState.FAILED:
            self._want(runner)

    def retry(self, name: str) -> None:
        """The participant asks for it, whatever became of it before; but one that an operator is to start stays so."""
        runner = self._runners.get(name)
        if runner is None or self._is_over or self._is_shut:
            return
        if runner.view.policy is not Policy.MANUAL or runner.state is DesktopState.FAILED:
            self._want(runner)

    def stay(self, name: str) -> None:
        """The participant wants to stay: the time in which nobody uses the desktop begins anew."""
        self.used(name, asyncio.get_running_loop().time())

    def used(self, name: str, at: float) -> None:
        """Somebody pressed a key or moved a pointer at `at`, on the loop's clock."""
        if runner := self._runners.get(name):
            runner.used(at)

    def look(self, name: str) -> None:
        """An account's desktop could not be connected to: see what became of it, where it is ours, and not only with
        the next look at it.
        """
        if runner := self._runners.get(name):
            runner.look()

    async def logs(self, name: str, lines: int = 200) -> str:
        """The end of what an account's session wrote, or the one before it. Raises ControlError for an account that is
        not ours, and no desktop of a pool has, LaunchError where its place cannot be reached.
        """
        if (runner := self._by_name().get(name)) is None:
            raise ControlError(f"no such account: {name}")
        return await runner.logs(lines)

    async def aclose(self) -> None:
        """The daemon ends: so do tasks, timers, and what places hold; desktops stay."""
        self._closed = True
        if self._end is not None:
            self._end.cancel()
        for _, timer in self._absent.values():
            timer.cancel()
        await asyncio.gather(*(yard.aclose() for yard in self._yards.values()))
        if self._tidying is not None:
            await tasks.end(self._tidying)
        runners = (*self._by_name().values(), *self._leaving)
        await _in_time("what was asked of a place did not end", *(runner.aclose() for runner in runners))
        await _in_time("a place did not let go", *(yard.place.aclose() for yard in self._yards.values()))

    # Who is wanted

    def _begin(self, runner: Runner) -> None:
        """A desktop that is new in the roster: its policy has the word. One that cannot be started says so at once."""
        if runner.view.policy in (None, Policy.EAGER) and not self._is_shut:
            runner.start()

    def _update(self, runner: Runner, account: Account) -> None:
        is_other = _asked_by(account) != _asked_by(runner.view.account)
        runner.update(account)
        if is_other and runner.state in (DesktopState.FAILED, DesktopState.STOPPED):
            runner.stop("")
            self._begin(runner)

    def _want(self, runner: Runner) -> None:
        """Start a desktop, or give it one of its pool."""
        if runner.in_pool:
            runner.start()
            return
        if not self._give_one(runner):
            runner.start()
        self._fill(self._kind_of(runner))

    def _give_one(self, runner: Runner) -> bool:
        """Give an account that has nothing yet a desktop of its pool, and say whether there was one."""
        account, name, size = runner.view.account, self._kind_of(runner), runner.view.wanted.size
        ready = self._pools.ready(name)
        if ready is None or not runner.view.has_nothing or size not in ("", self._settings.kinds[name].size):
            return False
        self._pools.remove(ready)
        self._runners[account.name] = ready
        ready.give(account, runner.view.chosen)
        if runner.state is not DesktopState.STOPPED:
            self._retire(runner, "one of the pool was ready sooner")
        return True

    def _hand_out(self) -> None:
        """Give those who wait in line what has become ready in a pool."""
        for runner in list(self._runners.values()):
            if runner.want is Want.UP and runner.view.has_nothing and self._give_one(runner):
                self._fill()

    def _fill(self, asked: str = "") -> None:
        if not (self._is_over or self._is_shut or self._closed):
            self._pools.fill(asked)

    def _take_up(self, roster: Roster) -> None:
        """What is on disk, each as its account's, as a pool's, or as nobody's any more."""
        found, self._found = self._found, []
        newest = {entry.account: entry for entry in found}
        for entry in found:
            runner = self._runners.get(entry.account) if newest[entry.account] is entry else None
            if not entry.account and entry.want is Want.UP and entry.kind in self._settings.kinds:
                runner = self._pools.add(entry.kind)
            if runner is None:
                runner = Runner(self._all, Account(entry.account, None, "", None, Secret("")))
                runner.adopt(entry)
                if entry.account and newest[entry.account] is entry:
                    self._lose(runner, roster)
                else:
                    self._retire(runner, _REMOVED)
            else:
                runner.adopt(entry)
        for ending in self._endings:
            if runner := self._runners.get(ending.account):
                self._recall(runner, ending)
        if gone := [ending.account for ending in self._endings if ending.account not in self._runners]:
            self._tidying = tasks.spawn(self._all.store.forget(gone), "forget ended desktops", expected=OSError)
        self._endings = []

    def _recall(self, runner: Runner, ending: Ending) -> None:
        """Where the policy is not to start it with every daemon, and it was not found on disk."""
        if runner.state is DesktopState.STOPPED and runner.view.policy not in (None, Policy.EAGER):
            runner.view.recall(ending)

    def _lose(self, runner: Runner, roster: Roster) -> None:
        """Its account is none of ours any more. What somebody's work may be in stays for a while."""
        if runner.name in roster or runner.handle is None or runner.want is Want.DOWN:
            self._retire(runner, _REMOVED)
            return
        log.warning(_ABSENT, extra={"account": runner.name})
        runner.view.notice = _ABSENT
        timer = asyncio.get_running_loop().call_later(GRACE, self._give_up, runner.name)
        self._absent[runner.name] = runner, timer

    def _missed(self) -> list[Runner]:
        return [runner for runner, _ in self._absent.values()]

    def _give_up(self, name: str) -> None:
        runner, timer = self._absent.pop(name)
        timer.cancel()
        self._retire(runner, _REMOVED)

    def _take_back(self, name: str) -> Runner | None:
        """What is left of the desktop of an account that is ours again: never are there two of one account. One that is
        being ended may be wanted again.
        """
        if name in self._absent:
            runner, timer = self._absent.pop(name)
            timer.cancel()
            runner.view.notice = ""
            log.info("the account is in the token file again: its desktop stays", extra={"account": name})
            return runner
        leaving = (runner for runner in self._leaving if runner.name == name and runner.handle)
        if found := next(leaving, None):
            self._leaving.remove(found)
            found.is_leaving = False
        return found

    def _retire(self, runner: Runner, reason: str) -> None:
        """End it for good."""
        self._leaving.add(runner)
        runner.is_leaving = True
        runner.stop(reason)
        self._note(runner.name)

    def _await_end(self) -> None:
        """End everything when the workshop is over."""
        if self._settings.end is None:
            return
        left = self._settings.end.timestamp() - self._all.wall_clock()
        if left > 0:
            soon = min(left, CLOCK_LOOK)
            self._end = asyncio.get_running_loop().call_later(soon, self._await_end)
            return
        log.info("%s: all desktops end", OVER)
        self._is_over = True
        self._end_all()

    def _end_all(self) -> None:
        for runner in self._by_name().values():
            runner.stop(OVER)

    # Bookkeeping

    def _kind_of(self, runner: Runner) -> str:
        return runner.view.wanted.kind or self._settings.default_kind

    def _by_name(self) -> dict[str, Runner]:
        """All desktops, those of no account of the roster's behind the accounts'."""
        return {**self._runners, **{runner.name: runner for runner in (*self._pools, *self._missed())}}

    def _named(self, patterns: Iterable[str], word: str) -> dict[str, Runner]:
        """The runners of names, or of patterns as a shell's (`ws0*`); each once."""
        if self._closed:
            raise ControlError("the gate is being stopped")
        known = self._by_name()
        found = {pattern: fnmatch.filter(known, pattern) for pattern in patterns}
        if unknown := [pattern for pattern, names in found.items() if not names]:
            raise ControlError(f"no desktop is started for: {', '.join(unknown)}")
        named = {name: known[name] for name in itertools.chain.from_iterable(found.values())}
        for name in named:
            log.info("an operator's desktop %s", word, extra={"account": name})
        return named

    def _note(self, name: str) -> None:
        if not self._news:
            asyncio.get_running_loop().call_soon(self._tell)
        self._news.add(name)

    def _tell(self) -> None:
        news, self._news = frozenset(self._news), set()
        self._leaving = {runner for runner in self._leaving if runner.state is not DesktopState.STOPPED}
        for name in [runner.name for runner in self._missed() if runner.handle is None]:
            self._give_up(name)
        names = frozenset(name for name in news if name in self._runners)
        if names != news and not self._closed:
            self._hand_out()  # it may be one of a pool that is ready now
        if names and not self._closed:
            self._changed(names)


async def _in_time(trouble: str, *closing: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await asyncio.gather(*closing)
    except TimeoutError:
        log.warning("%s within %g s", trouble, CLOSE_TIMEOUT)
