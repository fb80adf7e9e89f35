"""The table that is shown while a rehearsal goes on, and the report at its end; 80 columns are enough."""

from __future__ import annotations

import itertools

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vncgate.rehearsal.latencies import Latencies
from vncgate.rehearsal.load import Load
from vncgate.rehearsal.report import Report
from vncgate.rehearsal.verdict import Grade, Verdict, milliseconds, people

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
UNSEEN = "not seen (run it on the gate's host to see it)"
_STYLES = {Grade.GOOD: "bold green", Grade.TIGHT: "bold yellow", Grade.NOT_ENOUGH: "bold red", Grade.NONE: "bold"}
_HEADLINES = {
    Grade.GOOD: "GOOD for {}.",
    Grade.TIGHT: "TIGHT for {}: it works, with nothing to spare.",
    Grade.NOT_ENOUGH: "NOT ENOUGH for {}.",
    Grade.NONE: "NO VERDICT for {}.",
}


def figures(report: Report, load: Load, recent: Report | None = None) -> RenderableType:
    """Everything that is measured; with what was so at some earlier time, also how it is just now."""
    return Group(_times(report, recent), Text(), _facts(report, load, recent))


def conclusion(verdict: Verdict, report: Report) -> RenderableType:
    """The last word: the grade, and below it what speaks against the class, with what to do."""
    count = report.participants
    headline = _HEADLINES[verdict.grade].format("1 person" if count == 1 else f"{count} people")
    grid = Table.grid(padding=(0, 1))
    for advice, findings in itertools.groupby(verdict.findings, lambda finding: finding.advice):
        for finding in findings:
            grid.add_row(" -", Text(finding.what))
        grid.add_row("  ", Text(f"{advice[:1].upper()}{advice[1:]}.", "italic"))
    return Group(Text(headline, _STYLES[verdict.grade]), *([grid] if verdict.findings else []))


def troubles(report: Report) -> RenderableType:
    """Who is in trouble so far, and why."""
    return Text("\n".join(f.what for f in people(report)), "red")


def _times(report: Report, recent: Report | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("time until", no_wrap=True)
    for heading in QUANTILES:
        table.add_column(heading, justify="right", no_wrap=True, min_width=8)
    rows = {
        "the connection stands": report.connecting,
        "the desktop's first word": report.banner,
        "the login is done": report.login,
        "the first picture is complete": report.picture,
        "an answer is complete": report.latency,
    }
    if recent is not None:
        rows["... just now"] = report.latency.since(recent.latency)
    for name, latencies in rows.items():
        table.add_row(name, *_quantiles(latencies))
    return table


def _quantiles(latencies: Latencies) -> list[str]:
    if not latencies.count:
        return ["-"] * len(QUANTILES)
    return [milliseconds(latencies.quantile(share)) for share in QUANTILES.values()]


def _facts(report: Report, load: Load, recent: Report | None) -> Table:
    since = recent or Report()
    seconds = report.seconds - since.seconds or 1.0
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    wrong = "" if report.failures or report.dropped else "green"
    grid.add_row("connected", Text(f"{report.connected} of {report.participants}", wrong))
    for what, count in (
        ("did not get in", report.failures),
        ("dropped", report.dropped),
        ("silent", len(report.silent)),
    ):
        grid.add_row(what, Text(str(count), "red") if count else "none")
    frames = (report.updates - since.updates) / seconds
    megabytes = (report.bytes_down - since.bytes_down) / seconds / 1e6
    grid.add_row("frames", f"{frames:.0f} a second, {megabytes:.1f} MB/s" + ("" if recent is None else " just now"))
    late = report.late / (report.asked + report.late) if report.late else 0
    grid.add_row("late", f"{late:.1%} of the questions (the answer before was not there yet)" if late else "none")
    grid.add_row("gate", _gate(load))
    grid.add_row("Apache", f"{load.apache:.2f} cores at most" if load.apache is not None else _no_apache(load))
    grid.add_row("gate's host", f"{load.host:.0%} busy at most" if load.host is not None else UNSEEN)
    grid.add_row("players", f"{report.cpu_share:.0%} of a core, {milliseconds(report.lag.quantile(0.99))} late (p99)")
    return grid


def _gate(load: Load) -> str:
    if load.gate is None or load.busiest is None:
        return UNSEEN
    return f"{load.gate:.2f} cores at most, its busiest process {load.busiest:.0%} of one"


def _no_apache(load: Load) -> str:
    return UNSEEN if load.gate is None else "none runs on this host"
