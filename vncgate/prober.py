"""Keeps true what is known of one desktop, while its proxy runs: it is probed when `readiness` says so."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from vncgate import tasks
from vncgate.errors import DesktopError
from vncgate.model import Account, Readiness
from vncgate.readiness import Finding

log = logging.getLogger(__name__)

PROBES_AT_ONCE = 16
"""Desktops that are probed at the same time."""


@dataclass(frozen=True)
class Probing:
    """What all probers share. `probe` logs in to an account's desktop and raises DesktopError where that fails;
    `interval` is in seconds.
    """

    probe: Callable[[Account], Coroutine[Any, Any, object]]
    interval: float
    chance: Callable[[], float] = random.random
    at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def begin(self) -> None:
        """Probe from now on. Until then all who are to be probed wait: the start of many accounts is no slower."""
        for _ in range(PROBES_AT_ONCE):
            self.at_once.release()


class Prober:
    """One account's. `finding` is what is known; it probes from now on until `end()`, but never while `in_use()`."""

    def __init__(self, account: Account, shared: Probing, in_use: Callable[[], bool]) -> None:
        self.finding = Finding()
        self._account = account
        self._shared = shared
        self._in_use = in_use
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._plan()

    def update(self, account: Account) -> None:
        """The account's password or names changed: what was found is forgotten, and it is probed anew."""
        self._account = account
        self.finding = Finding()
        self._plan()

    def suspect(self, reason: str, readiness: Readiness = Readiness.OFFLINE) -> None:
        """A browser could not be connected to the desktop: it is offline until a probe succeeds. Or the gate logged in
        for a browser, and the password was wrong: that counts as a probe that found so.
        """
        wrong = readiness is Readiness.WRONG_PASSWORD
        self._note(self.finding.found(readiness, reason) if wrong else self.finding.suspected(reason))
        self._plan()

    def stop(self) -> None:
        """Probe no more; its task, if there is one, ends soon."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def end(self) -> None:
        """Probe no more; its task has ended when this returns."""
        self.stop()
        if self._task is not None:
            await tasks.end(self._task)

    def _plan(self) -> None:
        """Wait for the next probe, unless one is under way, which plans the next by itself.

        A timer costs a tenth of the memory of a task that sleeps.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None or self._ended:
            return
        wait = self.finding.next_after(self._shared.interval, self._shared.chance())
        if wait is not None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._due)

    def _due(self) -> None:
        self._timer = None
        # Where the gate logs in, a password that was wrong may be right by now, and nobody else would find out.
        if self._in_use() and not (self._account.guarded and self.finding.wrong):
            self._note(self.finding.in_use())
            self._plan()
        else:
            self._task = tasks.spawn(self._run(), f"probe {self._account.name}")

    async def _run(self) -> None:
        try:
            await self._probe()
        finally:
            self._task = None
            self._plan()

    async def _probe(self) -> None:
        account = self._account
        try:
            async with self._shared.at_once:
                await self._shared.probe(account)
        except DesktopError as error:
            finding = self.finding.found(error.readiness, str(error))
        except Exception as error:  # a defect of ours must not end the probing
            log.error("the desktop could not be probed", exc_info=error, extra={"account": account.name})
            finding = self.finding.found(Readiness.OFFLINE, "the desktop could not be probed; the gate's log says why")
        else:
            finding = self.finding.found(Readiness.READY)
        if account is self._account:  # else it was updated meanwhile, and this is about the past
            self._note(finding)

    def _note(self, finding: Finding) -> None:
        if finding.readiness is not self.finding.readiness:
            level = logging.INFO if finding.readiness is Readiness.READY else logging.WARNING
            words = finding.reason or f"desktop {self._account.desktop} is {finding.readiness}"
            log.log(level, "%s", words, extra={"account": self._account.name})
        self.finding = finding
