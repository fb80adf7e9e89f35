"""When to look again at a desktop."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vncgate.model import Readiness
from vncgate.readiness import WRONG_PASSWORD_TRIES, Look

found = st.sampled_from([Readiness.READY, Readiness.OFFLINE, Readiness.WRONG_PASSWORD])


def test_what_is_not_known_is_looked_at_now():
    assert Look().next_after(30.0, 0.5) == 0.0


@given(st.lists(found, min_size=1, max_size=30), st.floats(1, 3600), st.floats(0, 0.99))
def test_no_wait_is_longer_than_the_interval_and_its_jitter(finds, interval, chance):
    look = Look()
    for readiness in finds:
        look = look.found(readiness, "why")
    wait = look.next_after(interval, chance)
    if look.readiness is Readiness.WRONG_PASSWORD and look.times >= WRONG_PASSWORD_TRIES:
        assert wait is None
    else:
        assert 0 < wait <= interval * 1.2


def test_a_wrong_password_is_never_tried_so_often_that_a_server_blocks():
    look, tries = Look(), 0
    while look.next_after(30.0, 0.0) is not None:
        look = look.found(Readiness.WRONG_PASSWORD)
        tries += 1
    assert tries == 3
