"""The life of a proxy: states, events, one table and one `step()`. Pure; time and chance are passed in.

A proxy that dies is started again after 1 s, then 2 s, doubling to 60 s, with jitter; the count of deaths
decays by one for every minute that it runs well. A proxy that cannot even be started is tried
`START_TRIES` times with the same waits and then stays FATAL until an operator starts it.

An event that the table does not know in a state raises `IllegalEventError` and changes nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from vncgate.model import State, Want

FIRST_DELAY = 1.0
"""Seconds until the first restart."""
LONGEST_DELAY = 60.0
"""Seconds that a restart waits at most, before jitter."""
JITTER = 0.2
"""A wait is lengthened by up to this part of itself, so that a class does not restart in step."""
DECAY = 60.0
"""Seconds of running well that forgive one death."""
START_TRIES = 5
"""Failed starts in a row after which a proxy is FATAL."""


class Event(enum.Enum):
    """What can happen to a proxy."""

    START = "the operator or the roster wants it"
    STOP = "the operator or the roster wants it gone"
    STARTED = "it serves"
    START_FAILED = "it could not be started"
    DIED = "it ended by itself"
    DELAY_OVER = "the wait before the next start is over"
    ENDED = "it is gone, as was asked"


class Action(enum.Enum):
    """What the supervisor does after a step."""

    NOTHING = "nothing"
    LAUNCH = "start the proxy"
    WAIT = "wait `delay` seconds, then DELAY_OVER"
    END = "stop the proxy, then ENDED"
    END_WAIT = "stop waiting"
    GIVE_UP = "tell the operator"


@dataclass(frozen=True, slots=True)
class Life:
    """A proxy's state. `since` is when it came into it, on the clock that `step()` is given.

    `deaths` counts deaths not yet forgiven, `failures` the failed starts in a row, `restarts` all
    restarts ever, `delay` the seconds of the wait now under way.
    """

    state: State = State.STOPPED
    want: Want = Want.DOWN
    since: float = 0.0
    deaths: int = 0
    failures: int = 0
    restarts: int = 0
    delay: float = 0.0


class IllegalEventError(Exception):
    """An event came that cannot happen in that state: a defect of the caller."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.name} cannot happen in {state}")
        self.state = state
        self.event = event


_FAILED = State.BACKOFF  # or FATAL, once the tries are used up

TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.STOPPED, Event.START): (State.STARTING, Action.LAUNCH),
    (State.STOPPED, Event.STOP): (State.STOPPED, Action.NOTHING),
    (State.STARTING, Event.START): (State.STARTING, Action.NOTHING),
    (State.STARTING, Event.STARTED): (State.RUNNING, Action.NOTHING),
    (State.STARTING, Event.START_FAILED): (_FAILED, Action.WAIT),
    (State.STARTING, Event.STOP): (State.STOPPING, Action.END),
    (State.RUNNING, Event.START): (State.RUNNING, Action.NOTHING),
    (State.RUNNING, Event.DIED): (State.BACKOFF, Action.WAIT),
    (State.RUNNING, Event.STOP): (State.STOPPING, Action.END),
    (State.BACKOFF, Event.START): (State.STARTING, Action.LAUNCH),
    (State.BACKOFF, Event.DELAY_OVER): (State.STARTING, Action.LAUNCH),
    (State.BACKOFF, Event.STOP): (State.STOPPED, Action.END_WAIT),
    (State.STOPPING, Event.START): (State.STOPPING, Action.NOTHING),
    (State.STOPPING, Event.STOP): (State.STOPPING, Action.NOTHING),
    (State.STOPPING, Event.ENDED): (State.STOPPED, Action.NOTHING),
    (State.FATAL, Event.START): (State.STARTING, Action.LAUNCH),
    (State.FATAL, Event.STOP): (State.STOPPED, Action.NOTHING),
}


def step(life: Life, event: Event, now: float, chance: float) -> tuple[Life, Action]:
    """The life after `event`, and what to do about it.

    `now` is seconds on any steady clock, `chance` a random number in [0, 1). Raises IllegalEventError, with
    `life` untouched, when the event cannot happen in this state.
    """
    try:
        state, action = TABLE[life.state, event]
    except KeyError:
        raise IllegalEventError(life.state, event) from None
    after = replace(life, state=state)
    if state is not life.state:
        after = replace(after, since=now)
    match event:
        case Event.START:
            # An operator's word forgives everything; a start that is asked for while stopping is not lost.
            after = replace(after, want=Want.UP, failures=0, deaths=0, delay=0.0)
        case Event.STOP:
            after = replace(after, want=Want.DOWN, delay=0.0)
        case Event.STARTED:
            after = replace(after, failures=0, delay=0.0)
        case Event.DELAY_OVER:
            after = replace(after, restarts=life.restarts + 1)
        case Event.DIED:
            forgiven = int((now - life.since) // DECAY)
            deaths = max(0, life.deaths - forgiven) + 1
            after = replace(after, deaths=deaths, delay=delay_after(deaths, chance))
        case Event.START_FAILED:
            failures = life.failures + 1
            after = replace(after, failures=failures, delay=delay_after(failures, chance))
            if failures >= START_TRIES:
                after, action = replace(after, state=State.FATAL, delay=0.0), Action.GIVE_UP
        case Event.ENDED if life.want is Want.UP:
            after, action = replace(after, state=State.STARTING), Action.LAUNCH
    return after, action


def delay_after(count: int, chance: float) -> float:
    """Seconds to wait after the `count`th death or failed start (from 1 on)."""
    base = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(count - 1, 30))
    return base * (1.0 + JITTER * chance)
