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
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

from vncgate.desktop_runner import Runner, Shared
from vncgate.errors import ControlError
from vncgate.kinds import DesktopsSettings, Policy
from vncgate.launchers.base import Place
from vncgate.model import Account, Desktop, DesktopState, DesktopStatus, Roster, Secret, Want
from vncgate.store import Entry, Store
from vncgate.yard import Yard

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds that all places together have to let go of their connections, when the daemon ends."""
OVER = "the workshop is over"
_REMOVED = "the account was removed"
_OPENED = (Policy.ON_DEMAND, Policy.POOL)


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
        self._pools: dict[str, list[Runner]] = {}
        self._leaving: set[Runner] = set()
        self._found: list[Entry] = []
        self._numbers = itertools.count(1)
        self._is_over = False
        self._closed = False
        self._end: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Read what is on disk; the first `apply()` takes it up. Raises OSError where the folder cannot be read."""
        self._found = await self._all.store.load()
        if self._found:
            log.info("%d desktops of a daemon before this one are on disk", len(self._found))
        for name, kind in self._settings.kinds.items():
            if kind.policy is Policy.POOL and kind.pool and not self._settings.personal(kind):
                words = (
                    "kind %s: no pool is kept, for its user, home, overlay or binds name the {account}; on demand then"
                )
                log.warning(words, name)
        self._await_end()

    def apply(self, roster: Roster) -> None:
        """Make `roster` true: its accounts without a desktop of their own are ours, the desktops of all others end."""
        ours = {name: account for name, account in roster.items() if account.desktop is None}
        for name in self._runners.keys() - ours.keys():
            self._retire(self._runners.pop(name), _REMOVED)
        new = [Runner(self._all, account) for name, account in ours.items() if name not in self._runners]
        for name, runner in self._runners.items():
            if runner.view.account != ours[name]:
                self._update(runner, ours[name])
        known = {**self._runners, **{runner.name: runner for runner in new}}
        self._runners = {name: known[name] for name in ours}
        self._take_up()
        for runner in new:
            if runner.state is DesktopState.STOPPED:
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

    def located(self) -> dict[str, Desktop]:
        """Where browsers are led, by account."""
        return {name: runner.view.led_to for name, runner in self._runners.items() if runner.view.led_to}

    def password(self, name: str) -> Secret | None:
        """What an account's desktop asks for: the account's password, or one of ours where it has none."""
        runner = self._runners.get(name)
        return runner.view.password if runner else None

    async def start_desktops(self, names: Iterable[str]) -> list[str]:
        """Ask for desktops; returns their accounts at once, statuses say how it goes on.

        A name may be a pattern as a shell's (`ws0*`). Raises ControlError for one that no account of ours has, and when
        the workshop is over.
        """
        runners = self._named(names, "start")
        if self._is_over:
            raise ControlError(OVER)
        for runner in runners:
            self._want(runner)
        return [runner.name for runner in runners]

    async def stop_desktops(self, names: Iterable[str]) -> list[str]:
        """End desktops, as `start_desktops()` asks for them."""
        runners = self._named(names, "stop")
        for runner in runners:
            runner.stop("stopped by the organizers")
        return [runner.name for runner in runners]

    async def restart_desktops(self, names: Iterable[str]) -> list[str]:
        """End desktops and start them anew, as `start_desktops()` does."""
        runners = self._named(names, "restart")
        if self._is_over:
            raise ControlError(OVER)
        for runner in runners:
            runner.stop("restarted by the organizers")
            self._want(runner)
        return [runner.name for runner in runners]

    def visit(self, name: str) -> None:
        """The participant opened the page: a desktop that starts on demand does so now."""
        runner = self._runners.get(name)
        if runner is None or self._is_over or self._policy(runner) not in _OPENED:
            return
        if runner.want is Want.DOWN and runner.state is not DesktopState.FAILED:
            self._want(runner)

    def retry(self, name: str) -> None:
        """The participant asks for it, whatever became of it before; but one that an operator is to start stays so."""
        runner = self._runners.get(name)
        if runner is None or self._is_over:
            return
        if self._policy(runner) is not Policy.MANUAL or runner.state is DesktopState.FAILED:
            self._want(runner)

    def stay(self, name: str) -> None:
        """The participant wants to stay: the time in which nobody uses the desktop begins anew."""
        self.used(name, asyncio.get_running_loop().time())

    def used(self, name: str, at: float) -> None:
        """Somebody pressed a key or moved a pointer at `at`, on the loop's clock."""
        if runner := self._runners.get(name):
            runner.used(at)

    async def logs(self, name: str, lines: int = 200) -> str:
        """The end of what an account's session wrote, or the one before it. Raises ControlError for an account that is
        not ours, LaunchError where its place cannot be reached.
        """
        if (runner := self._runners.get(name)) is None:
            raise ControlError(f"no such account: {name}")
        return await runner.logs(lines)

    async def aclose(self) -> None:
        """The daemon ends: so do tasks, timers, and what places hold; desktops stay."""
        self._closed = True
        if self._end is not None:
            self._end.cancel()
        await asyncio.gather(*(yard.aclose() for yard in self._yards.values()))
        await asyncio.gather(*(runner.aclose() for runner in (*self._everybody(), *self._leaving)))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.gather(*(yard.place.aclose() for yard in self._yards.values()))
        except TimeoutError:
            log.warning("a place did not let go within %g s", CLOSE_TIMEOUT)

    # Who is wanted

    def _policy(self, runner: Runner) -> Policy | None:
        return runner.view.kind.policy if runner.view.kind else None

    def _begin(self, runner: Runner) -> None:
        """A desktop that is new in the roster: its policy has the word. One that cannot be started says so at once."""
        if self._policy(runner) in (None, Policy.EAGER):
            runner.start()

    def _update(self, runner: Runner, account: Account) -> None:
        is_other = (account.kind, account.size) != (runner.view.account.kind, runner.view.account.size)
        runner.update(account)
        if is_other and runner.state in (DesktopState.FAILED, DesktopState.STOPPED):
            runner.stop("")
            self._begin(runner)

    def _want(self, runner: Runner) -> None:
        """Start a desktop, or give it one of its pool."""
        if not self._give_one(runner):
            runner.start()
        self._fill()

    def _give_one(self, runner: Runner) -> bool:
        """Give an account that has nothing yet a desktop of its pool, and say whether there was one."""
        account = runner.view.account
        name = account.kind or self._settings.default_kind
        pool = self._pools.get(name, [])
        ready = next((each for each in pool if each.view.usable), None)
        if ready is None or not runner.view.has_nothing or account.size not in ("", self._settings.kinds[name].size):
            return False
        pool.remove(ready)
        self._runners[account.name] = ready
        ready.give(account)
        if runner.state is not DesktopState.STOPPED:
            self._retire(runner, "one of the pool was ready sooner")
        return True

    def _hand_out(self) -> None:
        """Give those who wait in line what has become ready in a pool."""
        for runner in list(self._runners.values()):
            if runner.want is Want.UP and runner.view.has_nothing and self._give_one(runner):
                self._fill()

    def _fill(self) -> None:
        """Keep as many desktops ready as the pools are to have; one that failed is tried again."""
        if self._is_over or self._closed:
            return
        for name, kind in self._settings.kinds.items():
            wanted = kind.pool if kind.policy is Policy.POOL and not self._settings.personal(kind) else 0
            pool = self._pools.setdefault(name, [])
            while len(pool) > wanted:
                self._retire(pool.pop(), "the pool is full")
            while len(pool) < wanted:
                pool.append(self._pool_runner(name))
            for runner in pool:
                if runner.state in (DesktopState.STOPPED, DesktopState.FAILED):
                    runner.start()

    def _take_up(self) -> None:
        """What is on disk, each as its account's, as a pool's, or as nobody's any more."""
        found, self._found = self._found, []
        newest = {entry.account: entry for entry in found}
        for entry in found:
            runner = self._runners.get(entry.account) if newest[entry.account] is entry else None
            if not entry.account and entry.want is Want.UP and entry.kind in self._settings.kinds:
                runner = self._pool_runner(entry.kind)
                self._pools.setdefault(entry.kind, []).append(runner)
            if runner is None:
                runner = Runner(self._all, Account(entry.account, None, "", None, Secret("")))
                runner.adopt(entry)
                self._retire(runner, _REMOVED)
            else:
                runner.adopt(entry)

    def _retire(self, runner: Runner, reason: str) -> None:
        """End it for good."""
        self._leaving.add(runner)
        runner.stop(reason)
        self._note(runner.name)

    def _await_end(self) -> None:
        """End everything when the workshop is over."""
        if self._settings.end is None:
            return
        left = self._settings.end.timestamp() - self._all.wall_clock()
        if left > 0:
            self._end = asyncio.get_running_loop().call_later(left, self._await_end)
            return
        log.info("%s: all desktops end", OVER)
        self._is_over = True
        self._end_all()

    def _end_all(self) -> None:
        for runner in self._everybody():
            runner.stop(OVER)

    # Bookkeeping

    def _pool_runner(self, kind: str) -> Runner:
        account = Account(f"pool:{kind}:{next(self._numbers)}", None, "", None, Secret(""), kind=kind)
        return Runner(self._all, account, in_pool=True)

    def _everybody(self) -> Iterator[Runner]:
        return itertools.chain(self._runners.values(), *self._pools.values())

    def _named(self, patterns: Iterable[str], word: str) -> list[Runner]:
        """The runners of names, or of patterns as a shell's (`ws0*`); each once."""
        if self._closed:
            raise ControlError("the gate is being stopped")
        found = {pattern: fnmatch.filter(self._runners, pattern) for pattern in patterns}
        if unknown := [pattern for pattern, names in found.items() if not names]:
            raise ControlError(f"no desktop is started for: {', '.join(unknown)}")
        runners = [self._runners[name] for name in dict.fromkeys(itertools.chain.from_iterable(found.values()))]
        for runner in runners:
            log.info("an operator's desktop %s", word, extra={"account": runner.name})
        return runners

    def _note(self, name: str) -> None:
        if not self._news:
            asyncio.get_running_loop().call_soon(self._tell)
        self._news.add(name)

    def _tell(self) -> None:
        news, self._news = frozenset(self._news), set()
        self._leaving = {runner for runner in self._leaving if runner.state is not DesktopState.STOPPED}
        names = frozenset(name for name in news if name in self._runners)
        if names != news and not self._closed:
            self._hand_out()  # it may be one of a pool that is ready now
        if names and not self._closed:
            self._changed(names)
