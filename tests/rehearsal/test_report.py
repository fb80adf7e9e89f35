"""Reports: as JSON and back, and of several generators together."""

from __future__ import annotations

import json

from vncgate.rehearsal.report import Report


def report(names=("ws01", "ws02"), **values):
    made = Report(participants=3, connected=2, playing=1, seconds=2.0, updates=10, asked=8, late=1, cpu=0.5, **values)
    made.drops = {"cut": list(names)}
    made.latency.observe(0.02)
    return made


def test_json_gives_the_same_back():
    made = report(bytes_down=5, bytes_up=6)
    made.failed = {"no": ["a"]}
    made.silent = ["b"]
    assert Report.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_json_names_only_the_first_for_each_reason_but_counts_all():
    found = report([f"ws{number}" for number in range(100)]).to_json()
    assert (found["drops"][0]["count"], len(found["drops"][0]["who"])) == (100, 10)
    assert Report.from_json(found).dropped == 100


def test_generators_that_ran_together_add_up():
    whole = report()
    whole.add(report(["ws03"], silent=["ws04"]))
    assert (whole.participants, whole.connected, whole.updates, whole.cpu) == (6, 4, 20, 1.0)
    assert whole.seconds == 2.0
    assert whole.updates_a_second == 10
    assert whole.drops == {"cut": ["ws01", "ws02", "ws03"]}
    assert (whole.dropped, whole.silent, whole.latency.count) == (3, ["ws04"], 2)


def test_before_the_first_second_nothing_is_divided_by_zero():
    assert (Report().updates_a_second, Report().cpu_share) == (0, 0)
