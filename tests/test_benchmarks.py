"""The benchmarks: what they conclude from figures, and that each part of them still runs. No figure is judged here."""

from __future__ import annotations

import gzip
import json
import os
import select
import subprocess
import time
from functools import partial

import pytest

from benchmarks import launcher, machine, record, report, workloads
from benchmarks.__main__ import _run
from benchmarks.machine import Bench, Skipped
from benchmarks.peers import PEERS
from benchmarks.processes import TICK, Tree, ended_children, pss_kb, running
from benchmarks.targets import Figure, figures, verdicts
from benchmarks.workloads import RECORDING, WORKLOADS, Workload
from tests.real.conftest import need


def run(workload, peer, **found):
    return {"workload": workload, "peer": peer, "round": 0, "figures": found}


def bulk(peer, cpu):
    return run("bulk-down", peer, cpu_s_per_gib=cpu)


def curve(count, cpu, dropped=0):
    return run(f"curve-{count}", "vncgate", cpu_us_per_desktop_s=cpu, dropped=dropped)


# ---- targets


BULK, START, CURVE, CHANGE = "CPU per GiB, bulk down", "1,000 accounts ready", "5,000 desktops", "one line changed"


@pytest.mark.parametrize(
    ("what", "runs", "found", "reached"),
    [
        (BULK, [], "not measured", None),
        (BULK, [bulk("vncgate", 1), bulk("c", 1), bulk("haproxy", 2)], "not measured", None),
        (
            BULK,
            [bulk("vncgate", 1.15), bulk("c", 1), bulk("haproxy", 1.15), bulk("websockify", 2.3)],
            "1.15 × c, 0.50 × websockify, 1.00 × haproxy",
            True,
        ),
        (
            BULK,
            [bulk("vncgate", 1.15), bulk("c", 1), bulk("haproxy", 1.1), bulk("websockify", 2)],
            "1.15 × c, 0.57 × websockify, 1.05 × haproxy",
            False,
        ),
        (START, [], "not measured", None),
        (START, [run("start-1000", "c", ready_s=0.1, pss_mb=2)], "not measured", None),
        (START, [run("start-1000", "vncgate", ready_s=1, pss_mb=80)], "1 s, 80 MB", True),
        (START, [run("start-1000", "vncgate", ready_s=0.5, pss_mb=81)], "0.5 s, 81 MB", False),
        (CURVE, [curve(100, 10)], "not measured", None),
        (CURVE, [curve(100, 10), curve(5000, 12)], "0 dropped, 1.20 ×", True),
        (CURVE, [curve(100, 10), curve(5000, 14)], "0 dropped, 1.40 ×", False),
        (CURVE, [curve(100, 10), curve(5000, 10), curve(5000, 10, 3), curve(5000, 10)], "3 dropped, 1.00 ×", False),
        (CHANGE, [], "not measured", None),
        (CHANGE, [run("change", "vncgate", effect_p50_ms=40, others_dropped=0)], "40 ms, 0 others dropped", True),
        (CHANGE, [run("change", "vncgate", effect_p50_ms=40, others_dropped=1)], "40 ms, 1 others dropped", False),
        (CHANGE, [run("change", "vncgate", effect_p50_ms=140, others_dropped=0)], "140 ms, 0 others dropped", False),
    ],
)
def test_a_target_is_reached_missed_or_not_measured(what, runs, found, reached):
    (verdict,) = [each for each in verdicts(figures(runs)) if each.what.startswith(what)]
    assert (verdict.found, verdict.reached) == (found, reached)


def test_figures_are_those_of_the_rounds_that_were_made():
    runs = [
        bulk("c", 3),
        bulk("c", 1),
        bulk("c", 2),
        {"workload": "bulk-down", "peer": "haproxy", "round": 0, "skipped": "not installed"},
        {"workload": "bulk-up", "peer": "c", "round": 0, "error": "OSError"},
    ]
    assert figures(runs) == {"bulk-down": {"c": {"cpu_s_per_gib": Figure(2, 1, 3)}}}


def test_what_targets_are_about_is_measured():
    class Asked(dict):
        def get(self, key, default=None):
            self[key] = None
            return default

    asked = Asked()
    verdicts(asked)
    assert len(asked) > 5
    assert set(asked) <= set(WORKLOADS)


# ---- the document

RESULTS = {
    "when": "2026-03-01T12:00+00:00",
    "full": False,
    "minutes": 12.5,
    "machine": {"cores": "2 x Some CPU", "HAProxy": "2.6"},
    "runs": [
        run("class-200", "vncgate", cpu_us=30, p99_ms=2.5, lag_p99_ms=1, load=0.5),
        run("class-200", "vncgate", cpu_us=34, p99_ms=2.5, lag_p99_ms=1, load=0.5),
        run("class-200", "c", cpu_us=20, p99_ms=1234, lag_p99_ms=1, load=0.9),
        {"workload": "class-200", "peer": "websockify", "round": 0, "skipped": "too many"},
    ],
}
TABLE = """\
### class-200

200 desktops, each asked 20 times a second for 8 KiB.

|  | CPU us per round trip | p99 ms |
| --- | --- | --- |
| vncgate | 32 (30-34) | 2.5 |
| c* | 20 | 1,234 |

Not made: websockify (too many)."""


def test_each_workload_has_a_table_with_what_was_not_made():
    assert report.tables(RESULTS) == TABLE


def test_the_document_says_how_when_and_where_and_what_was_reached(monkeypatch, tmp_path):
    notes = tmp_path / "notes.md"
    notes.write_text("## Why\n\nBecause.\n")
    monkeypatch.setattr(report, "NOTES", notes)
    text = report.document(RESULTS, {"class.svg": "CPU of a class"})
    assert "`make bench`" in text
    assert "Measured 2026-03-01T12:00+00:00 in 12.5 minutes. cores: 2 x Some CPU, HAProxy: 2.6." in text
    assert "| p99 latency, class of 200 | ≤ 1.5 × c | 0.00 × c | yes |" in text
    assert "| a connected idle desktop | ≤ 40 KB | not measured | - |" in text
    assert "\n## Why\n\nBecause.\n" in text
    assert "![CPU of a class](performance/class.svg)" in text
    assert text.endswith(TABLE + "\n")


# ---- rounds


def test_every_peer_has_its_turn_and_another_is_first_in_each_round(tmp_path):
    runs = _run(Bench(tmp_path), Workload("w", lambda *_: {"x_s": 1.23456789}, tuple(PEERS)), ["vncgate", "c"], 3)
    assert [each["peer"] for each in runs] == ["vncgate", "c", "c", "vncgate", "vncgate", "c"]
    assert runs[-1] == {"workload": "w", "peer": "c", "round": 2, "figures": {"x_s": 1.2346}}


def test_who_was_skipped_is_not_tried_again_and_who_failed_is(tmp_path, capfd):
    def work(bench, peer):
        raise Skipped("too many") if peer.name == "c" else OSError("no")

    runs = _run(Bench(tmp_path), Workload("w", work, tuple(PEERS)), ["vncgate", "c"], 2)
    assert [(each["peer"], each.get("skipped"), each.get("error")) for each in runs] == [
        ("vncgate", None, "OSError: no"),
        ("c", "too many", None),
        ("vncgate", None, "OSError: no"),
    ]
    assert "OSError: no" in capfd.readouterr().err


# ---- processes


def test_cpu_of_ended_children_is_read_behind_whatever_name():
    fields = ["S", "1", "1", "1", "0", "-1", "0", "0", "0", "0", "0", "900", "900", str(3 * TICK), str(TICK // 2), "20"]
    assert ended_children(f"7 (a) b (c) {' '.join(fields)}\n") == 3.5


def test_memory_is_the_share_that_is_the_process_own():
    assert pss_kb("55d0-7ffd ---p 0 00:00 0 [rollup]\nRss:  9000 kB\nPss:   1234 kB\nPss_Anon:  7 kB\n") == 1234


def test_a_process_takes_along_what_it_started_even_in_another_session():
    script = "setsid sleep 1000 & echo $!; exec sleep 1000"
    with running(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        orphan = int(process.stdout.readline())
        descriptor = os.pidfd_open(orphan)
        deadline = time.monotonic() + 10
        while not {process.pid, orphan} <= set(Tree(process).pids()):  # in the middle of exec one has no environment
            assert time.monotonic() < deadline
            time.sleep(0.01)
    try:
        assert select.select([descriptor], [], [], 10)[0]
    finally:
        os.close(descriptor)


# ---- workloads


def test_every_workload_says_what_it_is_and_for_whom():
    for name, workload in WORKLOADS.items():
        assert name == workload.name
        assert workload.about.endswith(".")
        assert "`" not in workload.about
        assert set(workload.peers) <= set(PEERS)
        assert 1 <= workload.rounds[0] <= workload.rounds[1]


def test_the_recording_is_small_and_made_the_same_way_again():
    data = RECORDING.read_bytes()
    assert len(data) < 65536
    assert data[4:8] == bytes(4)  # no time (RFC 1952, section 2.3.1)
    recording = json.loads(gzip.decompress(data))
    assert set(recording) == set(record.SCENES)
    assert all(delay >= 0 and size > 16 for track in recording.values() for delay, size in track)


def test_a_recording_is_written_for_the_desktop():
    assert workloads.as_text({"one": [[1.5, 20], [0, 30]], "two": [[4, 50]]}) == "1.5 20\n0 30\n\n4 50\n"


# ---- all together, for a moment


class Moment(Bench):
    """Measures for a moment only."""

    def seconds(self, short, full):
        return 0.2


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    need("cc")
    folder = tmp_path_factory.mktemp("bench")
    machine.build(folder)
    return Moment(folder)


@pytest.mark.real
def test_the_programs_compile_without_a_warning(tmp_path, capfd):
    need("cc")
    machine.build(tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.real
@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*fork:DeprecationWarning"
)  # other tests' threads do not matter here
@pytest.mark.parametrize(
    ("name", "peer", "work"),
    [
        ("bulk-down", "c", workloads.bulk_down),
        ("class-200", "c", partial(workloads.a_class, 4, rate=20)),
        ("mix-60", "c", partial(workloads.mix, 4)),
        ("class-200", "vncgate", partial(workloads.a_class, 4, rate=20)),
        ("class-200", "guarded", partial(workloads.a_class, 4, rate=20)),
        ("storm-60", "vncgate", partial(workloads.all_at_once, 4)),
        ("start-1000", "vncgate", partial(workloads.start, 3)),
    ],
)
def test_a_workload_runs_and_gives_figures_that_the_document_shows(bench, name, peer, work):
    found = work(bench, PEERS[peer])
    assert found.get("failed", 0) == found.get("dropped", 0) == 0
    assert all(value >= 0 for value in found.values())
    assert len(set(found) & set(report.UNITS)) > 1
    verdicts(figures([run(name, peer, **found)]))  # a figure that a target is about has its name
    assert f"| {peer}" in report.tables({"runs": [run(name, peer, **found)]})


async def test_the_launchers_costs_are_measured():
    rows = await launcher.measure(4, 2, 0.1, boot=0.1)
    assert [row["phase"] for row in rows] == ["asked", "running", "found again", "ended"]
    assert [row["submits"] for row in rows] == [4, 0, 0, 0]
    assert launcher.table(rows).count("\n") == 5


@pytest.mark.real
def test_a_real_session_can_be_recorded(tmp_path, monkeypatch):
    need("Xvnc", "openbox")
    monkeypatch.setattr(record, "SETTLE", 3)
    track = record.record(record.SCENES["video"], tmp_path / "scene", 1)
    assert track
    assert all(delay >= 0 and size > 16 for delay, size in track)
