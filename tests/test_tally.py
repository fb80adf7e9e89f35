"""Tallies: counting, adding up, and the way over JSON between versions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.tally import LATENCY_BOUNDS, End, Histogram, Refusal, Tally

counts = st.integers(0, 2**53)


@st.composite
def histograms(draw, bounds):
    histogram = Histogram(bounds)
    histogram.counts = draw(st.lists(counts, min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    histogram.sum = float(draw(st.integers(0, 2**40)))
    return histogram


@st.composite
def tallies(draw):
    tally = Tally(*draw(st.lists(counts, min_size=5, max_size=5)))
    tally.refused.update(draw(st.dictionaries(st.sampled_from(Refusal), counts)))
    tally.ended.update(draw(st.dictionaries(st.sampled_from(End), counts)))
    tally.connect = draw(histograms(tally.connect.bounds))
    tally.latency = draw(histograms(tally.latency.bounds))
    return tally


def test_an_observation_falls_below_the_first_bound_that_is_not_less():
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.0, 0.1, 0.11, 1.0, 1.5, 7.0):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 2]
    assert histogram.sum == pytest.approx(9.71)


def test_a_histogram_with_other_bounds_counts_by_its_upper_bounds():
    ours, others = Histogram((0.1, 1.0)), Histogram((0.05, 0.5, 5.0))
    for seconds in (0.01, 0.3, 2.0, 9.0):
        others.observe(seconds)
    ours.add(others)
    assert ours.counts == [1, 1, 2]
    assert ours.sum == others.sum


@given(tallies())
def test_the_way_over_json_loses_nothing(tally):
    assert Tally.from_json(json.loads(json.dumps(tally.to_json()))) == tally


@given(st.lists(tallies(), max_size=4))
def test_the_total_is_the_sum_and_touches_none(parts):
    before = [part.to_json() for part in parts]
    total = Tally.total(parts)
    assert [part.to_json() for part in parts] == before
    assert total.frames_down == sum(part.frames_down for part in parts)
    assert total.refused[Refusal.NOT_FOUND] == sum(part.refused[Refusal.NOT_FOUND] for part in parts)
    assert sum(total.latency.counts) == sum(sum(part.latency.counts) for part in parts)
    total.latency.observe(0.0)
    total.ended[End.GATE] += 1
    assert [part.to_json() for part in parts] == before


def test_another_version_may_say_more_or_less():
    tally = Tally.from_json(
        {
            "opened": 3,
            "invented": {"later": 1},
            "ended": {"a new reason": 2},
            "latency": {"bounds": [0.5], "counts": [4, 1], "sum": 1.5, "more": 0},
        }
    )
    assert (tally.opened, tally.frames_up, tally.ended["a new reason"]) == (3, 0, 2)
    assert sum(tally.latency.counts) == 5
    assert tally.latency.bounds == LATENCY_BOUNDS
    assert tally.connect.sum == 0


@pytest.mark.parametrize(
    "value",
    [
        {"opened": "many"},
        {"opened": None},
        {"connect": {"bounds": [1.0], "counts": [1], "sum": 0}},
        {"connect": {"bounds": [2.0, 1.0], "counts": [1, 1, 1], "sum": 0}},
        {"latency": {}},
    ],
)
def test_what_is_no_tally_is_refused(value):
    with pytest.raises((ValueError, KeyError, TypeError)):
        Tally.from_json(value)
