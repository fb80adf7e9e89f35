"""A run: everybody arrives, the clockwork asks each in turn, and the report says what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import itertools
import ssl
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from vncgate import tasks
from vncgate.rehearsal.latencies import Latencies
from vncgate.rehearsal.plan import Plan, Target
from vncgate.rehearsal.player import Company, Player
from vncgate.rehearsal.report import SILENCE, Report

STEP = 0.002
"""Seconds between two turns of the clockwork, at least: more often a loop cannot be woken reliably."""
EARLY = 0.001
"""Seconds that somebody may be asked too soon: loops wake on whole milliseconds."""
FAREWELL = 5.0
"""Seconds that connections have to close at the end."""

_clock = time.perf_counter


class Rehearsal:
    """One run, in the running loop. `targets` has an entry for each participant; seats may be shared.

    async with Rehearsal(targets, plan) as rehearsal:
        await rehearsal.arrive()
        rehearsal.reset()  # where only what follows counts
        await rehearsal.go_on(60)
        report = rehearsal.report()
    """

    def __init__(self, targets: Sequence[Target], plan: Plan, context: ssl.SSLContext | None = None) -> None:
        self._plan = plan
        self._changed = asyncio.Event()
        self._company = company = Company(plan, context, self._changed.set)
        seats: dict[str, itertools.count[int]] = {}
        self._players = []
        for target in targets:
            number = next(seats.setdefault(target.name, itertools.count(1)))
            self._players.append(Player(target.name if number == 1 else f"{target.name}#{number}", target, company))
        count = max(1, min(len(self._players), int(company.interval / STEP)))
        self._slots = [self._players[first::count] for first in range(count)]
        self._slot = 0
        self._step = company.interval / count
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._since = _clock()
        self._cpu = time.process_time()

    async def arrive(self) -> None:
        """Let everybody in, over `plan.ramp` seconds; ends when all are logged in or have failed."""
        self.reset()
        if self._step:
            self._due = _clock() + self._step
            self._turn()
        loop = asyncio.get_running_loop()
        arrivals = []
        began = loop.time()
        try:
            for place, player in enumerate(self._players):
                wait = began + self._plan.ramp * place / len(self._players) - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                arrivals.append(tasks.spawn(player.arrive(), f"{player.name} arrives"))
            await asyncio.gather(*arrivals)
        finally:
            await tasks.end(*arrivals)

    async def go_on(self, seconds: float) -> None:
        """Play for `seconds`, or until nobody is left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._until(lambda: not self._company.playing)

    def reset(self) -> None:
        """Count requests, answers, bytes and CPU anew; what is known of arrivals and drops stays."""
        report = self._company.report
        report.updates = report.asked = report.late = report.bytes_down = report.bytes_up = 0
        report.latency, report.lag = Latencies(), Latencies()
        self._since, self._cpu = _clock(), time.process_time()

    def report(self) -> Report:
        """What was counted until now."""
        return dataclasses.replace(
            copy.deepcopy(self._company.report),
            participants=len(self._players),
            playing=self._company.playing,
            silent=[player.name for player in self._players if player.waits(SILENCE)],
            seconds=_clock() - self._since,
            cpu=time.process_time() - self._cpu,
        )

    async def aclose(self) -> None:
        """Let everybody leave; ends when all connections are closed."""
        if self._timer is not None:
            self._timer.cancel()
        for player in self._players:
            player.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self._until(lambda: not self._company.open)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _turn(self) -> None:
        """One timer for all: whoever is due is asked, spread evenly over the interval."""
        now = _clock()
        self._company.report.lag.observe(max(0.0, now - self._due))
        while self._due <= now + EARLY:
            for player in self._slots[self._slot]:
                player.ask()
            self._slot = (self._slot + 1) % len(self._slots)
            self._due += self._step
        self._timer = asyncio.get_running_loop().call_later(max(EARLY, self._due - _clock()), self._turn)


async def play(targets: Sequence[Target], plan: Plan, context: ssl.SSLContext | None = None) -> Report:
    """A whole run: everybody arrives, plays for `plan.seconds`, and leaves."""
    async with Rehearsal(targets, plan, context) as rehearsal:
        await rehearsal.arrive()
        await rehearsal.go_on(plan.seconds)
        return rehearsal.report()
