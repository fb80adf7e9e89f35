"""The table of desktop_life.py: every state x event, and what the waits do over time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vncgate.desktop_life import (
    FAILED,
    FIRST_DELAY,
    JITTER,
    LONGEST_DELAY,
    PENDING,
    REQUESTED,
    RUNNING,
    START_TRIES,
    STARTING,
    STOPPED,
    STOPPING,
    WELL,
    Action,
    Event,
    IllegalEventError,
    Life,
    death,
    delay_after,
    step,
)
from vncgate.kinds import Policy
from vncgate.model import DesktopState, Want

EXPECTED = {
    STOPPED: {
        Event.START: (REQUESTED, Action.LINE_UP),
        Event.STOP: (STOPPED, Action.NOTHING),
        Event.ADOPTED: (REQUESTED, Action.WATCH),
    },
    REQUESTED: {
        Event.START: (REQUESTED, Action.NOTHING),
        Event.STOP: (STOPPING, Action.END),
        Event.DELAY_OVER: (REQUESTED, Action.LINE_UP),
        Event.TURN: (REQUESTED, Action.SUBMIT),
        Event.SUBMITTED: (REQUESTED, Action.WATCH),
        Event.SILENT: (REQUESTED, Action.LINE_UP),
        Event.QUEUED: (PENDING, Action.NOTHING),
        Event.UP: (STARTING, Action.NOTHING),
        Event.START_FAILED: (STOPPING, Action.END),
        Event.DIED: (STOPPING, Action.END),
        Event.FINISHED: (STOPPING, Action.END),
        Event.BROKE: (STOPPING, Action.END),
    },
    PENDING: {
        Event.START: (PENDING, Action.NOTHING),
        Event.STOP: (STOPPING, Action.END),
        Event.QUEUED: (PENDING, Action.NOTHING),
        Event.UP: (STARTING, Action.NOTHING),
        Event.START_FAILED: (STOPPING, Action.END),
        Event.BROKE: (STOPPING, Action.END),
    },
    STARTING: {
        Event.START: (STARTING, Action.NOTHING),
        Event.STOP: (STOPPING, Action.END),
        Event.QUEUED: (PENDING, Action.NOTHING),
        Event.UP: (STARTING, Action.NOTHING),
        Event.READY: (RUNNING, Action.NOTHING),
        Event.START_FAILED: (STOPPING, Action.END),
    },
    RUNNING: {
        Event.START: (RUNNING, Action.NOTHING),
        Event.STOP: (STOPPING, Action.END),
        Event.QUEUED: (PENDING, Action.NOTHING),
        Event.UP: (RUNNING, Action.NOTHING),
        Event.MOVED: (STARTING, Action.NOTHING),
        Event.DIED: (STOPPING, Action.END),
        Event.START_FAILED: (STOPPING, Action.END),
        Event.FINISHED: (STOPPING, Action.END),
        Event.BROKE: (STOPPING, Action.END),
    },
    STOPPING: {
        Event.START: (STOPPING, Action.NOTHING),
        Event.STOP: (STOPPING, Action.NOTHING),
        Event.ENDED: (STOPPED, Action.NOTHING),
    },
    FAILED: {
        Event.START: (REQUESTED, Action.LINE_UP),
        Event.STOP: (STOPPED, Action.NOTHING),
    },
}
"""The table, written down a second time. An event that is not named is illegal in that state."""
WANTS = {
    Event.START: Want.UP,
    Event.ADOPTED: Want.UP,
    Event.STOP: Want.DOWN,
    Event.FINISHED: Want.DOWN,
}


@pytest.mark.parametrize(("want", "state"), list(itertools.product(Want, DesktopState)))
def test_every_state_and_event(want, state):
    life = Life(state=state, want=want, since=5.0, deaths=2, failures=1)
    for event in Event:
        if event not in EXPECTED[state]:
            with pytest.raises(IllegalEventError, match=f"^{event.name} cannot happen in {state}$"):
                step(life, event, 10.0, 0.0)
            assert life == Life(state=state, want=want, since=5.0, deaths=2, failures=1)
            continue
        after, action = step(life, event, 10.0, 0.0)
        expected = EXPECTED[state][event]
        if (event, want) == (Event.ENDED, Want.UP):
            expected = (REQUESTED, Action.LINE_UP)  # a start that was asked for while stopping is not lost
        assert (after.state, action) == expected
        assert after.since == (5.0 if after.state is state else 10.0)
        assert after.want is WANTS.get(event, want)


def run(life, *events, now=0.0):
    action = Action.NOTHING
    for event in events:
        life, action = step(life, event, now, 0.0)
    return life, action


STARTS = (Event.TURN, Event.SUBMITTED, Event.UP, Event.READY)


def test_deaths_double_the_wait_up_to_a_minute():
    life, _ = run(Life(), Event.START, *STARTS)
    delays = []
    for _ in range(9):
        life, action = run(life, Event.DIED, Event.ENDED)
        assert (life.state, action) == (REQUESTED, Action.WAIT)
        delays.append(life.delay)
        life, action = run(life, Event.DELAY_OVER)
        assert (action, life.delay) == (Action.LINE_UP, 0.0)
        life, _ = run(life, *STARTS)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert life.restarts == 9


def test_running_well_forgives_deaths():
    life = Life(state=RUNNING, want=Want.UP, since=0.0, deaths=4)
    assert step(life, Event.DIED, 59.0, 0.0)[0].deaths == 5
    assert step(life, Event.DIED, 121.0, 0.0)[0].deaths == 3
    assert step(life, Event.DIED, 3600.0, 0.0)[0].delay == FIRST_DELAY


def test_what_cannot_be_started_ends_failed_and_whoever_asks_revives_it():
    life, _ = run(Life(), Event.START)
    for _ in range(START_TRIES - 1):
        life, action = run(life, Event.TURN, Event.START_FAILED, Event.ENDED)
        assert (life.state, action) == (REQUESTED, Action.WAIT)
        life, _ = run(life, Event.DELAY_OVER)
    life, action = run(life, Event.TURN, Event.START_FAILED, Event.ENDED)
    assert (life.state, life.want, action) == (FAILED, Want.UP, Action.GIVE_UP)
    life, action = run(life, Event.START)
    assert (life.state, life.failures, life.hopeless, action) == (REQUESTED, 0, False, Action.LINE_UP)


def test_a_place_that_does_not_answer_refuses_nothing():
    life, _ = run(Life(), Event.START, Event.TURN, Event.START_FAILED, Event.ENDED, Event.DELAY_OVER)
    before = life
    for _ in range(100):
        life, action = run(life, Event.TURN, Event.SILENT, now=1e6)
        assert (life, action) == (before, Action.LINE_UP)


def test_running_well_forgives_failed_starts_and_a_moment_does_not():
    life, _ = run(Life(), Event.START, Event.TURN, Event.START_FAILED, Event.ENDED, Event.DELAY_OVER, *STARTS)
    assert life.failures == 1
    assert step(life, Event.START_FAILED, life.since + WELL - 1, 0.0)[0].failures == 2
    assert step(life, Event.DIED, life.since + WELL, 0.0)[0].failures == 0


def test_a_session_that_ends_at_once_is_given_up():
    life, action = run(Life(), Event.START)
    for _ in range(START_TRIES):
        life, action = run(life, *STARTS, Event.START_FAILED, Event.ENDED)
        if life.state is REQUESTED:
            life, _ = run(life, Event.DELAY_OVER)
    assert (life.state, action) == (FAILED, Action.GIVE_UP)


def test_what_another_try_would_not_help_fails_at_once():
    life, _ = run(Life(), Event.START, *STARTS)
    life, action = run(life, Event.BROKE, Event.ENDED)
    assert (life.state, life.want, action) == (FAILED, Want.UP, Action.GIVE_UP)


@pytest.mark.parametrize("end", [Event.DIED, Event.BROKE, Event.FINISHED])
def test_a_stop_always_wins_and_a_later_start_is_not_lost(end):
    running, _ = run(Life(), Event.START, *STARTS)
    life, action = run(running, end, Event.STOP, Event.ENDED)
    assert (life.state, life.want, action) == (STOPPED, Want.DOWN, Action.NOTHING)
    life, action = run(running, end, Event.STOP, Event.START, Event.ENDED)
    assert (life.state, life.want, action) == (REQUESTED, Want.UP, Action.LINE_UP)


def test_whoever_asks_need_not_wait_for_the_next_try():
    life, _ = run(Life(), Event.START, *STARTS, Event.DIED, Event.ENDED)
    life, action = run(life, Event.START)
    assert (life.delay, life.deaths, action) == (0.0, 0, Action.LINE_UP)


def test_a_session_that_was_left_is_not_started_again():
    life, action = run(Life(), Event.START, *STARTS, Event.FINISHED, Event.ENDED)
    assert (life.state, life.want, action) == (STOPPED, Want.DOWN, Action.NOTHING)


@pytest.mark.parametrize(
    ("policy", "left", "died"),
    [
        (Policy.MANUAL, Event.FINISHED, Event.BROKE),
        (Policy.ON_DEMAND, Event.FINISHED, Event.DIED),
        (Policy.POOL, Event.FINISHED, Event.DIED),
        (Policy.EAGER, Event.DIED, Event.DIED),
    ],
)
def test_what_an_end_means_is_the_policys(policy, left, died):
    assert death(policy, 0) is left
    assert death(policy, 1) is death(policy, None) is died
    assert death(policy, None, was_asked_for=False) is Event.DIED


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_shorter_than_the_first_nor_longer_than_the_longest(count, chance):
    assert FIRST_DELAY <= delay_after(count, chance) <= LONGEST_DELAY * (1 + JITTER)


class Lives(RuleBasedStateMachine):
    """Any order of events keeps a life consistent."""

    life = Life()
    now = 0.0
    has_ended = True
    """Whether nothing of it is left at its place, which only ENDED may say."""

    @rule(event=st.sampled_from(Event), later=st.floats(0, 200), chance=st.floats(0, 0.99))
    def happens(self, event, later, chance):
        self.now += later
        before = self.life
        try:
            self.life, action = step(before, event, self.now, chance)
        except IllegalEventError:
            assert event not in EXPECTED[before.state]
            return
        assert (action is Action.END) == (self.life.state is STOPPING and before.state is not STOPPING)
        assert (action is Action.LINE_UP) <= (self.life.state is REQUESTED and not self.life.delay)
        assert (action is Action.WAIT) <= (self.life.state is REQUESTED and self.life.delay > 0)
        assert (action is Action.GIVE_UP) == (event is Event.ENDED and self.life.state is FAILED)
        assert (self.life.state is RUNNING) <= (before.state is RUNNING or event is Event.READY)
        if self.life.state in (STOPPED, FAILED) and before.state not in (STOPPED, FAILED):
            assert event is Event.ENDED

    @invariant()
    def consistent(self):
        life = self.life
        assert life.failures <= START_TRIES
        assert life.since <= self.now
        assert (life.delay > 0) <= (life.state in (REQUESTED, STOPPING, PENDING, STARTING, RUNNING))
        if life.state in (REQUESTED, PENDING, STARTING, RUNNING, FAILED):
            assert life.want is Want.UP
        if life.state is STOPPED:
            assert life.want is Want.DOWN
        if life.want is Want.DOWN:
            assert (life.delay, life.hopeless) == (0.0, False)


TestLives = Lives.TestCase
