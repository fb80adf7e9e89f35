"""A rehearsal that somebody watches: a table that is drawn anew every second, and Ctrl-C, which ends it early."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from vncgate import tasks
from vncgate.rehearsal import show
from vncgate.rehearsal.load import Load, Observer
from vncgate.rehearsal.plan import Plan, Target
from vncgate.rehearsal.report import Report
from vncgate.rehearsal.stage import Rehearsal

REFRESH = 1.0
"""Seconds between two looks."""
WINDOW = 5
"""Looks that "just now" reaches back, and after which /proc is read again."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def run(
    targets: Sequence[Target], plan: Plan, context: ssl.SSLContext, gate: Collection[int], console: Console
) -> tuple[Report, Load]:
    """Play, until it is over or SIGINT or SIGTERM comes; what was measured until then.

    `gate` are the process numbers of the gate on this host (none: it is elsewhere). The table is drawn on a terminal
    only.
    """
    loop = asyncio.get_running_loop()
    observer = Observer(gate) if gate else None
    load = Load()
    past: deque[Report] = deque([Report()], maxlen=WINDOW)
    async with Rehearsal(targets, plan, context) as rehearsal:
        playing = tasks.spawn(_play(rehearsal, plan), "rehearsal")
        loop.set_exception_handler(_report_defects)
        for number in SIGNALS:
            loop.add_signal_handler(number, playing.cancel)
        try:
            with Live(console=console, auto_refresh=False, transient=True) as table:
                looks = 0
                while not (await asyncio.wait([playing], timeout=REFRESH))[0]:
                    if observer is not None and looks % WINDOW == 0:
                        load = observer.look()
                    looks += 1
                    report = rehearsal.report()
                    table.update(_screen(report, load, past[0], plan), refresh=console.is_terminal)
                    past.append(report)
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
            await tasks.end(playing)
        if not playing.cancelled():
            playing.result()
        return rehearsal.report(), load


def _report_defects(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As asyncio does; but what befell a connection (TLS that failed, say) is its player's to tell.

    aiofastnet 1.2 gives some errors as their class.
    """
    error = context.get("exception")
    if not issubclass(error if isinstance(error, type) else type(error), OSError):
        loop.default_exception_handler(context)


async def _play(rehearsal: Rehearsal, plan: Plan) -> None:
    await rehearsal.arrive()
    await rehearsal.go_on(plan.seconds)


def _screen(report: Report, load: Load, recent: Report, plan: Plan) -> Group:
    there = report.connected + report.failures
    phase = "all have arrived" if there == report.participants else f"{there} of {report.participants} have arrived"
    time = f"{_clock(report.seconds)} of {_clock(plan.ramp + plan.seconds)}"
    heading = f"{time}, {phase}; Ctrl-C ends it with a report"
    return Group(heading, "", show.figures(report, load, recent), show.troubles(report))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
