"""What people are shown of a desktop; most of it is seen through the launcher, in tests/test_launcher*.py."""

from __future__ import annotations

import pytest

from vncgate.desktop_life import Life
from vncgate.desktop_view import View
from vncgate.kinds import DesktopsSettings
from vncgate.launchers.base import Seen, Sighting
from vncgate.model import Account, DesktopState, Secret, Want

SETTINGS = DesktopsSettings(kinds={"term": {"command": "xterm"}})


def status(state, starts=None, tail="", **life):
    view = View(SETTINGS, Account("ws01", None, "ws01", None, Secret("")), in_pool=False, since=0.0)
    view.sighting = Sighting(Seen.PENDING, starts=starts)
    view.life = Life(state, **{"want": Want.UP} | life)
    view.reason, view.tail = "the session ended with exit status 1", tail
    return view.status(100.0, 100.0)


@pytest.mark.parametrize("state", DesktopState)
@pytest.mark.parametrize("want", Want)
@pytest.mark.parametrize("delay", [0.0, 2.0])
@pytest.mark.parametrize("hopeless", [False, True])
def test_whether_it_is_started_again_by_itself(state, want, delay, hopeless):
    is_again = status(state, want=want, delay=delay, hopeless=hopeless).is_again
    if want is Want.DOWN or hopeless:
        assert not is_again
    else:
        assert is_again == (state is DesktopState.STOPPING or (state is DesktopState.REQUESTED and bool(delay)))


@pytest.mark.parametrize(("starts", "shown"), [(None, None), (90.0, 90.0), (86400.0, 86400.0), (365 * 86400.0, None)])
def test_a_queues_estimate_of_a_year_is_none(starts, shown):
    """Behind a job without a time limit Slurm expects every other one in a year."""
    assert status(DesktopState.PENDING, starts).starts == shown
    assert status(DesktopState.RUNNING, starts).starts is None


def test_operators_read_the_reason_as_it_is():
    assert status(DesktopState.FAILED).reason == "the session ended with exit status 1"
    words = "the session ended with exit status 1; trying again in 2 s"
    assert status(DesktopState.REQUESTED, delay=2.0).reason == words
    words = "the session ended with exit status 1: matlab: no licence; trying again in 2 s"
    assert status(DesktopState.REQUESTED, tail="matlab: no licence", delay=2.0).reason == words
    assert status(DesktopState.REQUESTED, tail="matlab: no licence.", delay=2.0).reason == words


STRANGE = "disk quota of tmp ok / license server does not answer"
OURS = "sh: x / xfce4-session: command not found on node01"


@pytest.mark.parametrize("ended", [{"state": DesktopState.FAILED}, {"state": DesktopState.REQUESTED, "delay": 2.0}])
def test_participants_are_told_nothing_of_what_a_session_wrote(ended):
    """Unless it is a line of our own scripts; and nothing of how the last one ended while there is another."""
    assert status(**ended, tail=STRANGE).told == ""
    assert status(**ended, tail=OURS).told == "a program that it needs is not installed: tell the organizers"
    assert status(DesktopState.STARTING, tail=OURS).told == ""
