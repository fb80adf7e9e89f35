"""The report after a workshop: which figures are kept each minute, and what they add up to. Values only.

Counts (bytes, restarts) begin anew with each gate: what they grew by is summed up, as Prometheus does (`increase()`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vncgate.model import DesktopState
from vncgate.render.metrics import Facts
from vncgate.tally import End

COUNTS = ("bytes_down", "bytes_up", "restarts", "lost")
"""Figures that grow; all others are how many there are right then."""
TROUBLES = (End.DESKTOP_DROPPED, End.DESKTOP_UNREACHABLE, End.WORKER, End.NO_ANSWER)
"""Ends of a connection that nobody meant."""
LONGEST_STEP = 300.0
"""Seconds between two figures, beyond which the gate was away: nothing is known of the time between."""


def figures(facts: Facts) -> dict[str, float]:
    """What is kept of one moment."""
    traffic = [status.traffic for status in facts.statuses]
    tally = facts.tally
    return {
        "in_use": sum(each.connections > 0 for each in traffic),
        "connections": sum(each.connections for each in traffic),
        "running": sum(each.state is DesktopState.RUNNING for each in facts.desktops),
        "failed": sum(each.state is DesktopState.FAILED for each in facts.desktops),
        "restarts": facts.restarts + sum(each.restarts for each in facts.desktops),
        "bytes_down": tally.bytes_down if tally else 0,
        "bytes_up": tally.bytes_up if tally else 0,
        "lost": sum(tally.ended[reason] for reason in TROUBLES) if tally else 0,
    }


@dataclass(frozen=True, slots=True)
class Point:
    """What is known of one moment; rates are in bits a second since the point before (NaN: not known)."""

    when: datetime
    in_use: float
    running: float
    down: float
    up: float


@dataclass(frozen=True, slots=True)
class Report:
    """What is told of a workshop. `names` are accounts and who sat there, where they were asked for. `hours` are the
    desktop hours in use, `busiest` the moment of the peak.
    """

    title: str
    place: str
    opens: datetime | None
    ends: datetime | None
    phase: str
    accounts: int
    came: int
    people: Mapping[str, int]
    names: Sequence[tuple[str, str]] | None
    points: Sequence[Point]
    peak: int = 0
    busiest: datetime | None = None
    peak_connections: int = 0
    hours: float = 0.0
    restarts: int = 0
    failed: int = 0
    lost: int = 0
    bytes_down: float = 0.0
    bytes_up: float = 0.0

    @property
    def signed_up(self) -> int:
        """Everybody who did, seated or not."""
        return sum(self.people.values())

    @property
    def fastest(self) -> float:
        """The most bits a second that desktops sent, over a minute."""
        return max((point.down for point in self.points if not math.isnan(point.down)), default=0.0)


def report(body: Mapping[str, Any]) -> Report:
    """The report that `Life.report()` has the values for. Raises LookupError, TypeError or ValueError for others."""
    rows = [(datetime.fromisoformat(when), dict(values)) for when, values in body["figures"]]
    steps = list(itertools.pairwise(rows))
    grown = {name: sum(_growth(name, *pair) for pair in steps) for name in COUNTS}
    # What the first minute found was there before it: the gate's own beginning.
    grown = {name: grown[name] + (rows[0][1].get(name, 0.0) if rows else 0.0) for name in COUNTS}
    busiest = max(rows, key=lambda row: row[1].get("in_use", 0.0), default=None)
    return Report(
        title=str(body["title"]),
        place=str(body["place"]),
        opens=_moment(body["opens"]),
        ends=_moment(body["ends"]),
        phase=str(body["phase"]),
        accounts=int(body["accounts"]),
        came=int(body["came"]),
        people={str(standing): int(count) for standing, count in body["people"].items()},
        names=None if body["names"] is None else [(str(account), str(name)) for account, name in body["names"]],
        points=[_point(before, row) for before, row in zip([None, *rows], rows, strict=False)],
        peak=int(busiest[1].get("in_use", 0)) if busiest else 0,
        busiest=busiest[0] if busiest else None,
        peak_connections=int(max((row.get("connections", 0) for _, row in rows), default=0)),
        hours=sum(before[1].get("in_use", 0.0) * _seconds(before, row) for before, row in steps) / 3600,
        restarts=int(grown["restarts"]),
        failed=int(max((row.get("failed", 0) for _, row in rows), default=0)),
        lost=int(grown["lost"]),
        bytes_down=grown["bytes_down"],
        bytes_up=grown["bytes_up"],
    )


Row = tuple[datetime, dict[str, float]]


def _point(before: Row | None, row: Row) -> Point:
    when, values = row
    seconds = _seconds(before, row) if before else 0.0
    down, up = (
        8 * _growth(name, before, row) / seconds if before and seconds else math.nan
        for name in ("bytes_down", "bytes_up")
    )
    return Point(when, values.get("in_use", 0.0), values.get("running", 0.0), down, up)


def _growth(name: str, before: Row, row: Row) -> float:
    was, now = before[1].get(name, 0.0), row[1].get(name, 0.0)
    return now - was if now >= was else now  # a gate that began anew counts from nothing


def _seconds(before: Row, row: Row) -> float:
    """Between two figures, as far as anything is known of it."""
    seconds = (row[0] - before[0]).total_seconds()
    return seconds if 0 < seconds <= LONGEST_STEP else 0.0


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
