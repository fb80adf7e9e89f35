"""Reports, as JSON."""

from __future__ import annotations

from vncgate.rehearsal.report import Report


def test_json_names_only_the_first_for_each_reason_but_counts_all():
    report = Report(participants=100, seconds=2.0, updates=10)
    report.drops = {"cut": [f"ws{number}" for number in range(100)]}
    report.latency.observe(0.02)
    found = report.to_json()
    (drop,) = found["drops"]
    assert (drop["reason"], drop["count"], drop["who"]) == ("cut", 100, [f"ws{number}" for number in range(10)])
    assert (found["participants"], found["updates_a_second"], report.dropped) == (100, 5.0, 100)
    assert sum(found["latency"]["buckets"].values()) == 1


def test_before_the_first_second_nothing_is_divided_by_zero():
    assert (Report().updates_a_second, Report().cpu_share) == (0, 0)
