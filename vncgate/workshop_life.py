"""The workshop's life, lived: steps are taken when they are due, organizers' words are followed, figures are kept.

What has been done is in the ledger before anything else is, so that a gate that is killed goes on where it was. END
and PURGE are several deeds one after the other; each may be done twice, and what a deed could not do is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vncgate import tasks, workshop
from vncgate.errors import VncgateError, WorkshopError
from vncgate.languages import N_
from vncgate.model import DesktopState
from vncgate.people import AuditEntry, Standing
from vncgate.viewer_notes import Notes
from vncgate.workshop import CLOCK, IS_OPEN, OVER, Command, Phase, Record, Step, WorkshopSettings

if TYPE_CHECKING:
    from vncgate.launcher import Launcher
    from vncgate.ledger import Ledger
    from vncgate.seating import Seating
    from vncgate.takeaway.archives import Archives

log = logging.getLogger(__name__)

NOTE, CAME = "workshop", "workshop came"
"""The ledger's notes: the record, and the accounts whose desktops somebody used."""
LONGEST_PAUSE = 30.0
"""Seconds between two looks at the clock, whatever is due: it may be set, and the machine may sleep."""
JUMP = 30.0
"""Seconds by which the wall's clock and the machine's differ when one of them was set, or the machine slept."""
SETTLE = 120.0
"""Seconds after a jump in which the clock does nothing: who set it wrong may set it right."""
LAST_WORDS = 60.0
"""Seconds between the last note and the first desktop that is closed."""
WORDS_OF_OVER = N_("the workshop is over")
"""Why they are, as their participants read it."""
AT_ONCE = 8
"""Desktops that are closed at the same time."""
PATIENCE = 120.0
"""Seconds that these have; then the next ones are closed beside them."""
LOOK = 0.5
"""Seconds between two looks at desktops that are being closed."""
AGAIN = 30.0
"""Seconds until a deed that failed is tried again."""
MINUTE = 60.0
"""Seconds between two records of figures."""
MOST_FIGURES = 50_000
"""Records of figures: more than a month of minutes. Then no more are kept."""

Figures = Mapping[str, float]


class Life:
    """The life of one workshop. `start()` takes it up where the ledger says it is, `run()` lives it."""

    def __init__(
        self,
        settings: WorkshopSettings,
        ledger: Ledger,
        seating: Seating,
        launcher: Launcher,
        notes: Notes,
        *,
        archives: Archives | None = None,
        rekey: Callable[[], Awaitable[str]],
        figures: Callable[[], tuple[Figures, frozenset[str]]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rekey` gives desktops new passwords, and tells in words what is left to do; `figures` is what is recorded
        each minute, and the accounts whose desktops are in use. Without `archives` nobody takes files home.
        """
        self._settings = settings
        self._ledger = ledger
        self._seating = seating
        self._launcher = launcher
        self._notes = notes
        self._archives = archives
        self._rekey = rekey
        self._figures = figures
        self._now = now
        self._clock = clock
        self._record = workshop.first(settings)
        self._changing = asyncio.Lock()
        self._woken = asyncio.Event()
        self._progress = ""
        self._trouble = ""
        self._came: set[str] = set()
        self._kept = 0
        self._last = now(), clock()
        self._steady_from = clock()

    # ---- what is ----

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return self._record.phase

    @property
    def is_over(self) -> bool:
        """Whether it has ended: nobody signs up any more."""
        return self.phase in OVER

    @property
    def has_files(self) -> bool:
        """Whether people may move files now: at their desktops, and at home for as long as files are kept for them."""
        return self.phase in IS_OPEN or (self.phase is Phase.ENDED and self._archives is not None)

    def opens(self, account: str) -> bool:
        """Whether the desktop of `account` may be used now. Who has more time goes on after the end."""
        return self._record.is_open or (self.phase is Phase.ENDED and self._stays(account))

    def status(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        record, coming = self._record, workshop.next_step(self._settings, self._record)
        work = record.work
        return {
            "title": self._settings.title,
            "phase": record.phase,
            "frozen": record.frozen,
            "next": {"step": coming[1], "at": coming[0].isoformat()} if coming else None,
            "work": {"step": work.step, "by": work.by, "done": list(work.deeds)} if work else None,
            "progress": self._progress,
            "trouble": self._trouble,
            "said": list(record.said),
        }

    async def plan(self, command: Command) -> list[str]:
        """What an organizer's word would do now, a line each. Raises WorkshopError where it may not be given."""
        workshop.ordered(self._record, command, self._now(), "")
        match command:
            case Command.OPEN:
                return ["people can sign in and use their desktops, whatever the times say"]
            case Command.FREEZE:
                return ["nobody new can sign in; who is signed in goes on, and is told"]
            case Command.END:
                return await self._plan_of_end()
            case Command.PURGE:
                return await self._plan_of_purge()

    async def _plan_of_end(self) -> list[str]:
        running, seats = self._running(everybody=True), self._seating.seats()
        return [
            f"who is connected is told, and {LAST_WORDS:.0f} s later the first desktop is closed",
            f"{_count(len(running), 'desktop')} of the gate's own, {AT_ONCE} at a time: {' '.join(running) or 'none'}",
            f"sessions, links and shares of {_count(len(seats), 'seat')} end",
            f"archives are built for {_count(len(seats), 'account')}" if self._archives else "there are no archives",
            "the token file gets new VNC passwords, or you are told the command for it",
        ]

    async def _plan_of_purge(self) -> list[str]:
        people = await self._ledger.people()
        archives = [each for each in self._archives.statuses() if each.state != "none"] if self._archives else []
        return [
            f"sessions, links and shares of {_count(len(self._seating.seats()), 'seat')} end",
            f"{_count(len(archives), 'archive')} removed",
            f"{len(people)} people, with their answers, mails, PINs and shares; the audit log stays, and names nobody",
            "figures without names stay, for the report",
        ]

    async def report(self, *, names: bool) -> dict[str, Any]:
        """What the report is made of, as JSON values; the names of those who came only with `names`."""
        people = await self._ledger.people()
        counts = Counter(person.standing for person in people)
        sits = {person.account: person.name for person in people if person.account}
        settings, came = self._settings, sorted(self._came)
        return {
            "title": settings.title,
            "place": settings.place,
            "opens": settings.doors_open.isoformat() if settings.doors_open else None,
            "ends": settings.ends.isoformat() if settings.ends else None,
            "phase": self.phase,
            "accounts": len(self._seating.seats()),
            "came": len(came),
            "names": [[account, sits.get(account, "")] for account in came] if names else None,
            "people": {str(standing): counts[standing] for standing in Standing},
            "figures": [[when.isoformat(), figures] for when, figures in await self._ledger.recorded()],
        }

    def closed(self, account: str) -> str:
        """Why the desktop of `account` may not be used now, as its participant reads it; empty where it may."""
        if self.opens(account):
            return ""
        return WORDS_OF_OVER if self.is_over else N_("the workshop has not begun yet")

    # ---- what organizers say ----

    async def order(self, command: Command, by: str) -> dict[str, Any]:
        """Follow an organizer's word, and return the status; END and PURGE go on after that. Raises WorkshopError."""
        async with self._changing:
            before = self._record
            record = workshop.ordered(before, command, self._now(), by)
            if not (before.work and record.work and before.work.step is record.work.step):
                await self._keep(record)
                await self._audit(by, f"workshop {command}")
                log.info("workshop: %s, by %s", command, by)
            await self._enforce()
            if command is Command.FREEZE and not before.frozen:
                self._tell(N_("Nobody new can sign in for now. You can go on."))
        self._woken.set()
        return self.status()

    # ---- living ----

    async def start(self) -> None:
        """Take up what the ledger has."""
        if text := await self._ledger.get_note(NOTE):
            try:
                self._record = Record.from_json(text)
            except (ValueError, LookupError, TypeError) as error:
                raise WorkshopError(f"the ledger's note {NOTE!r} is no record of ours: {error}") from None
        with contextlib.suppress(ValueError):
            self._came = set(json.loads(await self._ledger.get_note(CAME) or "[]"))
        self._kept = len(await self._ledger.recorded())
        await self._enforce()

    async def run(self) -> None:
        """Take each step when it is due, until cancelled."""
        while True:
            self._woken.clear()
            pause = LONGEST_PAUSE
            try:
                pause = await self._live()
                self._trouble = ""
            except (VncgateError, OSError) as error:
                if str(error) != self._trouble:
                    log.error("workshop: %s; it is tried again", error)
                self._trouble, pause = str(error), AGAIN
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    async def keep_figures(self) -> None:
        """Record figures once a minute, until cancelled."""
        while True:
            await asyncio.sleep(MINUTE)
            if self.phase in IS_OPEN and self._kept < MOST_FIGURES:
                try:
                    await self._keep_figures()
                except VncgateError as error:
                    log.warning("workshop: a minute's figures are lost: %s", error)

    async def _keep_figures(self) -> None:
        figures, used = self._figures()
        await self._ledger.record(self._now(), figures)
        self._kept += 1
        if not used <= self._came:
            self._came |= used
            await self._ledger.set_note(CAME, json.dumps(sorted(self._came)))

    async def _live(self) -> float:
        """Do what is to be done now; returns seconds until there may be more."""
        while work := self._record.work:
            await self._work_on(work)
        if not self._is_steady():
            return LONGEST_PAUSE
        while row := workshop.due(self._settings, self._record, self._now()):
            await self._take(*row)
            if self._record.work:
                return 0.0
        await self._close_late()
        coming = workshop.next_step(self._settings, self._record)
        left = (coming[0] - self._now()).total_seconds() if coming else LONGEST_PAUSE
        return min(LONGEST_PAUSE, max(0.0, left))

    def _is_steady(self) -> bool:
        """Whether the clock can be believed: it was not set lately."""
        wall, clock = self._now(), self._clock()
        (wall_before, clock_before), self._last = self._last, (wall, clock)
        ahead = (wall - wall_before).total_seconds() - (clock - clock_before)
        if abs(ahead) > JUMP:
            log.warning("the clock jumped by %+.0f s; for %.0f s no step of the workshop is taken by it", ahead, SETTLE)
            self._steady_from = clock + SETTLE
        return clock >= self._steady_from

    async def _take(self, when: datetime, step: Step) -> None:
        async with self._changing:
            record = workshop.after(self._record, step, when)
            if record is None:
                log.warning("workshop: %s is passed over: it is %s", step, self.phase)
                await self._keep(workshop.passed(self._record, when))
                return
            await self._keep(record)
            log.info("workshop: %s", step)
            await self._audit(CLOCK, f"workshop: {step}")
            await self._enforce()
            self._tell_of(step)

    def _tell_of(self, step: Step) -> None:
        closes = self._settings.closes
        left = round((closes - self._now()).total_seconds() / 60) if closes else 0
        if step in workshop.WARNINGS and left > 0:
            self._tell(N_("The workshop ends in {minutes} minutes. Save your work.", minutes=left), closes)
        elif step is Step.TIME_UP and left > 0:
            text = N_("The workshop is over; desktops stay open for {minutes} minutes. Save your work.", minutes=left)
            self._tell(text, closes)

    async def _close_late(self) -> None:
        """Those who had more time than the others: theirs is up, too."""
        if self.phase is Phase.ENDED and (late := self._running()):
            await self._launcher.stop_desktops(late, WORDS_OF_OVER)
            if self._archives:
                await self._archives.build(late)

    async def _enforce(self) -> None:
        """What follows from the phase, for who knocks and for who is in. Before the doors open people may sign in, but
        not to their desktops; after the end they may for their files.
        """
        self._launcher.shut(on=self.phase not in IS_OPEN)
        is_let_in = not self._record.frozen and (not self.is_over or self.has_files)
        if self._seating.is_frozen == is_let_in:
            await self._seating.freeze(on=not is_let_in)
        await self._seating.roster_changed()

    # ---- END and PURGE ----

    async def _work_on(self, work: workshop.Work) -> None:
        for name, deed in self._deeds(work.step).items():
            if name in work.deeds:
                continue
            self._progress = name
            said = await deed()
            async with self._changing:
                work = replace(work, deeds=(*work.deeds, name))
                lines = (*self._record.said, said) if said else self._record.said
                await self._keep(replace(self._record, work=work, said=lines))
            if name == workshop.GOODBYE:
                await self._enforce()
        self._progress = ""
        async with self._changing:
            await self._keep(replace(self._record, work=None))
            await self._audit(work.by, f"workshop: {work.step}, done")
        for line in self._record.said:
            log.info("workshop: %s: %s", work.step, line)

    def _deeds(self, step: Step) -> Mapping[str, Callable[[], Awaitable[str]]]:
        """What END and PURGE are made of, in this order."""
        first = {"desktops": self._close_desktops, "seats": self._renew_seats}
        if step is Step.END:
            then = {"archives": self._build_archives, "passwords": self._rekey}
            return {workshop.GOODBYE: self._say_goodbye, **first, **then}
        return {**first, "archives": self._remove_archives, "people": self._purge}

    async def _say_goodbye(self) -> str:
        by = self._record.work.by if self._record.work else CLOCK
        if by != CLOCK:  # it beats all times, those of single seats too
            for account in filter(self._has_more_time, self._seating.seats()):
                await self._seating.extend(account, None, by)
        if self._figures()[1]:  # somebody is there to read it
            self._tell(N_("The workshop has ended. Your desktop is closed in a minute: save your work now."))
            await asyncio.sleep(LAST_WORDS)
        return ""

    async def _close_desktops(self) -> str:
        names = self._running()
        for at in range(0, len(names), AT_ONCE):
            batch = names[at : at + AT_ONCE]
            self._progress = f"desktops: {at} of {len(names)} closed"
            await self._launcher.stop_desktops(batch, WORDS_OF_OVER)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    while set(self._running()) & set(batch):  # noqa: ASYNC110  (a status is all there is)
                        await asyncio.sleep(LOOK)
        left = self._running()
        words = f"{_count(len(names) - len(left), 'desktop')} closed"
        return f"{words}; still being closed: {' '.join(left)}" if left else words

    async def _renew_seats(self) -> str:
        names = [account for account in self._seating.seats() if not self._stays(account)]
        by = self._record.work.by if self._record.work else CLOCK
        for number, account in enumerate(names):
            self._progress = f"seats: {number} of {len(names)}"
            await self._seating.renew(account, by)
        return f"sessions and links of {_count(len(names), 'seat')} ended"

    async def _build_archives(self) -> str:
        """Those that were built since the end, by the gate before this one, are good."""
        if self._archives is None:
            return ""
        end, archives = self._record.passed.timestamp(), self._archives
        if old := [account for account in self._seating.seats() if archives.status(account).when < end]:
            await archives.build(old)
        waiting = tasks.spawn(archives.wait(), "wait for archives")
        try:
            while not waiting.done():
                states = Counter(archives.status(account).state for account in old)
                self._progress = f"archives: {len(old) - states['waiting'] - states['building']} of {len(old)}"
                await asyncio.wait([waiting], timeout=LOOK)
        finally:
            await tasks.end(waiting)
        failed = [each for each in archives.statuses() if each.state == "failed"]
        words = f"{_count(len(self._seating.seats()) - len(failed), 'archive')} built"
        return "; ".join([words, *(f"none of {each.account}: {each.reason}" for each in failed)])

    async def _remove_archives(self) -> str:
        return f"{_count(len(await self._archives.remove()), 'archive')} removed" if self._archives else ""

    async def _purge(self) -> str:
        gone = await self._seating.purge()
        return "removed: " + (
            ", ".join(f"{count} {what}" for what, count in gone.items() if count) or "nothing was left"
        )

    # ---- bookkeeping ----

    def _running(self, *, everybody: bool = False) -> list[str]:
        """The accounts whose desktops are there, in the token file's order."""
        gone = (DesktopState.STOPPED, DesktopState.FAILED)
        statuses = [each for each in self._launcher.statuses() if each.state not in gone]
        return [each.account for each in statuses if everybody or not self._stays(each.account)]

    def _stays(self, account: str) -> bool:
        """Whether it goes on after the end: somebody at it has more time."""
        if self.phase is Phase.PURGED:
            return False
        shown_by = [name for name, seat in self._seating.seats().items() if account in (name, seat.shows)]
        return any(map(self._has_more_time, shown_by))

    def _has_more_time(self, account: str) -> bool:
        seat = self._seating.seats().get(account)
        return bool(seat and seat.until and seat.until > self._now())

    def _tell(self, text: str, until: datetime | None = None) -> None:
        self._notes.post(self._now(), text, until=until or self._now() + timedelta(minutes=2))

    async def _keep(self, record: Record) -> None:
        await self._ledger.set_note(NOTE, record.to_json())
        self._record = record

    async def _audit(self, by: str, what: str) -> None:
        await self._ledger.note(AuditEntry(self._now(), by, what))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
