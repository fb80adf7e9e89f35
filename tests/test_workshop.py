"""The workshop's phases and steps, pure: order of times, every phase x step, what is missed, records in JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vncgate import workshop
from vncgate.errors import WorkshopError
from vncgate.workshop import COMMANDS, IS_OPEN, STEPS, Command, Phase, Record, Step, Work, WorkshopSettings

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(hours):
    return START + hours * HOUR


WHOLE = WorkshopSettings(
    signup_opens=at(0), doors_open=at(10), ends=at(18), overtime=3600.0, files_until=at(100), purge=at(200)
)


def live(settings, *times, record=None):
    """The steps that are taken by who looks at the clock at these times, and the record then."""
    record, taken = record or workshop.first(settings), []
    for now in times:
        while row := workshop.due(settings, record, now):
            then = workshop.after(record, row[1], row[0])
            taken += [row[1]] if then else []
            record = then or workshop.passed(record, row[0])
            record = Record(record.phase, record.passed, record.frozen)  # the work is done at once
    return taken, record


def test_a_whole_workshop_by_the_clock():
    taken, record = live(WHOLE, *(at(hours / 12) for hours in range(-12, 12 * 201)))
    assert taken == [
        Step.SIGN_UP, Step.DOORS, Step.TIME_UP, Step.WARN_15, Step.WARN_5, Step.END, Step.FILES, Step.PURGE
    ]  # fmt: skip
    assert record.phase is Phase.PURGED
    assert workshop.next_step(WHOLE, record) is None


def test_without_times_it_is_open_and_nothing_is_due():
    nothing = WorkshopSettings()
    assert workshop.first(nothing).phase is Phase.OPEN
    assert workshop.due(nothing, workshop.first(nothing), at(1e5)) is None


@pytest.mark.parametrize(
    ("hours", "taken", "phase"),
    [
        (-1, [], Phase.PLANNED),
        (5, [Step.SIGN_UP], Phase.SIGN_UP),
        (12, [Step.SIGN_UP, Step.DOORS], Phase.OPEN),
        (18.95, [Step.SIGN_UP, Step.DOORS, Step.WARN_5], Phase.OPEN),
        (50, [Step.END], Phase.ENDED),
        (150, [Step.END, Step.FILES], Phase.CLOSED),
        (300, [Step.END, Step.FILES, Step.PURGE], Phase.PURGED),
    ],
)
def test_of_what_was_missed_only_what_matters_is_done(hours, taken, phase):
    found, record = live(WHOLE, at(hours))
    assert (found, record.phase) == (taken, phase)


def test_a_step_is_taken_once_whatever_the_clock_does():
    taken, record = live(WHOLE, at(12), at(3), at(12), at(-50), at(13))
    assert taken == [Step.SIGN_UP, Step.DOORS]
    assert record.passed == at(10)


def test_later_times_come_again():
    _, record = live(WHOLE, at(18.95))
    longer = WHOLE.model_copy(update={"ends": at(30), "overtime": 0.0})
    taken, _ = live(longer, at(29.8), at(29.95), at(30), record=record)
    assert taken == [Step.WARN_15, Step.WARN_5, Step.END]


def test_an_organizers_word_beats_the_times():
    early = workshop.ordered(workshop.first(WHOLE), Command.OPEN, at(-5), "op")
    assert early.phase is Phase.OPEN
    taken, record = live(WHOLE, at(0), at(10), at(11), record=early)
    assert (taken, record.phase) == ([], Phase.OPEN)
    frozen = workshop.ordered(record, Command.FREEZE, at(12), "op")
    assert frozen.frozen
    assert not workshop.ordered(frozen, Command.OPEN, at(12), "op").frozen
    ended = workshop.ordered(frozen, Command.END, at(13), "op")
    assert (ended.phase, ended.work, ended.frozen) == (Phase.ENDED, Work(Step.END, "op"), False)
    assert workshop.next_step(WHOLE, ended) == (at(100), Step.FILES)
    taken, record = live(WHOLE, at(18), at(19), at(99), record=Record(ended.phase, ended.passed))
    assert (taken, record.phase) == ([], Phase.ENDED)
    again = workshop.ordered(record, Command.OPEN, at(110), "op")
    taken, record = live(WHOLE, at(120), at(300), record=again)
    assert (taken, record.phase) == ([], Phase.OPEN), "nothing is removed while people are in"


def test_what_may_not_be_now_says_what_may():
    with pytest.raises(WorkshopError, match="nothing is removed before its end"):
        workshop.ordered(Record(Phase.OPEN, START), Command.PURGE, at(1), "op")
    under_way = Record(Phase.ENDED, START, work=Work(Step.END, "op", ("note",)))
    with pytest.raises(WorkshopError, match="wait until that is done"):
        workshop.ordered(under_way, Command.OPEN, at(1), "op")
    with pytest.raises(WorkshopError, match="wait until that is done"):
        workshop.ordered(under_way, Command.PURGE, at(1), "op")
    assert workshop.ordered(under_way, Command.END, at(1), "other") is under_way, "it goes on"


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("step", Step)
def test_every_phase_and_step(phase, step):
    record = Record(phase, START)
    then = workshop.after(record, step, at(1))
    if (phase, step) in STEPS:
        assert (then.phase, then.passed) == (STEPS[phase, step], at(1))
        assert bool(then.work) == (step in (Step.END, Step.PURGE))
        assert then.is_open == (then.phase in IS_OPEN or (step is Step.END and phase in IS_OPEN))
    else:
        assert then is None


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("command", Command)
def test_every_phase_and_command(phase, command):
    record = Record(phase, START)
    if (phase, command) in COMMANDS:
        assert workshop.ordered(record, command, at(1), "op").phase is COMMANDS[phase, command]
    else:
        with pytest.raises(WorkshopError):
            workshop.ordered(record, command, at(1), "op")
        assert record == Record(phase, START)


times = st.floats(min_value=-100, max_value=400).map(at)


@given(st.lists(times, max_size=30), st.lists(st.tuples(times, st.sampled_from(Command)), max_size=3))
def test_however_the_clock_goes_no_step_is_taken_twice_without_a_word(looks, words):
    record, seen = workshop.first(WHOLE), []
    for now, command in sorted([*((look, None) for look in looks), *words], key=lambda row: row[0]):
        if command is not None:
            try:
                record = Record(workshop.ordered(record, command, now, "op").phase, now)
            except WorkshopError:
                continue
            seen = []
            continue
        taken, record = live(WHOLE, now, record=record)
        seen += taken
        assert len(seen) == len(set(seen))
        assert workshop.due(WHOLE, record, now) is None
        assert workshop.next_step(WHOLE, record) is None or workshop.next_step(WHOLE, record)[0] > now


@given(
    st.builds(
        Record,
        st.sampled_from(Phase),
        times,
        frozen=st.booleans(),
        work=st.none() | st.builds(Work, st.sampled_from(Step), st.text(), st.lists(st.text()).map(tuple)),
        said=st.lists(st.text()).map(tuple),
    )
)
def test_a_record_survives_the_ledger(record):
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"phase": "open"}', '{"phase": "x", "passed": "y"}'])
def test_what_is_no_record_is_refused(text):
    with pytest.raises((ValueError, LookupError, TypeError)):
        Record.from_json(text)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ends": at(5), "doors_open": at(6)}, "ends .* must be after doors_open"),
        ({"ends": at(5), "overtime": 7200.0, "files_until": at(6)}, "files_until .* must be after the end of overtime"),
        ({"signup_opens": at(5), "purge": at(5)}, "purge .* must be after signup_opens"),
        ({"ends": "2026-03-02T18:00:00"}, "write it with its zone, as"),
        ({"ends": "tomorrow"}, "write it with its zone, as"),
        ({"ends": 7}, "write it with its zone, as"),
        ({"overtime": -1.0}, "greater than or equal to 0"),
    ],
)
def test_times_that_cannot_be_are_told(values, words):
    with pytest.raises(ValidationError, match=words):
        WorkshopSettings(**values)
