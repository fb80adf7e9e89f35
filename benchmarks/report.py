"""docs/performance.md and its plots, from the figures of a run, which are kept beside them as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.targets import SATURATED, Figure, Figures, figures, verdicts
from benchmarks.workloads import WORKLOADS

NOTES = Path(__file__).with_name("notes.md")
"""What a machine cannot write: what holds each figure back."""
COLOURS = {"vncgate": "#2563eb", "c": "#6b7280", "haproxy": "#d97706", "websockify": "#dc2626", "guarded": "#7c3aed"}
UNITS = {
    "cpu_s_per_gib": "CPU s per GiB",
    "gib_per_s": "GiB/s",
    "cpu_us": "CPU us per round trip",
    "cores": "cores used",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "late_share": "late",
    "dropped": "dropped",
    "pss_mb": "MB (PSS)",
    "cpu_us_per_desktop_s": "CPU us per desktop and s",
    "updates_per_s": "updates/s",
    "mib_per_s": "MiB/s",
    "banner_p50_ms": "banner p50 ms",
    "banner_p99_ms": "banner p99 ms",
    "total_s": "all in after s",
    "failed": "failed",
    "cpu_s": "CPU s",
    "ready_s": "ready after s",
    "effect_p50_ms": "effect p50 ms",
    "effect_max_ms": "effect max ms",
    "others_dropped": "others dropped",
    "others_late": "others' late answers",
    "others_p99_ms": "others' p99 ms",
    "idle_mb": "MB before",
    "connected_mb": "MB with them",
    "kb_each": "KB each",
    "gate_cpu_us": "gate's CPU us per round trip",
    "apache_cpu_us": "Apache's",
    "minutes": "minutes",
    "start_mb": "MB at the start",
    "end_mb": "MB at the end",
    "start_files": "descriptors at the start",
    "end_files": "at the end",
    "returned": "reconnections",
}
"""Headings of the figures that are shown, in their order; the others are in the JSON alone."""


def results_file(root: Path) -> Path:
    """Where the figures of the last run are."""
    return root / "docs" / "performance" / "results.json"


def write(results: dict, root: Path) -> None:
    """Write the document, its plots, and the figures themselves."""
    file = results_file(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_json(results))
    found = figures(results["runs"])
    plots = _plots(found, file.parent)
    (root / "docs" / "performance.md").write_text(document(results, plots))


def document(results: dict, plots: Mapping[str, str]) -> str:
    """The text of docs/performance.md; `plots` are captions by file name."""
    kind = "make bench-full" if results["full"] else "make bench"
    machine = ", ".join(f"{name}: {value}" for name, value in results["machine"].items())
    parts = [
        "# Performance",
        (
            "Written by `benchmarks/` from the figures of one run (`docs/performance/results.json`); do not edit. To "
            f"repeat it: `{kind}`. How each figure is made, and by which commands by hand: `benchmarks/__init__.py`."
        ),
        f"Measured {results['when']} in {results['minutes']} minutes. {machine}.",
        (
            "Each figure is the median of its rounds, with the least and the most in brackets where there was more "
            f"than one. Those with a * had a load that used more than {SATURATED:.0%} of its own core: they may be the "
            "load's."
        ),
        "## Targets",
        _table(
            ["what", "must reach", "reached", ""],
            [
                [v.what, v.must, v.found, {True: "yes", False: "**no**", None: "-"}[v.reached]]
                for v in verdicts(figures(results["runs"]))
            ],
        ),
        *([NOTES.read_text().strip()] if NOTES.exists() else []),
        "## All figures",
        *(f"![{caption}](performance/{name})" for name, caption in plots.items()),
        tables(results),
    ]
    return "\n\n".join(parts) + "\n"


def tables(results: dict) -> str:
    """A table a workload, in Markdown."""
    found = figures(results["runs"])
    return "\n\n".join(part for name in WORKLOADS if name in found for part in _workload(name, found, results["runs"]))


def _workload(name: str, found: Figures, runs: list[dict]) -> Iterator[str]:
    peers = found[name]
    shown = [figure for figure in UNITS if any(figure in named for named in peers.values())]
    rows = []
    for peer, named in peers.items():
        mark = "*" if "load" in named and named["load"].median > SATURATED else ""
        rows.append([peer + mark, *(_cell(named.get(figure)) for figure in shown)])
    yield f"### {name}\n\n{WORKLOADS[name].about}"
    yield _table(["", *(UNITS[figure] for figure in shown)], rows)
    skipped = {(run["peer"], run["skipped"]) for run in runs if run["workload"] == name and "skipped" in run}
    if skipped:
        yield "Not made: " + "; ".join(f"{peer} ({why})" for peer, why in sorted(skipped)) + "."


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if figure.least == figure.most:
        return _number(figure.median)
    return f"{_number(figure.median)} ({_number(figure.least)}-{_number(figure.most)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _json(results: dict) -> str:
    """A run a line: a change of one figure is a change of one line."""
    head = {name: value for name, value in results.items() if name != "runs"}
    lines = ",\n".join(json.dumps(run) for run in results["runs"])
    return json.dumps(head, indent=1)[:-2] + ',\n "runs": [\n' + lines + "\n]}\n"


def _plots(found: Figures, folder: Path) -> dict[str, str]:
    """Draw what there are figures for; captions by file name."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "vncgate", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    from matplotlib import pyplot

    drawn = {}
    bars = {
        "bulk.svg": ("CPU seconds per GiB", "cpu_s_per_gib", ["bulk-down", "bulk-up"]),
        "class.svg": ("CPU µs per round trip of 8 KiB", "cpu_us", ["class-60", "class-200", "class-1000"]),
        "latency.svg": ("p99 latency, ms", "p99_ms", ["class-60", "class-200", "class-1000"]),
        "banner.svg": ("time to the VNC banner, median, ms", "banner_p50_ms", ["connect", "storm-60", "storm-500"]),
    }
    for name, (caption, figure, workloads) in bars.items():
        here = [workload for workload in workloads if workload in found]
        if here:
            axes = pyplot.figure(figsize=(6.4, 2.6), layout="constrained").gca()
            _draw_bars(axes, found, here, figure)
            axes.set_ylabel(caption)
            if figure.endswith("_ms"):
                axes.set_yscale("log")
            drawn[name] = caption
            pyplot.savefig(folder / name, metadata={"Date": None})
            pyplot.close()
    counts = sorted(int(name.removeprefix("curve-")) for name in found if name.startswith("curve-"))
    if counts:
        axes = pyplot.figure(figsize=(6.4, 3), layout="constrained").gca()
        for peer in ("vncgate", "c"):
            points = [
                (n, named[peer]["cpu_us_per_desktop_s"]) for n in counts if peer in (named := found[f"curve-{n}"])
            ]
            middle = [figure.median for _, figure in points]
            spread = [
                [figure.median - figure.least for _, figure in points],
                [figure.most - figure.median for _, figure in points],
            ]
            axes.errorbar(
                [n for n, _ in points], middle, spread, label=peer, color=COLOURS[peer], marker="o", capsize=2
            )
        axes.set(xscale="log", ylim=(0, None), xlabel="desktops", ylabel="CPU µs per desktop and second")
        axes.legend()
        drawn["curve.svg"] = "cost of a desktop against their number, one update a second each, on all cores"
        pyplot.savefig(folder / "curve.svg", metadata={"Date": None})
        pyplot.close()
    return drawn


def _draw_bars(axes: object, found: Figures, workloads: list[str], figure: str) -> None:
    peers = [peer for peer in COLOURS if any(figure in found[each].get(peer, {}) for each in workloads)]
    width = 0.8 / len(peers)
    for i, peer in enumerate(peers):
        for x, workload in enumerate(workloads):
            if value := found[workload].get(peer, {}).get(figure):
                spread = [[value.median - value.least], [value.most - value.median]]
                label = peer if x == 0 or peer not in found[workloads[0]] else None
                axes.bar(
                    x + (i + 0.5) * width - 0.4,
                    value.median,
                    width * 0.9,
                    yerr=spread,
                    color=COLOURS[peer],
                    label=label,
                    capsize=2,
                    error_kw={"linewidth": 0.8},
                )
    axes.set_xticks(range(len(workloads)), workloads)
    axes.legend(ncols=len(peers), loc="upper left", bbox_to_anchor=(0, 1.15), frameon=False)
