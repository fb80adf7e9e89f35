"""What an engine counted since it was started: plain numbers that only grow, and that add up over processes.

A worker sends its tally as JSON, the master adds them up, the metrics show the sum. Everything here is cheap to
count and knows no clock: seconds are passed in.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CONNECT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: a connect takes a millisecond in one building, and has a time limit of `connect_timeout`."""
LATENCY_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Seconds: a relay that is not busy is late by some 0.1 ms, and a hand on the mouse feels 0.05 s."""


class Refusal(enum.StrEnum):
    """Why a handshake was refused."""

    NOT_FOUND = "not found"
    OTHER_SITE = "other site"
    NOT_SIGNED_IN = "not signed in"
    INSECURE = "not over https"
    NO_WEBSOCKET = "no websocket"
    BAD_REQUEST = "bad request"
    TOO_LARGE = "headers too large"
    CONNECTIONS = "too many connections"
    HANDSHAKES = "too many handshakes"
    TIMED_OUT = "timed out"


class End(enum.StrEnum):
    """Who or what ended a session."""

    BROWSER_CLOSED = "browser closed"
    BROWSER_VANISHED = "browser vanished"
    DESKTOP_CLOSED = "desktop closed"
    DESKTOP_DROPPED = "desktop dropped"
    DESKTOP_UNREACHABLE = "desktop unreachable"
    PROTOCOL_ERROR = "protocol error"
    NO_ANSWER = "no answer to ping"
    GATE = "gate"
    WORKER = "worker ended"


class Histogram:
    """How many observations fell below each of some upper bounds (seconds), and their sum.

    `counts` has one for each bound, that bound included, and a last one for what is above all; they are not
    cumulative.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Histogram({self.to_json()})"

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def add(self, other: Histogram) -> None:
        """Count all of another's; where its bounds are others, each counts as its upper bound."""
        for bound, count in zip((*other.bounds, float("inf")), other.counts, strict=True):
            self.counts[bisect_left(self.bounds, bound)] += count
        self.sum += other.sum

    def to_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return {"bounds": list(self.bounds), "counts": list(self.counts), "sum": self.sum}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Histogram:
        """What `to_json` gave. Raises ValueError, KeyError or TypeError where it is not that."""
        histogram = cls(tuple(float(bound) for bound in value["bounds"]))
        counts = [int(count) for count in value["counts"]]
        if len(counts) != len(histogram.counts) or sorted(histogram.bounds) != list(histogram.bounds):
            raise ValueError("a histogram has ascending bounds, and a count more than bounds")
        histogram.counts, histogram.sum = counts, float(value["sum"])
        return histogram


@dataclass(slots=True)
class Tally:
    """The counts. `refused` goes by Refusal, `ended` by End, as plain text: another version may have more of them."""

    opened: int = 0
    """Websockets accepted."""
    frames_up: int = 0
    """Frames with data from browsers."""
    frames_down: int = 0
    """Frames sent to browsers."""
    bytes_up: int = 0
    """Payload from browsers."""
    bytes_down: int = 0
    """Payload from desktops."""
    refused: Counter[str] = field(default_factory=Counter)
    """Handshakes refused, by reason."""
    ended: Counter[str] = field(default_factory=Counter)
    """Sessions that ended, by who ended them."""
    connect: Histogram = field(default_factory=lambda: Histogram(CONNECT_BOUNDS))
    """Seconds until a desktop's connection stood."""
    latency: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS))
    """Seconds that a byte which is ready waits before the relay looks at it, sampled."""

    def add(self, other: Tally) -> None:
        """Add all of another's counts."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.refused.update(other.refused)
        self.ended.update(other.ended)
        self.connect.add(other.connect)
        self.latency.add(other.latency)

    @classmethod
    def total(cls, tallies: Iterable[Tally]) -> Tally:
        """The sum of some tallies, as a new one."""
        total = cls()
        for tally in tallies:
            total.add(tally)
        return total

    def to_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            "refused": {str(reason): count for reason, count in self.refused.items()},
            "ended": {str(reason): count for reason, count in self.ended.items()},
            "connect": self.connect.to_json(),
            "latency": self.latency.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """What `to_json` gave, in this version or another: what is unknown is ignored, what is missing is zero.

        Raises ValueError, KeyError or TypeError where a value is not what its name says.
        """
        tally = cls()
        for name in _NUMBERS:
            setattr(tally, name, int(value.get(name, 0)))
        for name, counts in (("refused", tally.refused), ("ended", tally.ended)):
            counts.update({str(reason): int(count) for reason, count in value.get(name, {}).items()})
        for name, histogram in (("connect", tally.connect), ("latency", tally.latency)):
            if name in value:
                histogram.add(Histogram.from_json(value[name]))
        return tally


_NUMBERS = ("opened", "frames_up", "frames_down", "bytes_up", "bytes_down")
