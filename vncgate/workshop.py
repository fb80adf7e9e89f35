"""The workshop's life: its times, the phase that it is in, and what comes next. Pure; the clock is passed in.

    PLANNED -sign-up-> SIGN_UP -doors-> OPEN -time is up-> OVERTIME -end-> ENDED -files-> CLOSED -purge-> PURGED

The times of `[workshop]` do this by themselves, and so does an organizer's word, which beats them. A step whose time
has passed is done once: a Record knows up to when all has been done, and is kept in the ledger.
"""

from __future__ import annotations

import enum
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from vncgate.errors import WorkshopError
from vncgate.kinds import Section


def _moment(value: object) -> object:
    if value in ("", None):
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("write it with its zone, as 2026-03-06T18:00:00+01:00")
    return value


Moment = Annotated[datetime | None, BeforeValidator(_moment)]


class WorkshopSettings(Section):
    """The workshop itself: what cards and the report say of it, and its times. What has no time is done by `vncgate
    workshop` alone; those that are written are in the order in which they stand here.
    """

    title: str = ""
    """What it is called, on cards and in the report. Empty: the landing page's title."""
    place: str = ""
    """Where it is, for the report, such as "Lecture hall 2"."""
    wifi: str = ""
    """What cards say of the network there, such as "Wi-Fi: guests, password: neutron-26"."""
    signup_opens: Moment = None
    """When people can sign up, as 2026-03-02T09:00:00+01:00. None: as [signup] says."""
    doors_open: Moment = None
    """When desktops can be used; people can sign in before. None: as soon as the gate runs."""
    ends: Moment = None
    """When it ends. 15 and 5 minutes before desktops are closed, people are warned in their viewers. None: never by
    itself."""
    overtime: Annotated[float, Field(ge=0, le=604800, strict=True, allow_inf_nan=False)] = 0.0
    """Seconds after `ends` at which desktops are closed, archives built, and sessions and links ended."""
    files_until: Moment = None
    """Until when people can take their files home. None: until the purge."""
    purge: Moment = None
    """When personal data and archives are removed. None: never by itself."""

    @model_validator(mode="after")
    def _in_order(self) -> WorkshopSettings:
        known = [(name, when) for name, when in self._moments() if when]
        for (earlier, before), (later, after) in itertools.pairwise(known):
            if after <= before:
                raise ValueError(f"{later} ({after}) must be after {earlier} ({before})")
        return self

    def _moments(self) -> Iterator[tuple[str, datetime | None]]:
        yield from (("signup_opens", self.signup_opens), ("doors_open", self.doors_open))
        yield from (("ends", self.ends), ("the end of overtime", self.closes if self.overtime else None))
        yield from (("files_until", self.files_until), ("purge", self.purge))

    @property
    def closes(self) -> datetime | None:
        """When desktops are closed: the end, and overtime."""
        return self.ends + timedelta(seconds=self.overtime) if self.ends else None


class Phase(enum.StrEnum):
    """How far it has come."""

    PLANNED = "planned"
    SIGN_UP = "sign-up"
    OPEN = "open"
    OVERTIME = "overtime"
    ENDED = "ended"
    CLOSED = "closed"
    PURGED = "purged"


class Step(enum.StrEnum):
    """What the clock, or an organizer, does next. In the order of a workshop."""

    SIGN_UP = "sign-up opens"
    DOORS = "doors open"
    WARN_15 = "warning, 15 minutes before"
    WARN_5 = "warning, 5 minutes before"
    TIME_UP = "overtime begins"
    END = "desktops are closed"
    FILES = "files are closed"
    PURGE = "personal data are removed"


class Command(enum.StrEnum):
    """An organizer's word."""

    OPEN = "open"
    FREEZE = "freeze"
    END = "end"
    PURGE = "purge"


CLOCK = "the clock"
"""Who takes steps when they are due."""
WARNINGS = {Step.WARN_15: timedelta(minutes=15), Step.WARN_5: timedelta(minutes=5)}
IS_OPEN = frozenset({Phase.OPEN, Phase.OVERTIME})
"""Phases in which people use their desktops."""
OVER = frozenset({Phase.ENDED, Phase.CLOSED, Phase.PURGED})
"""Phases after its end."""
GOODBYE = "note"
"""The deed of END in which people save their work; until it is done they use their desktops."""
_WORK = {Command.END: Step.END, Command.PURGE: Step.PURGE}
_NEWS = frozenset({Step.WARN_15, Step.WARN_5, Step.TIME_UP})
"""Steps that tell people something, of which only the last is of use."""

STEPS: Mapping[tuple[Phase, Step], Phase] = {
    (Phase.PLANNED, Step.SIGN_UP): Phase.SIGN_UP,
    (Phase.PLANNED, Step.DOORS): Phase.OPEN,
    (Phase.PLANNED, Step.END): Phase.ENDED,
    (Phase.SIGN_UP, Step.DOORS): Phase.OPEN,
    (Phase.SIGN_UP, Step.END): Phase.ENDED,
    (Phase.OPEN, Step.WARN_15): Phase.OPEN,
    (Phase.OPEN, Step.WARN_5): Phase.OPEN,
    (Phase.OPEN, Step.TIME_UP): Phase.OVERTIME,
    (Phase.OPEN, Step.END): Phase.ENDED,
    (Phase.OVERTIME, Step.WARN_15): Phase.OVERTIME,
    (Phase.OVERTIME, Step.WARN_5): Phase.OVERTIME,
    (Phase.OVERTIME, Step.END): Phase.ENDED,
    (Phase.ENDED, Step.FILES): Phase.CLOSED,
    (Phase.ENDED, Step.PURGE): Phase.PURGED,
    (Phase.CLOSED, Step.PURGE): Phase.PURGED,
}
"""What the clock does. A step that is not here for a phase is passed over: an organizer was there first."""
COMMANDS: Mapping[tuple[Phase, Command], Phase] = {
    **{(phase, Command.OPEN): Phase.OPEN for phase in Phase},
    (Phase.OVERTIME, Command.OPEN): Phase.OVERTIME,
    (Phase.OPEN, Command.FREEZE): Phase.OPEN,
    (Phase.OVERTIME, Command.FREEZE): Phase.OVERTIME,
    **{(phase, Command.END): Phase.ENDED for phase in Phase if phase not in (Phase.CLOSED, Phase.PURGED)},
    (Phase.ENDED, Command.PURGE): Phase.PURGED,
    (Phase.CLOSED, Command.PURGE): Phase.PURGED,
    (Phase.PURGED, Command.PURGE): Phase.PURGED,
}
"""What an organizer may do. END and PURGE again do again what was left undone."""


@dataclass(frozen=True, slots=True)
class Work:
    """END or PURGE under way: `deeds` are those that are done, so that whoever goes on with it does none twice."""

    step: Step
    by: str
    deeds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """What has been done, as the ledger keeps it. All steps up to `passed` were; `said` is what END or PURGE had to
    tell, a line each.
    """

    phase: Phase
    passed: datetime
    frozen: bool = False
    work: Work | None = None
    said: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether people use their desktops: also while they are told of the end."""
        is_ending = self.work is not None and self.work.step is Step.END and GOODBYE not in self.work.deeds
        return self.phase in IS_OPEN or is_ending

    def to_json(self) -> str:
        """As a note in the ledger."""
        return json.dumps({**asdict(self), "passed": self.passed.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The reverse. Raises ValueError, LookupError or TypeError for what is none."""
        body = json.loads(text)
        work: Mapping[str, Any] | None = body["work"]
        return cls(
            Phase(body["phase"]),
            datetime.fromisoformat(body["passed"]),
            frozen=bool(body["frozen"]),
            work=Work(Step(work["step"]), str(work["by"]), tuple(map(str, work["deeds"]))) if work else None,
            said=tuple(map(str, body["said"])),
        )


def first(settings: WorkshopSettings) -> Record:
    """The record of a workshop that nothing has been done for."""
    phase = Phase.PLANNED if settings.signup_opens else Phase.SIGN_UP if settings.doors_open else Phase.OPEN
    return Record(phase, datetime.min.replace(tzinfo=UTC))


def timetable(settings: WorkshopSettings) -> list[tuple[datetime, Step]]:
    """All steps that have a time, in the order of their times."""
    closes = settings.closes
    times: dict[Step, datetime | None] = {
        Step.SIGN_UP: settings.signup_opens,
        Step.DOORS: settings.doors_open,
        **{step: closes - before if closes else None for step, before in WARNINGS.items()},
        Step.TIME_UP: settings.ends if settings.overtime else None,
        Step.END: closes,
        Step.FILES: settings.files_until,
        Step.PURGE: settings.purge,
    }
    return sorted(((when, step) for step, when in times.items() if when), key=lambda row: row[0])


def next_step(settings: WorkshopSettings, record: Record) -> tuple[datetime, Step] | None:
    """What the clock does next, and when: maybe in the past. None: nothing more."""
    rows = timetable(settings)
    return next((row for row in rows if row[0] > record.passed and (record.phase, row[1]) in STEPS), None)


def due(settings: WorkshopSettings, record: Record, now: datetime) -> tuple[datetime, Step] | None:
    """The step to be taken now, if any. Of those that were missed, while nobody looked, only what still matters: the
    doors are not opened to be closed at once, and nobody is warned of what is past. `after()` passes over the others.
    """
    missed = [row for row in timetable(settings) if record.passed < row[0] <= now]
    ends = any(step is Step.END for _, step in missed)
    if ends:
        return next(row for row in missed if row[1] is Step.END)
    news = [row for row in missed if row[1] in _NEWS]
    return next((row for row in missed if row[1] not in _NEWS), news[-1] if news else None)


def after(record: Record, step: Step, when: datetime, by: str = CLOCK) -> Record | None:
    """The record once `step`, which was due at `when`, is taken; None where it is passed over in this phase."""
    phase = STEPS.get((record.phase, step))
    if phase is None:
        return None
    work = _begun(record, step, by) if step in (Step.END, Step.PURGE) else record.work
    frozen = record.frozen and phase in IS_OPEN
    said = () if step in (Step.END, Step.PURGE) else record.said
    return replace(record, phase=phase, passed=max(record.passed, when), frozen=frozen, work=work, said=said)


def _begun(record: Record, step: Step, by: str) -> Work:
    """Where nobody has been in, there is nobody to say goodbye to."""
    return Work(step, by, () if record.phase in IS_OPEN else (GOODBYE,))


def passed(record: Record, when: datetime) -> Record:
    """The record with all steps up to `when` done or passed over."""
    return replace(record, passed=max(record.passed, when))


def ordered(record: Record, command: Command, now: datetime, by: str) -> Record:
    """The record after an organizer's word: what the clock had to do until now is done with. Raises WorkshopError."""
    phase = COMMANDS.get((record.phase, command))
    if phase is None:
        raise WorkshopError(_why_not(record.phase, command))
    if record.work and record.work.step != _WORK.get(command):
        raise WorkshopError(f"{record.work.step} right now; wait until that is done (vncgate workshop status)")
    if record.work:
        return record  # it goes on
    if step := _WORK.get(command):
        changed = replace(record, work=_begun(record, step, by), said=(), frozen=False)
    else:
        changed = replace(record, frozen=command is Command.FREEZE)
    return passed(replace(changed, phase=phase), now)


def _why_not(phase: Phase, command: Command) -> str:
    match command:
        case Command.PURGE:
            return f"the workshop is {phase}: nothing is removed before its end (vncgate workshop end)"
        case Command.FREEZE:
            return f"the workshop is {phase}: only one that is open can be frozen"
        case _:
            return f"the workshop is {phase} already"
