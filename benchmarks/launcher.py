"""What the launcher itself costs: `python -m benchmarks.launcher`, which prints a table in half a minute.

The place is fake (tests/fakeplace.py): a desktop is there a second after it was asked for, and every question is
answered after 10 ms. The store of handles is real, on a disk of this machine; so is the loop. What is left is the
launcher's own: its CPU (the fake place's included), threads that write files included.

    asked        all are asked for at once: until every one runs, after a login; starts follow each other evenly, as
                 the settings have it (starts_per_second), or with --starts-per-second 1000 as fast as it goes
    running      all run, and nobody does anything
    found again  the daemon is started anew, while all run: until every one is known to run
    ended        all are ended at once
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.fakeplace import FakePlace
from vncgate.kinds import DesktopsSettings, LocalPlace
from vncgate.launcher import Launcher
from vncgate.model import Account, DesktopState, Roster, Secret
from vncgate.store import Store

COLUMNS = ("phase", "seconds", "CPU s", "CPU ms a desktop", "queries", "queries a minute", "submits")


class Phase:
    """Measures from its making on; `row()` is what it came to."""

    def __init__(self, name: str, count: int, place: FakePlace) -> None:
        self.name, self.count, self.place = name, count, place
        self.began, self.cpu = time.monotonic(), _cpu()
        self.queries, self.submits = place.calls["query"], place.calls["submit"]

    def row(self) -> dict[str, str | float]:
        """Its line of the table."""
        seconds, cpu = time.monotonic() - self.began, _cpu() - self.cpu
        queries = self.place.calls["query"] - self.queries
        figures = (seconds, cpu, 1000 * cpu / self.count, queries, 60 * queries / seconds)
        submits = self.place.calls["submit"] - self.submits
        return dict(zip(COLUMNS, (self.name, *(float(f"{figure:.3g}") for figure in figures), submits), strict=True))


class Watched:
    """A launcher, and who is told what changed: nobody looks at it again and again, which would cost more than it."""

    def __init__(self, settings: DesktopsSettings, place: FakePlace, store: Store) -> None:
        self.settings, self.place, self.store = settings, place, store
        self.states: dict[str, DesktopState] = {}
        self.news = asyncio.Event()

    async def start(self, roster: Roster) -> Launcher:
        """A new one, which has the roster."""
        self.states = dict.fromkeys(roster, DesktopState.STOPPED)
        places = {"local": self.place}
        self.launcher = Launcher(self.settings, places, store=self.store, login=self.place.login, changed=self._changed)
        await self.launcher.start()
        self.launcher.apply(roster)
        return self.launcher

    def _changed(self, names: frozenset[str]) -> None:
        self.states.update({name: status.state for name in names if (status := self.launcher.status(name))})
        self.news.set()

    async def until(self, state: DesktopState) -> None:
        """Until all desktops are in `state`."""
        while set(self.states.values()) != {state}:
            self.news.clear()
            await self.news.wait()


async def measure(
    count: int, at_once: int, idle: float, boot: float = 1.0, per_second: float = 1000.0
) -> list[dict[str, str | float]]:
    """The table's rows for `count` desktops of which `at_once` may start at the same time, `per_second` in a second."""
    local = {"type": "local", "starts_at_once": at_once, "starts_per_second": per_second}
    settings = DesktopsSettings.model_validate({"kinds": {"xfce": {"command": "x"}}, "places": {"local": local}})
    roster = Roster(tuple(Account(f"ws{number:04}", None, f"p{number}", None, Secret("x")) for number in range(count)))
    place = FakePlace(boot=boot)
    rows = []
    with tempfile.TemporaryDirectory(prefix="vncgate-bench-") as folder:
        watched = Watched(settings, place, Store(Path(folder)))
        launcher = await watched.start(roster)
        phase = Phase("asked", count, place)
        for name in roster:
            launcher.visit(name)
        await watched.until(DesktopState.RUNNING)
        rows.append(phase.row())
        phase = Phase("running", count, place)
        await asyncio.sleep(idle)
        rows.append(phase.row())
        await launcher.aclose()
        phase = Phase("found again", count, place)
        launcher = await watched.start(roster)
        await watched.until(DesktopState.RUNNING)
        rows.append(phase.row())
        phase = Phase("ended", count, place)
        await launcher.stop_desktops(["*"])
        await watched.until(DesktopState.STOPPED)
        rows.append(phase.row())
        await launcher.aclose()
    return rows


def table(rows: list[dict[str, str | float]]) -> str:
    """Rows as Markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(tuple(f"{value}" for value in row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.launcher", description="What the launcher costs.")
    parser.add_argument("--desktops", type=int, default=200, metavar="N", help="asked for at once (200)")
    parser.add_argument("--starts-at-once", type=int, default=50, metavar="N", help="that may start together (50)")
    usual = LocalPlace().starts_per_second
    words = f"as in the settings ({usual:g})"
    parser.add_argument("--starts-per-second", type=float, default=usual, metavar="N", help=words)
    parser.add_argument("--idle", type=float, default=15.0, metavar="S", help="seconds to watch them run (15)")
    args = parser.parse_args()
    at_once, per_second = args.starts_at_once, args.starts_per_second
    print(f"{args.desktops} desktops, {at_once} starts at once, {per_second:g} a second, each takes a second\n")
    print(table(uvloop.run(measure(args.desktops, at_once, args.idle, per_second=per_second))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
