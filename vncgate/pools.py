"""Desktops that are started beforehand: kept ready, given out, ended when there are too many."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator

from vncgate.desktop_runner import Runner, Shared
from vncgate.kinds import Policy
from vncgate.model import Account, DesktopState, Secret, Want


class Pools:
    """The pools of all kinds; iterating gives the desktops that nobody has yet. `retire(runner, reason)` ends one for
    good.
    """

    def __init__(self, shared: Shared, retire: Callable[[Runner, str], None]) -> None:
        self._all = shared
        self._retire = retire
        self._pools: defaultdict[str, list[Runner]] = defaultdict(list)
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Runner]:
        return itertools.chain(*self._pools.values())

    def add(self, kind: str) -> Runner:
        """One more, which does nothing yet. Its name is `pool:KIND:NUMBER`, which no account can have."""
        account = Account(f"pool:{kind}:{next(self._numbers)}", None, "", None, Secret(""), kind=kind)
        runner = Runner(self._all, account, in_pool=True)
        self._pools[kind].append(runner)
        return runner

    def ready(self, kind: str) -> Runner | None:
        """One that runs."""
        return next((runner for runner in self._pools[kind] if runner.view.usable), None)

    def remove(self, runner: Runner) -> None:
        """It is somebody's now."""
        self._pools[runner.view.account.kind].remove(runner)

    def fill(self, asked: str = "") -> None:
        """Keep as many ready as there are to be. One that failed is tried again; one that an operator ended stays so
        until somebody asks for a desktop of its kind, as now of `asked`.
        """
        settings = self._all.settings
        for name, kind in settings.kinds.items():
            pool = self._pools[name]
            wanted = kind.pool if kind.policy is Policy.POOL and not settings.personal(kind) else 0
            while len(pool) > wanted:
                self._retire(pool.pop(), "the pool is full")
            while len(pool) < wanted:
                self.add(name).start()
            for runner in pool:
                if runner.state is DesktopState.FAILED or (name == asked and runner.want is Want.DOWN):
                    runner.start()
