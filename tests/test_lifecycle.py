"""The table of lifecycle.py: every state x event, and what the waits do over time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vncgate.lifecycle import (
    FIRST_DELAY,
    JITTER,
    LONGEST_DELAY,
    START_TRIES,
    Action,
    Event,
    IllegalEventError,
    Life,
    delay_after,
    step,
)
from vncgate.model import State, Want

EXPECTED = {
    State.STOPPED: {
        Event.START: (State.STARTING, Action.LAUNCH),
        Event.STOP: (State.STOPPED, Action.NOTHING),
    },
    State.STARTING: {
        Event.START: (State.STARTING, Action.NOTHING),
        Event.STOP: (State.STOPPING, Action.END),
        Event.STARTED: (State.RUNNING, Action.NOTHING),
        Event.START_FAILED: (State.BACKOFF, Action.WAIT),
    },
    State.RUNNING: {
        Event.START: (State.RUNNING, Action.NOTHING),
        Event.STOP: (State.STOPPING, Action.END),
        Event.DIED: (State.BACKOFF, Action.WAIT),
    },
    State.BACKOFF: {
        Event.START: (State.STARTING, Action.LAUNCH),
        Event.STOP: (State.STOPPED, Action.END_WAIT),
        Event.DELAY_OVER: (State.STARTING, Action.LAUNCH),
    },
    State.STOPPING: {
        Event.START: (State.STOPPING, Action.NOTHING),
        Event.STOP: (State.STOPPING, Action.NOTHING),
        Event.ENDED: (State.STOPPED, Action.NOTHING),
    },
    State.FATAL: {
        Event.START: (State.STARTING, Action.LAUNCH),
        Event.STOP: (State.STOPPED, Action.NOTHING),
    },
}
"""The table, written down a second time. An event that is not named is illegal in that state."""


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_state_and_event(state, event):
    life = Life(state=state, since=5.0, deaths=2, failures=1)
    if event in EXPECTED[state]:
        after, action = step(life, event, 10.0, 0.0)
        assert (after.state, action) == EXPECTED[state][event]
        assert after.since == (5.0 if after.state is state else 10.0)
        assert after.want is {Event.START: Want.UP}.get(event, Want.DOWN)
        return
    with pytest.raises(IllegalEventError, match=f"^{event.name} cannot happen in {state}$"):
        step(life, event, 10.0, 0.0)
    assert life == Life(state=state, since=5.0, deaths=2, failures=1)


def run(life, *events, now=0.0):
    action = Action.NOTHING
    for event in events:
        life, action = step(life, event, now, 0.0)
    return life, action


def test_deaths_double_the_wait_up_to_a_minute():
    life, _ = run(Life(), Event.START, Event.STARTED)
    delays = []
    for _ in range(9):
        life, action = run(life, Event.DIED)
        assert action is Action.WAIT
        delays.append(life.delay)
        life, action = run(life, Event.DELAY_OVER)
        assert action is Action.LAUNCH
        life, _ = run(life, Event.STARTED)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert life.restarts == 9


def test_running_well_forgives_deaths():
    life = Life(state=State.RUNNING, want=Want.UP, since=0.0, deaths=4)
    assert step(life, Event.DIED, 59.0, 0.0)[0].deaths == 5
    assert step(life, Event.DIED, 121.0, 0.0)[0].deaths == 3
    assert step(life, Event.DIED, 3600.0, 0.0)[0].delay == FIRST_DELAY


def test_what_cannot_be_started_ends_fatal_and_an_operator_revives_it():
    life, _ = run(Life(), Event.START)
    for _ in range(START_TRIES - 1):
        life, action = run(life, Event.START_FAILED)
        assert (life.state, action) == (State.BACKOFF, Action.WAIT)
        life, _ = run(life, Event.DELAY_OVER)
    life, action = run(life, Event.START_FAILED)
    assert (life.state, life.want, action) == (State.FATAL, Want.UP, Action.GIVE_UP)
    life, action = run(life, Event.START)
    assert (life.state, life.failures, action) == (State.STARTING, 0, Action.LAUNCH)


def test_a_start_that_comes_while_stopping_is_not_lost():
    life, _ = run(Life(), Event.START, Event.STARTED, Event.STOP, Event.START)
    assert life.state is State.STOPPING
    life, action = run(life, Event.ENDED)
    assert (life.state, action) == (State.STARTING, Action.LAUNCH)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_shorter_than_the_first_nor_longer_than_the_longest(count, chance):
    assert FIRST_DELAY <= delay_after(count, chance) <= LONGEST_DELAY * (1 + JITTER)


class Lives(RuleBasedStateMachine):
    """Any order of events keeps a life consistent."""

    life = Life()
    now = 0.0

    @rule(event=st.sampled_from(Event), later=st.floats(0, 200), chance=st.floats(0, 0.99))
    def happens(self, event, later, chance):
        self.now += later
        before = self.life
        try:
            self.life, action = step(before, event, self.now, chance)
        except IllegalEventError:
            assert event not in EXPECTED[before.state]
            return
        assert (action is Action.WAIT) == (self.life.delay > 0 and before.state is not State.BACKOFF)
        assert (action is Action.LAUNCH) <= (self.life.state is State.STARTING)
        assert (action is Action.GIVE_UP) == (self.life.state is State.FATAL and before.state is not State.FATAL)

    @invariant()
    def consistent(self):
        assert self.life.failures <= START_TRIES
        assert self.life.since <= self.now
        if self.life.state in (State.RUNNING, State.BACKOFF, State.FATAL):
            assert self.life.want is Want.UP


TestLives = Lives.TestCase
