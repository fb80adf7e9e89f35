"""One place over time: whose turn it is to be started there, on which host, and who is looked at when.

Starts are first come, first served, a few at a time and one after the other. While the place does not answer, one start
at a time finds out whether it does again, with longer and longer waits; all others wait for that.

All desktops of a place share one timer; in each round those that are due are asked for together, and a place that
answers slowly for one delays no other.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from vncgate import tasks
from vncgate.desktop_life import delay_after
from vncgate.kinds import DockerPlace, LocalPlace, SlurmPlace, SshPlace
from vncgate.launchers.base import Handle, Place, Seen, Sighting

log = logging.getLogger(__name__)

LOGINS_AT_ONCE = 16
"""Desktops of a place that are logged in to at the same time."""
ENDS_AT_ONCE = 16
"""Desktops of a place that are ended at the same time."""
HOST_REST = 60.0
"""Seconds for which a host on which a start failed gets desktops only where all others failed too: one that is down has
the fewest desktops, and would attract every start.
"""
LONGEST_SILENCE = 30.0
"""Seconds between two starts, at most, while a place does not answer; the first are tried after 1, 2, 4, ..."""
GRID = 0.25
"""Desktops are looked at on multiples of this many seconds, so that many share a round."""


class Guest(Protocol):
    """What a yard needs of a desktop."""

    @property
    def name(self) -> str:
        """Whose it is."""

    @property
    def in_pool(self) -> bool:
        """Whether nobody waits for it."""

    @property
    def handle(self) -> Handle | None:
        """By what its place finds it; None: it is not there."""

    def turn(self) -> None:
        """It may be started now."""

    def line_moved(self) -> None:
        """It waits, and its position in the line may be another."""

    def seen(self, sighting: Sighting) -> None:
        """It was looked at."""

    def next_look(self) -> float:
        """Seconds until it is to be looked at again."""


class Yard:
    """A place, its settings, and the desktops that are there or want to be. `silence` is, in words, why it does not
    answer when it is asked for one; empty: it does.
    """

    def __init__(self, name: str, settings: LocalPlace | SshPlace | SlurmPlace | DockerPlace, place: Place) -> None:
        self.name = name
        self.settings = settings
        self.place = place
        self.logins = asyncio.Semaphore(LOGINS_AT_ONCE)
        self.ends = asyncio.Semaphore(ENDS_AT_ONCE)
        self.silence = ""
        self._line: dict[Guest, None] = {}
        self._tickets: dict[Guest, int] = {}
        self._numbers = itertools.count()
        self._asking: set[Guest] = set()
        self._misses = 0
        self._next_start = 0.0
        self._start_timer: asyncio.TimerHandle | None = None
        self._positions: dict[str, int] | None = None
        self._starting: set[Guest] = set()
        self._there: set[Guest] = set()
        self._watched: set[Guest] = set()
        self._resting: dict[str, float] = {}
        self._due: dict[Guest, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._calling = False
        self._rounds: set[asyncio.Task[None]] = set()

    @property
    def queue_timeout(self) -> float:
        """Seconds that a desktop may wait in the place's own queue; 0: for ever."""
        return self.settings.queue_timeout if isinstance(self.settings, SlurmPlace) else 0.0

    def line_up(self, guest: Guest) -> None:
        """Have it wait for its turn, behind all who came before; only those that nobody waits for let everybody else
        pass.
        """
        self._tickets.setdefault(guest, next(self._numbers))
        line = [*self._line, guest]
        self._line = dict.fromkeys(sorted(line, key=lambda waiting: (waiting.in_pool, self._tickets[waiting])))
        self._call()

    def position_of(self, name: str) -> int:
        """Which in the line it is, from 1 on; 0: it does not wait."""
        if self._positions is None:
            self._positions = {waiting.name: number for number, waiting in enumerate(self._line, 1)}
        return self._positions.get(name, 0)

    def is_full(self) -> bool:
        """Whether no more desktops may be there at the same time."""
        return 0 < self.settings.most <= len(self._there)

    def arrive(self, guest: Guest) -> None:
        """It is there without having waited: a daemon before this one had started it."""
        self._there.add(guest)

    def heard(self, guest: Guest) -> None:
        """The place answered when it was asked for it, whatever it said."""
        self._asking.discard(guest)
        self._tickets.pop(guest, None)
        if self.silence:
            log.info("%s answers again", self.name)
            self.silence, self._misses, self._next_start = "", 0, 0.0
        self._call()

    def missed(self, guest: Guest, host: str, words: str) -> None:
        """The place, or this host of it, did not answer when it was asked for it: it will line up again."""
        self._asking.discard(guest)
        self._starting.discard(guest)
        self._there.discard(guest)
        self.blame(host)
        now = asyncio.get_running_loop().time()
        if all(self._resting.get(each, 0.0) > now for each in self.place.hosts):
            if not self.silence:
                log.warning("%s does not answer: %s; desktops wait until it does", self.name, words)
            self.silence = words
            if not self._asking:  # the last of those who asked at the same time
                self._misses += 1
                self._next_start = now + min(LONGEST_SILENCE, delay_after(self._misses, 0.0))
        self._call()

    def settle(self, guest: Guest) -> None:
        """It is not being started any more: it runs, or waits in the place's own queue."""
        if guest in self._starting:
            self._starting.discard(guest)
            self._call()

    def withdraw(self, guest: Guest) -> None:
        """It is to be ended: it waits for no turn, and is not looked at."""
        self._watched.discard(guest)
        self._due.pop(guest, None)
        self._tickets.pop(guest, None)
        if guest in self._line:
            del self._line[guest]
            self._call()

    def leave(self, guest: Guest) -> None:
        """Nothing of it is left there."""
        self._there.discard(guest)
        self._starting.discard(guest)
        self._asking.discard(guest)
        self._call()

    def choose_host(self) -> str:
        """The host with the fewest desktops; empty where the place chooses by itself."""
        hosts: Sequence[str] = self.place.hosts
        if not hosts:
            return ""
        used = Counter(guest.handle.host for guest in self._there if guest.handle)
        now = asyncio.get_running_loop().time()
        return min(hosts, key=lambda host: (max(now, self._resting.get(host, 0.0)), used[host]))

    def blame(self, host: str) -> None:
        """A start on this host failed."""
        self._resting[host] = asyncio.get_running_loop().time() + HOST_REST

    def watch(self, guest: Guest) -> None:
        """Look at it from now on, at once for the first time."""
        self._watched.add(guest)
        self.look_soon(guest)

    def look_soon(self, guest: Guest) -> None:
        """Look at a watched desktop now, unless it is being looked at."""
        if guest in self._watched:
            self._plan(guest, asyncio.get_running_loop().time())

    async def aclose(self) -> None:
        """Look at nothing any more, and start nothing; what runs stays."""
        self._line.clear()
        self._watched.clear()
        self._due.clear()
        for timer in (self._timer, self._start_timer):
            if timer is not None:
                timer.cancel()
        await tasks.end(*self._rounds)

    def _call(self) -> None:
        """Let those whose turn it is start, once this turn of the loop is over."""
        self._positions = None
        if not self._calling:
            self._calling = True
            asyncio.get_running_loop().call_soon(self._call_now)

    def _call_now(self) -> None:
        self._calling = False
        while self._line and self._may_start():
            guest = next(iter(self._line))
            del self._line[guest]
            for group in (self._starting, self._there, self._asking):
                group.add(guest)
            self._next_start = asyncio.get_running_loop().time() + 1 / self.settings.starts_per_second
            guest.turn()
        self._positions = None
        for guest in self._line:
            guest.line_moved()

    def _may_start(self) -> bool:
        """Whether it is time for the next start; where that is only a matter of time, a timer calls then."""
        if len(self._starting) >= self.settings.starts_at_once or self.is_full() or (self.silence and self._asking):
            return False
        loop = asyncio.get_running_loop()
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        if loop.time() >= self._next_start:
            return True
        self._start_timer = loop.call_at(self._next_start, self._call_now)
        return False

    def _plan(self, guest: Guest, when: float) -> None:
        self._due[guest] = when
        if when < self._timer_at:
            self._set_timer(when)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # (uvloop's timers do not tell when they are due.)
        self._timer, self._timer_at = asyncio.get_running_loop().call_at(when, self._round), when

    def _round(self) -> None:
        """Look at all that are due, in a task of its own, and plan the next round."""
        self._timer, self._timer_at = None, math.inf
        now = asyncio.get_running_loop().time()
        due = [guest for guest, when in self._due.items() if when <= now]
        for guest in due:
            del self._due[guest]
        if self._due:
            self._set_timer(min(self._due.values()))
        if due:
            task = tasks.spawn(self._look(due), f"look at {self.name}")
            self._rounds.add(task)
            task.add_done_callback(self._rounds.discard)

    async def _look(self, due: list[Guest]) -> None:
        await asyncio.gather(*map(self._look_at, due))

    async def _look_at(self, guest: Guest) -> None:
        handle = guest.handle
        if handle is None:
            return
        try:
            sighting = await self.place.query(handle)
        except Exception as error:  # a defect of one place must not end the watching
            log.error("a defect: %s could not be looked at", guest.name, exc_info=error, extra={"account": guest.name})
            sighting = Sighting(Seen.UNKNOWN, reason="it could not be looked at; the gate's log says why")
        if guest not in self._watched or guest.handle != handle:
            return
        try:
            guest.seen(sighting)
        finally:
            if guest in self._watched and guest not in self._due:
                when = asyncio.get_running_loop().time() + guest.next_look()
                self._plan(guest, math.ceil(when / GRID) * GRID)
