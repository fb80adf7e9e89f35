"""What happened, as numbers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vncgate.rehearsal.latencies import Latencies

SILENCE = 2.0
"""Seconds after which an answer is missed by whoever sits there."""
MOST_NAMES = 10
"""Participants that the JSON names for each reason."""


@dataclass(slots=True)
class Report:
    """Counts since the beginning, or the last `Rehearsal.reset()`. Times in seconds; bytes are RFB's own."""

    participants: int = 0
    seconds: float = 0.0
    """How long was measured."""
    connected: int = 0
    """Participants that were logged in, at any time."""
    playing: int = 0
    """Participants that are still there."""
    failed: dict[str, list[str]] = field(default_factory=dict)
    """Who never got in, by the reason in words."""
    drops: dict[str, list[str]] = field(default_factory=dict)
    """Who was logged in and lost the desktop, by the reason in words."""
    silent: list[str] = field(default_factory=list)
    """Who is logged in, and has waited for an answer for longer than SILENCE now."""
    updates: int = 0
    """Complete FramebufferUpdates."""
    asked: int = 0
    """Requests whose answer is timed."""
    late: int = 0
    """Requests that were due and not made, because the answer to the last was still outstanding."""
    bytes_down: int = 0
    bytes_up: int = 0
    cpu: float = 0.0
    """CPU seconds of the generator itself."""
    connecting: Latencies = field(default_factory=Latencies)
    """Until the websocket (or the TCP connection) stood, TLS included."""
    banner: Latencies = field(default_factory=Latencies)
    """Until the desktop's first bytes, from the beginning."""
    login: Latencies = field(default_factory=Latencies)
    """Until the login had succeeded, from the beginning."""
    picture: Latencies = field(default_factory=Latencies)
    """Until the first update was complete, from the beginning; LIVELY: of the whole screen."""
    latency: Latencies = field(default_factory=Latencies)
    """From a request to its complete answer."""
    lag: Latencies = field(default_factory=Latencies)
    """How late the generator's own clockwork was: it should be a few milliseconds."""

    @property
    def updates_a_second(self) -> float:
        """Of all participants together."""
        return self.updates / self.seconds if self.seconds else 0.0

    @property
    def cpu_share(self) -> float:
        """Of one core, by the generator: where it nears 1, the other figures are the generator's own."""
        return self.cpu / self.seconds if self.seconds else 0.0

    @property
    def failures(self) -> int:
        """Participants that never got in."""
        return sum(map(len, self.failed.values()))

    @property
    def dropped(self) -> int:
        """Participants that lost the desktop."""
        return sum(map(len, self.drops.values()))

    def to_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "seconds": self.seconds,
            **{name: getattr(self, name) for name in _SUMS},
            "silent": self.silent,
            "updates_a_second": self.updates_a_second,
            "cpu_share": self.cpu_share,
            **{
                name: [
                    {"reason": reason, "count": len(who), "who": who[:MOST_NAMES]}
                    for reason, who in getattr(self, name).items()
                ]
                for name in _REASONS
            },
            **{name: getattr(self, name).to_json() for name in _TIMES},
        }


_SUMS = ("participants", "connected", "playing", "updates", "asked", "late", "bytes_down", "bytes_up", "cpu")
_TIMES = ("connecting", "banner", "login", "picture", "latency", "lag")
_REASONS = ("failed", "drops")
