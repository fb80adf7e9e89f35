"""What vncgate must reach, beside what a run found. Pure: figures in, verdicts out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

SATURATED = 0.85
"""The load's share of its core above which a figure may be the load's, and not the relay's."""


@dataclass(frozen=True)
class Figure:
    """One figure of one peer in one workload, over all rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """That of the rounds' values."""
        return cls(statistics.median(values), min(values), max(values))


Figures = Mapping[str, Mapping[str, Mapping[str, Figure]]]
"""By workload, peer and name."""


@dataclass(frozen=True)
class Verdict:
    """One line of the table of targets. `reached` is None where it was not measured."""

    what: str
    must: str
    found: str
    reached: bool | None


def figures(runs: Iterable[Mapping]) -> dict[str, dict[str, dict[str, Figure]]]:
    """Medians and spread of all rounds; runs that were skipped or failed have no part in it."""
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for run in runs:
        for name, value in run.get("figures", {}).items():
            values.setdefault(run["workload"], {}).setdefault(run["peer"], {}).setdefault(name, []).append(value)
    return {
        workload: {peer: {name: Figure.of(found) for name, found in named.items()} for peer, named in peers.items()}
        for workload, peers in values.items()
    }


def verdicts(found: Figures) -> list[Verdict]:
    """The table of targets, in its order."""
    return [target(found) for target in _TARGETS]


def _ratio(
    what: str, workload: str, name: str, limits: Mapping[str, float], who: str = "vncgate"
) -> Callable[[Figures], Verdict]:
    """A figure of ours against that of others, `limits` times at most."""
    must = ", ".join(f"≤ {limit:g} × {peer}" for peer, limit in limits.items())

    def judge(found: Figures) -> Verdict:
        peers = found.get(workload, {})
        if who not in peers or any(peer not in peers for peer in limits):
            return Verdict(what, must, "not measured", None)
        ours = peers[who][name].median
        ratios = {peer: ours / peers[peer][name].median for peer in limits}
        text = ", ".join(f"{ratio:.2f} × {peer}" for peer, ratio in ratios.items())
        return Verdict(what, must, text, all(ratios[peer] <= limit for peer, limit in limits.items()))

    return judge


def _most(what: str, workload: str, limits: Mapping[str, tuple[float, str]]) -> Callable[[Figures], Verdict]:
    """Figures of ours that have a limit in their unit."""
    must = ", ".join(f"≤ {limit:g} {unit}" for limit, unit in limits.values())

    def judge(found: Figures) -> Verdict:
        ours = found.get(workload, {}).get("vncgate")
        if ours is None:
            return Verdict(what, must, "not measured", None)
        text = ", ".join(f"{ours[name].median:.3g} {unit}" for name, (_, unit) in limits.items())
        return Verdict(what, must, text, all(ours[name].median <= limit for name, (limit, _) in limits.items()))

    return judge


def _curve(found: Figures) -> Verdict:
    what, must = "5,000 desktops on all cores", "all served, cost of each ≤ 1.3 × that at 100"
    few, many = (found.get(f"curve-{count}", {}).get("vncgate") for count in (100, 5000))
    if few is None or many is None:
        return Verdict(what, must, "not measured", None)
    ratio = many["cpu_us_per_desktop_s"].median / few["cpu_us_per_desktop_s"].median
    dropped = many["dropped"].most
    return Verdict(what, must, f"{dropped:g} dropped, {ratio:.2f} ×", ratio <= 1.3 and not dropped)


def _change(found: Figures) -> Verdict:
    what, must = "one line changed in 1,000", "≤ 100 ms to effect, others untouched"
    ours = found.get("change", {}).get("vncgate")
    if ours is None:
        return Verdict(what, must, "not measured", None)
    took, dropped = ours["effect_p50_ms"].median, ours["others_dropped"].most
    return Verdict(what, must, f"{took:.0f} ms, {dropped:g} others dropped", took <= 100 and not dropped)


_TARGETS = (
    _ratio("CPU per GiB, bulk down", "bulk-down", "cpu_s_per_gib", {"c": 1.15, "websockify": 0.65, "haproxy": 1.0}),
    _ratio("CPU per round trip, class of 200", "class-200", "cpu_us", {"c": 1.5, "websockify": 0.33}),
    _ratio("the gate logs in: CPU per round trip, class of 200", "class-200", "cpu_us", {"vncgate": 1.1}, "guarded"),
    _ratio("p99 latency, class of 200", "class-200", "p99_ms", {"c": 1.5}),
    _ratio("time to the VNC banner, median", "connect", "banner_p50_ms", {"websockify": 0.1}),
    _most("1,000 accounts ready, each on its port", "start-1000", {"ready_s": (1, "s"), "pss_mb": (80, "MB")}),
    _most("a connected idle desktop", "idle", {"kb_each": (40, "KB")}),
    _curve,
    _change,
)
