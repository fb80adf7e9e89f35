"""What the figures mean for a class of this size, in plain words, and what to do. Pure.

The thresholds, and why: a person at a remote desktop finds answers within 150 ms crisp and longer ones noticeable, then
annoying (Tolia, Andersen, Satyanarayanan: Quantifying Interactive User Experience on Thin Clients, Computer 39, 2006).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vncgate.rehearsal.load import Load
from vncgate.rehearsal.report import Report

CRISP = 0.150
"""Seconds that 95 of 100 answers may take at most, and nobody thinks about it."""
USABLE = 0.300
"""Seconds beyond which typing runs visibly ahead of the screen: twice what is crisp."""
SOON = 5.0
"""Seconds to the first picture for 95 of 100: who waits longer reloads the page, and so adds to the rush."""
PLAYERS_BUSY = 0.8
"""Share of a core from which on the players wait for themselves: they run on one."""
PLAYERS_LATE = 0.050
"""Seconds by which 99 of 100 turns of the players' clockwork may be late: a third of what is crisp."""
PROCESS_BUSY = 0.7
"""Share of a core that a process of the gate may use at most, so that a burst finds room."""
HOST_BUSY = 0.85
"""Share of all cores of the gate's host, likewise; Apache and the desktops may be on it."""
MOST_NAMES = 4
"""Participants that are named with a reason."""
MOST_REASONS = 5
"""Reasons that are told one by one."""


class Grade(enum.StrEnum):
    """How it looks for the class; the later the worse, and NONE is no verdict at all."""

    GOOD = "good"
    TIGHT = "tight"
    NOT_ENOUGH = "not enough"
    NONE = "no verdict"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that speaks against the class, and what to do about it."""

    grade: Grade
    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grade, with the findings that led to it; none where it is good."""

    grade: Grade
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "grade": self.grade,
            "findings": [{"grade": f.grade, "what": f.what, "advice": f.advice} for f in self.findings],
        }


def judge(report: Report, load: Load) -> Verdict:
    """The verdict for as many people as took part."""
    findings = tuple(_findings(report, load))
    grades = [finding.grade for finding in findings]
    for grade in (Grade.NONE, Grade.NOT_ENOUGH, Grade.TIGHT):
        if grade in grades:
            return Verdict(grade, findings)
    return Verdict(Grade.GOOD)


def _findings(report: Report, load: Load) -> Iterator[Finding]:
    count = report.participants
    if report.connected and (report.cpu_share >= PLAYERS_BUSY or report.lag.quantile(0.99) >= PLAYERS_LATE):
        yield Finding(
            Grade.NONE,
            f"this machine was too busy to play {count} people: {report.cpu_share:.0%} of a core, turns up to "
            f"{milliseconds(report.lag.quantile(0.99))} late; the times above are partly its own",
            "play from a faster or quieter machine, or fewer participants from each of several",
        )
    if missing := count - report.connected - report.failures:
        yield Finding(
            Grade.NONE,
            f"it ended before {missing} of {count} had arrived",
            "let it run to its end",
        )
    yield from people(report)
    yield from _too_slow(report, load)
    if report.connected:
        yield from _too_busy(load)


def people(report: Report) -> Iterator[Finding]:
    """Who did not get in, lost the desktop, or gets no answer, and why."""
    count = report.participants
    for reason, who in _first(report.failed):
        yield Finding(Grade.NOT_ENOUGH, f"{len(who)} of {count} did not get in{names(who)}: {reason}", MEND)
    for reason, who in _first(report.drops):
        yield Finding(Grade.NOT_ENOUGH, f"{len(who)} of {count} lost the desktop{names(who)}: {reason}", MEND)
    if report.silent:
        yield Finding(
            Grade.NOT_ENOUGH,
            f"{len(report.silent)} of {count} got no answer any more{names(report.silent)}",
            "look at these desktops: their VNC server hangs, or its host is overloaded",
        )


def _first(reasons: Mapping[str, list[str]]) -> list[tuple[str, list[str]]]:
    """The reasons that concern most, and all others as one."""
    ranked = sorted(reasons.items(), key=lambda entry: -len(entry[1]))
    rest = [name for _, who in ranked[MOST_REASONS:] for name in who]
    return ranked[:MOST_REASONS] + ([("for other reasons; --json FILE has them all", rest)] if rest else [])


def _too_slow(report: Report, load: Load) -> Iterator[Finding]:
    p95 = report.latency.quantile(0.95)
    if p95 > CRISP:
        yield Finding(
            Grade.TIGHT if p95 <= USABLE else Grade.NOT_ENOUGH,
            f"5 of 100 answers took {milliseconds(p95)} or longer; up to {milliseconds(CRISP)} nobody notices, "
            f"beyond {milliseconds(USABLE)} everybody does",
            "the processes named below are the limit"
            if any(_too_busy(load))
            else "play once from the gate's own host: as slow there, it is the gate, Apache or the desktops' hosts; "
            "quicker there, it is the network from here"
            if load.gate is None
            else "neither the gate nor its host is at its limit: look at the desktops' hosts and the network",
        )
    p95 = report.picture.quantile(0.95)
    if p95 > SOON:
        yield Finding(
            Grade.TIGHT,
            f"5 of 100 waited {milliseconds(p95)} or longer for their desktop",
            "let the class come in over a minute or two, or look at what was busy meanwhile",
        )


def _too_busy(load: Load) -> Iterator[Finding]:
    if load.busiest is not None and load.busiest >= PROCESS_BUSY:
        yield Finding(
            Grade.TIGHT,
            f"a process of the gate used {load.busiest:.0%} of its core",
            "give the gate more workers (setting `workers`) or, where every core has one, a bigger host",
        )
    if load.host is not None and load.host >= HOST_BUSY:
        yield Finding(
            Grade.TIGHT,
            f"the gate's host was {load.host:.0%} busy (players included, where they run there)",
            "play from another machine; if it is as busy then, give it more cores or move desktops elsewhere",
        )


MEND = "mend that, and rehearse again: `vncgate status` and `vncgate doctor` know more"


def names(who: Sequence[str]) -> str:
    """The first few of them, in brackets."""
    return f" ({', '.join(sorted(who)[:MOST_NAMES])}{', ...' if len(who) > MOST_NAMES else ''})"


def milliseconds(seconds: float) -> str:
    """A time as people read it: 0.4 ms, 12 ms, 3.2 s."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
