"""When a desktop has ended, or is to be ended, and why: judged from what is known of it. It does nothing.

All times are on the loop's clock, which is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from vncgate.desktop_life import WELL, Event, death
from vncgate.desktop_view import View
from vncgate.desktop_words import is_scripts, span
from vncgate.kinds import Policy
from vncgate.launchers.base import Sighting
from vncgate.model import DesktopState

UNSURE = 5.0
"""Seconds for which a desktop that the daemon before this one was just asking for may still come to life."""
LATE_NEWS = 3.0
"""Seconds after which a use is known here at the latest: a worker tells of it within one, and is asked every second."""


@dataclass(frozen=True, slots=True)
class End:
    """What happens to its life, and why, in words; where `log_tells`, the end of its log says more."""

    event: Event
    reason: str
    log_tells: bool = False


def queued_too_long(view: View, now: float) -> End | None:
    """It waits in its place's own queue."""
    yard = view.launch.yard if view.launch else None
    if not (yard and yard.queue_timeout and view.waited(now) > yard.queue_timeout):
        return None
    why = f": {view.sighting.reason}" if view.sighting.reason else ""
    return End(Event.BROKE, f"still in the queue of {yard.name} after {span(yard.queue_timeout)}{why}")


def starts_too_long(view: View, now: float, trouble: str) -> End | None:
    """Its process is there, but nobody could log in to it yet, because of `trouble`."""
    yard = view.launch.yard if view.launch else None
    if not (yard and view.waited(now) > yard.settings.start_timeout):
        return None
    why = f" ({trouble})" if trouble else ""
    return End(Event.START_FAILED, f"no VNC login within {span(yard.settings.start_timeout)}{why}", log_tells=True)


def gone(view: View, sighting: Sighting, now: float) -> End | None:
    """Its place has it no more; None: it may still come to life."""
    state, status, job = view.life.state, sighting.exit_status, view.handle.job if view.handle else ""
    if view.is_adopted and not job and now - view.life.since < UNSURE:
        return None
    known = sighting.reason or (sighting.said if is_scripts(sighting.said) else "")
    words = known or "the session ended" + (f" with exit status {status}" if status else "")
    event = Event.START_FAILED
    if state is DesktopState.RUNNING or (view.is_adopted and state is DesktopState.REQUESTED):
        policy = Policy.EAGER if view.in_pool else view.policy or Policy.MANUAL
        event = death(policy, status, was_asked_for=bool(job))
        if event is Event.DIED and status and now - view.life.since < WELL:
            event = Event.START_FAILED  # its command does not exist, or ends at once
    is_told = known or (status == 0 and event is not Event.START_FAILED)
    return End(event, words, log_tells=not is_told)


def idle(view: View, now: float) -> End | None:
    """Nobody used it for as long as its kind says, nor is there a use that is not known yet."""
    if not ((timeout := view.idle_timeout) and now >= view.idle_end + LATE_NEWS):
        return None
    return End(Event.STOP, f"nobody used it for {span(timeout)}")


def next_idle_moment(view: View, now: float) -> float | None:
    """When it is to be warned of its idle end, or to be ended, unless somebody uses it before; None: never."""
    if not view.idle_timeout:
        return None
    return view.idle_warning if now < view.idle_warning else view.idle_end + LATE_NEWS
