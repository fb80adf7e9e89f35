"""The metrics against a golden file and Prometheus' own parsers, and the documents that name them.

Run as a program, it brings the table of docs/metrics.md up to date.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from vncgate.model import (
    Account,
    AccountStatus,
    Desktop,
    DesktopState,
    DesktopStatus,
    Outcomes,
    Problem,
    Readiness,
    Secret,
    Severity,
    State,
    Traffic,
    Want,
    WorkerState,
    WorkerStatus,
)
from vncgate.render.metrics import Facts, exposition, families
from vncgate.scrape import processes
from vncgate.tally import Tally

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "metrics" / "all.txt"
DOCUMENT = ROOT / "docs" / "metrics.md"
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PASSWORD = "canary77"
NO_TRAFFIC = Traffic()


def status(name, state=State.RUNNING, readiness=Readiness.READY, traffic=NO_TRAFFIC, restarts=0):
    account = Account(name, Desktop("node01", 5901), f"path-{name}", 6000, Secret(PASSWORD), display_name="Ada")
    return AccountStatus(account, Want.UP, state, readiness, "why", 0.0, traffic, restarts, "an error")


def tally():
    tally = Tally(7, 90, 400, 5000, 600000, Counter({"not found": 3, "of another version": 1}), Counter(gate=2))
    for seconds in (0.002, 0.002, 0.3):
        tally.connect.observe(seconds)
    for seconds in (0.00005, 0.0002, 30.0):
        tally.latency.observe(seconds)
    return tally


FACTS = Facts(
    version="1.2.3",
    engine="relay",
    statuses=(
        status("ws01", traffic=Traffic(2, 1000, 200000)),
        status("ws02", readiness=Readiness.OFFLINE, traffic=Traffic(0, 5, None)),
        status("ws03", State.BACKOFF, Readiness.UNKNOWN, restarts=4),
    ),
    tally=tally(),
    restarts=5,
    workers=(
        WorkerStatus(101, WorkerState.SERVING, "1.2.3", 1, 0.0, 1),
        WorkerStatus(102, WorkerState.SERVING, "1.2.3", 1, 0.0, 0),
        WorkerStatus(99, WorkerState.DRAINING, "1.2.2", 0, 0.0, 0),
        WorkerStatus(0, WorkerState.STARTING, "", 0, 0.0, 0),
        WorkerStatus(0, WorkerState.STARTING, "", 0, 0.0, 0),
    ),
    roster_loaded=1750000000.5,
    roster_is_good=False,
    problems=(Problem(2, 1, Severity.ERROR, "an error"), Problem(3, 1, Severity.WARNING, "a warning")),
    published={"pages": Outcomes(3, 1, False), "apache snippet": Outcomes(4, 0)},
    per_account=True,
    desktops=(
        DesktopStatus("ws04", "xfce", "small", "hpc", "node03", Want.UP, DesktopState.RUNNING, "", 0.0),
        DesktopStatus("ws05", "xfce", "", "hpc", "", Want.UP, DesktopState.PENDING, "Priority", 0.0),
        DesktopStatus("ws06", "gedit", "", "local", "", Want.UP, DesktopState.FAILED, "home full", 0.0),
    ),
    sign_ins={"let in": 40, "wrong": 3, "wait": 2},
)


def text(facts, accept=""):
    return exposition(families(facts), accept)[1].decode()


def values(facts):
    """Every sample's value, by its name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(text(facts))
        for sample in family.samples
    }


def test_golden():
    assert text(FACTS) == GOLDEN.read_text()
    assert PASSWORD not in text(FACTS)
    assert "path-ws01" not in text(FACTS)


def test_prometheus_and_openmetrics_say_the_same():
    media_type, body = exposition(families(FACTS), OPENMETRICS)
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    said = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse_openmetrics(body.decode())
        for sample in family.samples
    }
    assert said == values(FACTS)
    assert exposition(families(FACTS), "text/html")[0].startswith("text/plain; version=0.0.4")


def test_a_histogram_is_cumulative():
    found = values(FACTS)
    assert found["vncgate_connect_seconds_bucket", "0.001"] == 0
    assert found["vncgate_connect_seconds_bucket", "0.0025"] == 2
    assert found["vncgate_connect_seconds_bucket", "+Inf"] == found["vncgate_connect_seconds_count",] == 3
    assert found["vncgate_relay_latency_seconds_bucket", "1.0"] == 2
    assert found["vncgate_relay_latency_seconds_sum",] == pytest.approx(30.00025)


def test_without_labels_of_accounts_all_else_stays():
    without = values(replace(FACTS, per_account=False))
    assert without.items() == {key: n for key, n in values(FACTS).items() if "_account_" not in key[0]}.items()
    assert not [key for key in without if "ws01" in key]
    assert without["vncgate_connections",] == 2
    assert without["vncgate_accounts_in_use",] == 1


def test_what_an_engine_does_not_count_is_left_out_and_not_zero():
    found = {key[0] for key in values(replace(FACTS, tally=None))}
    assert not found & {"vncgate_payload_bytes_total", "vncgate_frames_total", "vncgate_connect_seconds_count"}
    assert "vncgate_connections" in found
    assert not [key for key in values(FACTS) if key == ("vncgate_account_payload_bytes_total", "ws02", "down")]


def test_desktops_of_the_gates_own_are_counted_by_kind_and_state():
    found = values(FACTS)
    assert found["vncgate_launched_desktops", "xfce", "PENDING"] == 1
    assert found["vncgate_launched_desktops", "gedit", "PENDING"] == 0
    assert sum(count for key, count in found.items() if key[0] == "vncgate_launched_desktops") == 3


def test_reasons_and_states_that_did_not_come_up_are_zero():
    found = values(replace(FACTS, tally=Tally(), workers=(), statuses=()))
    assert found["vncgate_handshakes_refused_total", "other site"] == 0
    assert found["vncgate_connections_ended_total", "gate"] == 0
    assert found["vncgate_workers", "draining", "1.2.3"] == 0
    assert found["vncgate_accounts", "FATAL"] == 0


def exposed():
    """What is exposed: names as queries have them, each with its family."""
    both = [*families(FACTS), *processes([{"role": "master", "pid": "self"}])]
    return {sample.name: family for family in parse(exposition(both, "")[1].decode()) for sample in family.samples}


def names_in(expression):
    """The metrics that a query, or a sentence, names."""
    return set(re.findall(r"\b(?:vncgate|process)_[a-z_]+[a-z]\b", expression))


def test_every_metric_has_a_help_that_is_a_sentence():
    for name, family in exposed().items():
        assert re.match(r"[A-Z0-9].*[.]$", family.documentation), name


def test_the_dashboard_asks_for_nothing_but_what_there_is():
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    queries += [
        variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"
    ]
    named = set.union(*map(names_in, queries))
    assert named <= exposed().keys()
    shown = {exposed()[name].name for name in named}
    ours = {family.name for family in parse(text(FACTS))}
    assert ours <= shown, "a metric that no panel shows: who reads it?"
    assert all(names_in(query) for query in queries)


def test_the_dashboards_panels_have_ids_of_their_own_and_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
    assert all(panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}" for panel in panels)


def table():
    lines = ["", "| Metric | Labels | Meaning |", "|---|---|---|"]
    for family in parse(
        exposition([*families(FACTS), *processes([{"role": "master", "pid": "self"}])], "")[1].decode()
    ):
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        (name, *_) = [family.name] if family.type == "histogram" else [sample.name for sample in family.samples]
        lines.append(f"| `{name}` | {' '.join(f'`{label}`' for label in labels)} | {family.documentation} |")
    return "\n".join([*lines, "", ""])


def with_table(text):
    return re.sub(r"(?s)(?<=<!-- table -->\n).*(?=<!-- /table -->)", lambda _: table(), text)


def test_the_document_is_current():
    text = DOCUMENT.read_text()
    assert text == with_table(text), "bring it up to date: .venv/bin/python tests/render/test_metrics.py"
    assert names_in("".join(re.findall("(?s)```.*?```", text))) <= exposed().keys()


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
