"""Histograms of how long things took."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.rehearsal.latencies import LONGEST, SHORTEST, Latencies

seconds = st.floats(SHORTEST, LONGEST)


def observed(values):
    latencies = Latencies()
    for value in values:
        latencies.observe(value)
    return latencies


@given(st.lists(seconds, min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_five_per_cent_of_the_true_one(values, share):
    true = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert observed(values).quantile(share) == pytest.approx(true, rel=0.05)


@given(st.lists(seconds), st.lists(seconds))
def test_two_add_up_to_what_one_would_have_seen(mine, others):
    latencies = observed(mine)
    latencies.add(observed(others))
    assert latencies.counts == observed([*mine, *others]).counts
    assert latencies.mean == pytest.approx(observed([*mine, *others]).mean)


@given(st.lists(seconds), st.lists(seconds))
def test_what_came_since_then(before, after):
    then = observed(before)
    assert observed([*before, *after]).since(then).counts == observed(after).counts


def test_what_is_out_of_range_counts_at_its_end():
    assert observed([0]).quantile(1) == pytest.approx(SHORTEST, rel=0.05)
    assert observed([1000]).quantile(1) == pytest.approx(LONGEST, rel=0.05)


def test_nothing_observed_is_zero():
    assert (Latencies().quantile(0.99), Latencies().mean, Latencies().count) == (0, 0, 0)


def test_a_stall_counts_for_all_who_would_have_asked_meanwhile():
    """A question is due each 0.1 s, and one answer takes 1 s: the nine due meanwhile would have waited 0.9, 0.8, ..."""
    latencies = Latencies()
    latencies.observe_all(1.0, 0.1)
    assert latencies.count == pytest.approx(10, abs=1)  # whether the last of them waits 0.0 s is a matter of rounding
    assert latencies.quantile(0.5) == pytest.approx(0.5, rel=0.3)
    latencies = Latencies()
    latencies.observe_all(1.0, 0)
    assert latencies.count == 1
