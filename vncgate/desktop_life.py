"""The life of a desktop that a launcher starts: states, events, one table and one `step()`. Pure; time and chance are
passed in.

A desktop that dies, and is to be started again, waits 1 s, then 2 s, doubling to 60 s, with jitter; the count of deaths
decays by one for every minute that it ran well. A start that fails is tried `START_TRIES` times with the same waits;
then the desktop is FAILED until somebody asks for it. Whatever ends it passes through STOPPING, so that nothing of it
is left when the next start begins; a start that is asked for meanwhile is not lost.

A place that does not answer refuses nothing: the desktop waits until it does. That a place cannot tell how a desktop
is, is no event. An event that the table does not know in a state raises
`IllegalEventError` and changes nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from vncgate.kinds import Policy
from vncgate.model import DesktopState, Want

FIRST_DELAY = 1.0
"""Seconds until the first restart."""
LONGEST_DELAY = 60.0
"""Seconds that a restart waits at most, before jitter."""
JITTER = 0.2
"""A wait is lengthened by up to this part of itself, so that a class does not restart in step."""
DECAY = 60.0
"""Seconds of running well that forgive one death."""
WELL = 10.0
"""Seconds that a session must run for its end to be that of a desktop, and not that of a start."""
START_TRIES = 3
"""Failed starts in a row after which a desktop is FAILED."""


class Event(enum.Enum):
    """What can happen to a desktop."""

    START = "somebody wants it, or its policy"
    STOP = "somebody wants it gone"
    ADOPTED = "a daemon before this one had asked a place for it"
    TURN = "it is its turn to be started"
    SUBMITTED = "its place was asked for it"
    SILENT = "its place did not answer when it was asked for it"
    QUEUED = "its place has it wait"
    UP = "its process is there"
    READY = "a full VNC login succeeded"
    MOVED = "it is elsewhere, or somebody else's: only a login can tell whether it can be used"
    START_FAILED = "it could not be started"
    DIED = "it ended by itself, and is to be started again"
    FINISHED = "it ended by itself, and nobody wants it any more"
    BROKE = "it ended, or cannot be started, and another try would not help"
    DELAY_OVER = "the wait before the next start is over"
    ENDED = "nothing of it is left"


class Action(enum.Enum):
    """What the launcher does after a step."""

    NOTHING = "nothing"
    LINE_UP = "wait until it may be started, then TURN"
    SUBMIT = "ask its place for it, then SUBMITTED, SILENT or START_FAILED"
    WATCH = "ask its place how it is, from now on"
    END = "stop whatever is under way, end it and remove all of it, then ENDED"
    WAIT = "wait `delay` seconds, then DELAY_OVER"
    GIVE_UP = "tell the operator"


@dataclass(frozen=True, slots=True)
class Life:
    """A desktop's state. `since` is when it came into it, on the clock that `step()` is given.

    `deaths` counts deaths not yet forgiven, `failures` the failed starts in a row, `restarts` all restarts ever,
    `delay` the seconds of the wait that is under way or comes when it is ended. `hopeless` says that FAILED comes then.
    """

    state: DesktopState = DesktopState.STOPPED
    want: Want = Want.DOWN
    since: float = 0.0
    deaths: int = 0
    failures: int = 0
    restarts: int = 0
    delay: float = 0.0
    hopeless: bool = False


class IllegalEventError(Exception):
    """An event came that cannot happen in that state: a defect of the caller."""

    def __init__(self, state: DesktopState, event: Event) -> None:
        super().__init__(f"{event.name} cannot happen in {state}")
        self.state = state
        self.event = event


STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState

TABLE: dict[tuple[DesktopState, Event], tuple[DesktopState, Action]] = {
    (STOPPED, Event.START): (REQUESTED, Action.LINE_UP),
    (STOPPED, Event.STOP): (STOPPED, Action.NOTHING),
    (STOPPED, Event.ADOPTED): (REQUESTED, Action.WATCH),
    (REQUESTED, Event.START): (REQUESTED, Action.NOTHING),  # LINE_UP, where it waits
    (REQUESTED, Event.DELAY_OVER): (REQUESTED, Action.LINE_UP),
    (REQUESTED, Event.TURN): (REQUESTED, Action.SUBMIT),
    (REQUESTED, Event.SUBMITTED): (REQUESTED, Action.WATCH),
    (REQUESTED, Event.SILENT): (REQUESTED, Action.LINE_UP),
    (REQUESTED, Event.QUEUED): (PENDING, Action.NOTHING),
    (REQUESTED, Event.UP): (STARTING, Action.NOTHING),
    (REQUESTED, Event.START_FAILED): (STOPPING, Action.END),
    (REQUESTED, Event.DIED): (STOPPING, Action.END),  # while no daemon looked
    (REQUESTED, Event.FINISHED): (STOPPING, Action.END),
    (REQUESTED, Event.BROKE): (STOPPING, Action.END),
    (REQUESTED, Event.STOP): (STOPPING, Action.END),
    (PENDING, Event.START): (PENDING, Action.NOTHING),
    (PENDING, Event.QUEUED): (PENDING, Action.NOTHING),
    (PENDING, Event.UP): (STARTING, Action.NOTHING),
    (PENDING, Event.START_FAILED): (STOPPING, Action.END),
    (PENDING, Event.BROKE): (STOPPING, Action.END),
    (PENDING, Event.STOP): (STOPPING, Action.END),
    (STARTING, Event.START): (STARTING, Action.NOTHING),
    (STARTING, Event.QUEUED): (PENDING, Action.NOTHING),  # a job that was put back into its queue
    (STARTING, Event.UP): (STARTING, Action.NOTHING),
    (STARTING, Event.READY): (RUNNING, Action.NOTHING),
    (STARTING, Event.START_FAILED): (STOPPING, Action.END),
    (STARTING, Event.STOP): (STOPPING, Action.END),
    (RUNNING, Event.START): (RUNNING, Action.NOTHING),
    (RUNNING, Event.QUEUED): (PENDING, Action.NOTHING),
    (RUNNING, Event.UP): (RUNNING, Action.NOTHING),
    (RUNNING, Event.MOVED): (STARTING, Action.NOTHING),
    (RUNNING, Event.DIED): (STOPPING, Action.END),
    (RUNNING, Event.START_FAILED): (STOPPING, Action.END),  # it was no more than a moment
    (RUNNING, Event.FINISHED): (STOPPING, Action.END),
    (RUNNING, Event.BROKE): (STOPPING, Action.END),
    (RUNNING, Event.STOP): (STOPPING, Action.END),
    (STOPPING, Event.START): (STOPPING, Action.NOTHING),
    (STOPPING, Event.STOP): (STOPPING, Action.NOTHING),
    (STOPPING, Event.ENDED): (STOPPED, Action.NOTHING),  # or what comes next, where it is wanted
    (FAILED, Event.START): (REQUESTED, Action.LINE_UP),
    (FAILED, Event.STOP): (STOPPED, Action.NOTHING),
}


def step(life: Life, event: Event, now: float, chance: float) -> tuple[Life, Action]:
    """The life after `event`, and what to do about it.

    `now` is seconds on any steady clock, `chance` a random number in [0, 1). Raises IllegalEventError, with `life`
    untouched, when the event cannot happen in this state.
    """
    try:
        state, action = TABLE[life.state, event]
    except KeyError:
        raise IllegalEventError(life.state, event) from None
    if life.state is RUNNING and now - life.since >= WELL:
        life = replace(life, failures=0)
    if event is Event.START and state is REQUESTED and life.delay:
        action = Action.LINE_UP
    if event is Event.ENDED and life.want is Want.UP:
        state, action = _next(life)
    since, delay = life.since if state is life.state else now, 0.0 if action is Action.LINE_UP else life.delay
    after = replace(life, state=state, since=since, delay=delay)
    match event:
        case Event.START:
            # Whoever asks forgives everything.
            after = replace(after, want=Want.UP, failures=0, deaths=0, delay=0.0, hopeless=False)
        case Event.STOP | Event.FINISHED:
            after = replace(after, want=Want.DOWN, delay=0.0, hopeless=False)
        case Event.ADOPTED:
            after = replace(after, want=Want.UP)
        case Event.BROKE:
            after = replace(after, hopeless=True, delay=0.0)
        case Event.DELAY_OVER:
            after = replace(after, restarts=life.restarts + 1)
        case Event.DIED:
            forgiven = int((now - life.since) // DECAY)
            deaths = max(0, life.deaths - forgiven) + 1
            after = replace(after, deaths=deaths, delay=delay_after(deaths, chance))
        case Event.START_FAILED:
            failures = life.failures + 1
            hopeless = failures >= START_TRIES
            delay = 0.0 if hopeless else delay_after(failures, chance)
            after = replace(after, failures=failures, delay=delay, hopeless=hopeless)
    return after, action


def _next(life: Life) -> tuple[DesktopState, Action]:
    """What comes after the end of a desktop that is wanted."""
    if life.hopeless:
        return FAILED, Action.GIVE_UP
    return REQUESTED, Action.WAIT if life.delay else Action.LINE_UP


def death(policy: Policy, exit_status: int | None, *, was_asked_for: bool = True) -> Event:
    """What the end of a desktop that ran means, by its kind's policy.

    `exit_status` is that of its session (None: nobody knows); 0 is somebody who logged out. What was never
    `was_asked_for` at its place did not end: it is still to come.
    """
    if not was_asked_for:
        return Event.DIED
    if exit_status == 0 and policy is not Policy.EAGER:
        return Event.FINISHED
    return Event.BROKE if policy is Policy.MANUAL else Event.DIED


def delay_after(count: int, chance: float) -> float:
    """Seconds to wait after the `count`th death or failed start (from 1 on)."""
    base = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(count - 1, 30))
    return base * (1.0 + JITTER * chance)
