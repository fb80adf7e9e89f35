"""The verdict: which figures lead to which grade, and in what words."""

from __future__ import annotations

import pytest

from vncgate.rehearsal.load import Load
from vncgate.rehearsal.report import Report
from vncgate.rehearsal.verdict import Grade, judge, milliseconds

SEEN = Load(gate=0.5, busiest=0.3, apache=0.4, host=0.5)


def report(latency=0.02, picture=0.5, lag=0.001, **values):
    made = Report(**({"participants": 60, "connected": 60, "playing": 60, "seconds": 100.0, "cpu": 10.0} | values))
    for times, value in ((made.latency, latency), (made.picture, picture), (made.lag, lag)):
        for _ in range(100):
            times.observe(value)
    return made


@pytest.mark.parametrize(
    ("values", "load", "grade", "words"),
    [
        ({}, Load(), Grade.GOOD, []),
        ({}, SEEN, Grade.GOOD, []),
        ({"latency": 0.14}, SEEN, Grade.GOOD, []),
        ({"latency": 0.2}, SEEN, Grade.TIGHT, ["5 of 100 answers took 2"]),
        ({"latency": 0.4}, SEEN, Grade.NOT_ENOUGH, ["5 of 100 answers took"]),
        ({"picture": 8.0}, SEEN, Grade.TIGHT, ["waited"]),
        ({}, Load(gate=1.9, busiest=0.95, host=0.5), Grade.TIGHT, ["a process of the gate used 95% of its core"]),
        ({}, Load(gate=1.0, busiest=0.5, host=0.9), Grade.TIGHT, ["host was 90% busy"]),
        ({"silent": ["ws07"]}, SEEN, Grade.NOT_ENOUGH, ["1 of 60 got no answer any more (ws07)"]),
        (
            {"connected": 58, "failed": {"no such host": ["ws02", "ws01"]}},
            SEEN,
            Grade.NOT_ENOUGH,
            ["2 of 60 did not get in (ws01, ws02): no such host"],
        ),
        ({"drops": {"cut": ["ws09"]}}, SEEN, Grade.NOT_ENOUGH, ["1 of 60 lost the desktop (ws09): cut"]),
        ({"connected": 40}, SEEN, Grade.NONE, ["it ended before 20 of 60 had arrived"]),
        ({"cpu": 90.0}, SEEN, Grade.NONE, ["too busy to play 60 people: 90% of a core"]),
        ({"lag": 0.2}, SEEN, Grade.NONE, ["turns up to 2"]),
    ],
)
def test_the_grade(values, load, grade, words):
    verdict = judge(report(**values), load)
    assert verdict.grade is grade
    assert len(verdict.findings) == len(words)
    for finding, part in zip(verdict.findings, words, strict=True):
        assert part in finding.what
        assert finding.advice


def test_a_verdict_of_a_busy_laptop_is_none_whatever_else_is_wrong():
    verdict = judge(report(cpu=95.0, drops={"cut": ["ws01"]}), SEEN)
    assert verdict.grade is Grade.NONE
    assert [finding.grade for finding in verdict.findings] == [Grade.NONE, Grade.NOT_ENOUGH]


def test_where_nobody_got_in_nothing_else_is_said():
    failed = {"refused": [f"ws{n:02}" for n in range(60)]}
    nobody = Report(participants=60, failed=failed, seconds=0.01, cpu=0.01)
    verdict = judge(nobody, Load(gate=0, busiest=0, host=1.2))
    assert [finding.what for finding in verdict.findings] == [
        "60 of 60 did not get in (ws00, ws01, ws02, ws03, ...): refused"
    ]


def test_many_reasons_are_told_by_the_most_frequent():
    failed = {f"reason {n}": ["x"] * (10 - n) for n in range(9)}
    findings = judge(report(participants=114, failed=failed), SEEN).findings
    assert [finding.what.partition(": ")[2] for finding in findings] == [
        *(f"reason {n}" for n in range(5)),
        "for other reasons; --json FILE has them all",
    ]
    assert findings[-1].what.startswith("14 of 114")


@pytest.mark.parametrize(
    ("load", "advice"),
    [
        (Load(), "play once from the gate's own host"),
        (SEEN, "look at the desktops' hosts and the network"),
        (Load(gate=1.0, busiest=0.9, host=0.5), "the processes named below are the limit"),
    ],
)
def test_slow_answers_are_looked_for_where_they_can_come_from(load, advice):
    assert advice in judge(report(latency=0.2), load).findings[0].advice


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0004, "0.4 ms"), (0.0123, "12 ms"), (0.9, "900 ms"), (3.21, "3.2 s")]
)
def test_times_as_people_read_them(seconds, words):
    assert milliseconds(seconds) == words
