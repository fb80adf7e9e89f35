"""How many handshakes are let in, on a clock of the test's own."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.desktop import limits
from vncgate.engines.limits import SPAN, HandshakeRates, neighbourhood

DEFAULTS = limits().handshakes, limits().client_handshakes


def let_in(rates, client, now, tries):
    return sum(rates.wait(client, now) == 0 for _ in range(tries))


def test_a_class_behind_one_address_connects_at_once_twice_in_a_row():
    rates = HandshakeRates(*DEFAULTS)
    assert let_in(rates, "192.0.2.1", 0.0, 400) == 400


def test_a_client_has_its_rate_and_others_theirs():
    rates = HandshakeRates(1000, 5)
    assert let_in(rates, "192.0.2.1", 0.0, 1000) == 5 * SPAN
    assert let_in(rates, "192.0.2.2", 0.0, 1) == 1
    wait = rates.wait("192.0.2.1", 0.0)
    assert 0 < wait <= 1 / 5
    assert let_in(rates, "192.0.2.1", wait, 10) == 1
    assert let_in(rates, "192.0.2.1", wait + 1.0, 1000) == 5
    assert let_in(rates, "192.0.2.1", 1000.0, 1000) == 5 * SPAN


def test_all_together_have_a_rate_and_who_is_refused_does_not_use_it_up():
    rates = HandshakeRates(10, 5)
    for _ in range(1000):
        rates.wait("192.0.2.1", 0.0)
    assert let_in(rates, "192.0.2.2", 0.0, 100) == 50
    assert rates.wait("192.0.2.3", 0.0) > 0, "the rate in all is used up"
    assert let_in(rates, "192.0.2.3", 1.0, 100) == 10


def test_a_proxy_that_does_not_name_its_clients_counts_in_all_only():
    rates = HandshakeRates(100, 1)
    assert let_in(rates, None, 0.0, 2000) == 100 * SPAN
    assert len(rates) == 0


def test_addresses_are_forgotten_when_their_buckets_are_full_again():
    rates = HandshakeRates(100, 2)
    numbers = itertools.count()
    most = 0
    for tick in range(600):
        for _ in range(50):
            rates.wait(f"10.{next(numbers)}", tick / 10)
        most = max(most, len(rates))
    assert most <= 100 * SPAN + 100 / 2 + 1
    rates.wait("192.0.2.1", 1000.0)
    assert len(rates) == 1


@pytest.mark.parametrize(
    ("address", "one"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("unknown", "unknown"),
    ],
)
def test_what_counts_as_one_client(address, one):
    assert neighbourhood(address) == one


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from([None, "192.0.2.1", "192.0.2.2", "2001:db8::1"]))),
)
def test_no_span_of_time_has_more_than_twice_its_rate(overall, each, arrivals):
    rates = HandshakeRates(overall, each)
    now, came = 0.0, []
    for gap, client in arrivals:
        now += gap
        wait = rates.wait(client, now)
        assert wait <= max(1 / overall, 1 / each) + 1e-6 or came
        if not wait:
            came.append((now, client))
        else:
            assert rates.wait(client, now + wait + 1e-6) == 0, "the wait that is told is enough"
            came.append((now := now + wait + 1e-6, client))
    for start, _ in came:
        span = [client for at, client in came if start <= at <= start + SPAN]
        assert len(span) <= 2 * overall * SPAN + 1
        for client in set(span) - {None}:
            assert span.count(client) <= 2 * each * SPAN + 1


def test_asking_how_long_one_would_wait_lets_nobody_in_and_a_span_may_be_long():
    rates = HandshakeRates(10, 2 / 60, span=60)
    assert [rates.would_wait("192.0.2.1", 0.0) for _ in range(9)] == [0.0] * 9
    assert [rates.wait("192.0.2.1", 0.0) for _ in range(2)] == [0.0, 0.0]
    assert rates.would_wait("192.0.2.1", 0.0) == rates.wait("192.0.2.1", 0.0) == pytest.approx(30)
    assert rates.would_wait("192.0.2.2", 0.0) == 0.0
