"""When to look again at a desktop."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vncgate.model import Readiness
from vncgate.readiness import WRONG_PASSWORD_TRIES, Finding

found = st.sampled_from([Readiness.READY, Readiness.OFFLINE, Readiness.WRONG_PASSWORD])


def test_what_is_not_known_is_looked_at_now():
    assert Finding().next_after(30.0, 0.5) == 0.0


@given(st.lists(found, min_size=1, max_size=30), st.floats(1, 3600), st.floats(0, 0.99))
def test_no_wait_is_longer_than_the_interval_and_its_jitter(finds, interval, chance):
    finding = Finding()
    for readiness in finds:
        finding = finding.found(readiness, "why")
    wait = finding.next_after(interval, chance)
    if finding.wrong >= WRONG_PASSWORD_TRIES:
        assert wait is None
    else:
        assert 0 < wait <= interval * 1.2


def test_a_wrong_password_is_never_tried_so_often_that_a_server_blocks():
    finding, tries = Finding(), 0
    while finding.next_after(30.0, 0.0) is not None:
        finding = finding.found(Readiness.WRONG_PASSWORD)
        tries += 1
    assert tries == 3


@given(st.lists(found, max_size=40))
def test_whatever_comes_in_between_three_wrong_logins_without_a_right_one_are_the_last(finds):
    finding, wrong = Finding(), 0
    for readiness in finds:
        if finding.next_after(30.0, 0.0) is None:
            assert wrong == WRONG_PASSWORD_TRIES
            assert finding.suspected("x") is finding
            return
        finding = finding.found(readiness)
        wrong = {Readiness.READY: 0, Readiness.WRONG_PASSWORD: wrong + 1}.get(readiness, wrong)


def test_a_connected_browser_says_that_the_desktop_is_there_but_not_that_its_password_is_right():
    assert Finding().found(Readiness.OFFLINE, "gone").in_use() == Finding(Readiness.READY, "", 1, 0)
    wrong = Finding().found(Readiness.WRONG_PASSWORD, "no")
    assert wrong.in_use() == wrong
