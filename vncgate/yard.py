"""One place over time: whose turn it is to be started there, on which host, and who is looked at when.

Starts are first come, first served, a few at a time and one after the other. A start that gets no answer says something
of that desktop, whose user's home may hang, and nothing of the place: it is tried again after all others, with longer
and longer waits. Only when nothing answered there since two desktops were asked for in vain, the place, or that host of
it, is silent; then one start at a time finds out whether it answers again, another desktop's each time, and all others
wait for that.

All desktops of a place share one timer; in each round those that are due are asked for together, and a place that
answers slowly for one delays no other.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
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
"""Seconds between two starts, at most, while a place does not answer, at all or for one desktop; the first are tried
after 1, 2, 4, ...
"""
SILENT = 2
"""Desktops that must have been asked for in vain on a host that answered nobody since, for it to be silent."""
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


@dataclass
class Unheard:
    """A desktop whose last start got no answer: why, in words; how many in a row; when that was, when it may be tried
    again, and when each host was asked in vain.
    """

    words: str = ""
    misses: int = 0
    last: float = 0.0
    again: float = 0.0
    hosts: dict[str, float] = field(default_factory=dict)


class Yard:
    """A place, its settings, and the desktops that are there or want to be."""

    def __init__(self, name: str, settings: LocalPlace | SshPlace | SlurmPlace | DockerPlace, place: Place) -> None:
        self.name = name
        self.settings = settings
        self.place = place
        self.logins = asyncio.Semaphore(LOGINS_AT_ONCE)
        self.ends = asyncio.Semaphore(ENDS_AT_ONCE)
        self._silence = ""
        self._line: dict[Guest, None] = {}
        self._tickets: dict[Guest, int] = {}
        self._numbers = itertools.count()
        self._asking: set[Guest] = set()
        self._asked: dict[str, tuple[str, float]] = {}
        self._unheard: dict[str, Unheard] = {}
        self._doubts: defaultdict[str, set[str]] = defaultdict(set)
        self._silent_hosts: dict[str, float] = {}
        self._answers: dict[str, float] = {}
        self._last_asked: dict[str, float] = {}
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
        self._line[guest] = None
        self._sort()
        self._call()

    def silence(self, name: str) -> str:
        """In words, why its start gets no answer; empty: nobody knows of a reason why it should not."""
        unheard = self._unheard.get(name)
        return self._silence or (unheard.words if unheard and not self._left_for(unheard) else "")

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
        self._unheard.pop(guest.name, None)
        host, _ = self._asked.pop(guest.name, ("", 0.0))
        self._answered(host)
        self._call()

    def missed(self, guest: Guest, host: str, words: str) -> None:
        """It was asked for there (empty: where the place chooses), and nobody answered: it will line up again."""
        for group in (self._asking, self._starting, self._there):
            group.discard(guest)
        now = asyncio.get_running_loop().time()
        _, began = self._asked.pop(guest.name, ("", now))
        unheard = self._unheard.setdefault(guest.name, Unheard())
        unheard.words, unheard.last, unheard.hosts[host] = words, now, now
        unheard.misses += 1
        unheard.again = now + (0.0 if self._left_for(unheard) else _wait_after(unheard.misses))
        self._doubt(guest.name, host, began, words)
        if unheard.misses == 1 and not self._silence:
            words = "%s does not answer: %s; it is asked for this one again, and for others meanwhile"
            log.warning(words, self.name, unheard.words, extra={"account": guest.name})
        if self._silence and not self._asking:  # the last of those who asked at the same time
            self._misses += 1
            self._next_start = now + _wait_after(self._misses)
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
        self._unheard.pop(guest.name, None)
        if guest in self._line:
            del self._line[guest]
            self._call()

    def leave(self, guest: Guest) -> None:
        """Nothing of it is left there."""
        self._there.discard(guest)
        self._starting.discard(guest)
        self._asking.discard(guest)
        self._unheard.pop(guest.name, None)
        self._call()

    def choose_host(self, name: str) -> str:
        """Where it is asked for now: the host with the fewest desktops, of those that answered; empty where the place
        chooses by itself.
        """
        now = asyncio.get_running_loop().time()
        host = self._best_host(name, now)
        self._asked[name] = host, now
        self._last_asked[host] = now
        return host

    def _best_host(self, name: str, now: float) -> str:
        hosts: Sequence[str] = self.place.hosts
        if not hosts:
            return ""
        used = Counter(guest.handle.host for guest in self._there if guest.handle)
        silent = self._unheard[name].hosts if name in self._unheard else {}

        def rank(host: str) -> tuple[float, float, int, float]:
            rest, own, asked = self._rest_of(host), silent.get(host, 0.0), self._last_asked.get(host, 0.0)
            return max(now, rest), own, used[host], asked if self._silence else 0.0

        return min(hosts, key=rank)

    def _rest_of(self, host: str) -> float:
        return max(self._resting.get(host, 0.0), self._silent_hosts.get(host, 0.0))

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
        while guest := self._next():
            del self._line[guest]
            for group in (self._starting, self._there, self._asking):
                group.add(guest)
            self._next_start = asyncio.get_running_loop().time() + 1 / self.settings.starts_per_second
            guest.turn()
        self._positions = None
        for guest in self._line:
            guest.line_moved()

    def _next(self) -> Guest | None:
        """Whose turn it is now; where that is only a matter of time, a timer calls then."""
        if not self._line or len(self._starting) >= self.settings.starts_at_once or self.is_full():
            return None
        if self._silence and self._asking:
            return None
        loop = asyncio.get_running_loop()
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        now = loop.time()
        guest = min(self._line, key=lambda waiting: self._wait_of(waiting, now))  # the first of equal ones
        when = max(self._next_start, now + self._wait_of(guest, now))
        if when <= now:
            return guest
        self._start_timer = loop.call_at(when, self._call_now)
        return None

    def _wait_of(self, guest: Guest, now: float) -> float:
        """Seconds until it may be asked for once more."""
        unheard = self._unheard.get(guest.name)
        return max(0.0, unheard.again - now) if unheard and not self._silence else 0.0

    def _left_for(self, unheard: Unheard) -> bool:
        """Whether there are hosts where it was not asked for yet."""
        return len(unheard.hosts) < len(self.place.hosts)

    def _sort(self) -> None:
        """First come, first served; behind all others who got no answer, the last of them last."""

        def rank(guest: Guest) -> tuple[bool, float, int]:
            unheard = self._unheard.get(guest.name)
            return guest.in_pool, unheard.last if unheard else 0.0, self._tickets[guest]

        self._line = dict.fromkeys(sorted(self._line, key=rank))

    def _answered(self, host: str) -> None:
        """Whatever was asked there, for whomever: somebody answers."""
        self._answers[host] = asyncio.get_running_loop().time()
        self._doubts.pop(host, None)
        self._silent_hosts.pop(host, None)
        if self._silence:
            log.info("%s answers again", self.name)
            self._silence, self._misses, self._next_start = "", 0, 0.0
            self._unheard.clear()  # that was the place's silence: nobody is to lose their turn by it
            self._sort()
            self._call()

    def _doubt(self, name: str, host: str, began: float, words: str) -> None:
        """What was asked there for it at `began` was not answered."""
        if self._answers.get(host, -math.inf) >= began:
            return  # it answers others
        self._doubts[host].add(name)
        if len(self._doubts[host]) < SILENT:
            return
        now = asyncio.get_running_loop().time()
        self._silent_hosts[host] = now + HOST_REST
        if all(self._rest_of(each) > now for each in self.place.hosts or ("",)):
            if not self._silence:
                log.warning("%s does not answer: %s; desktops wait until it does", self.name, words)
            self._silence = words

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
        began = asyncio.get_running_loop().time()
        try:
            sighting = await self.place.query(handle)
            if sighting.seen is Seen.UNKNOWN:
                self._doubt(guest.name, handle.host, began, sighting.reason)
            else:
                self._answered(handle.host)
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


def _wait_after(misses: int) -> float:
    return min(LONGEST_SILENCE, delay_after(misses, 0.0))
