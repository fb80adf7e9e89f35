"""Is the desktop there? What the last looks found, and when to look again. Pure.

A look is a full VNC login (see `probe`), never less: TigerVNC counts every connection that ends before it has
authenticated, and locks out everybody behind the gate's address after five. For the same reason a wrong
password is tried `WRONG_PASSWORD_TRIES` times and then left alone until something changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from vncgate.model import Readiness

WRONG_PASSWORD_TRIES = 3
"""Logins with a wrong password before looking stops; TigerVNC blocks at the fifth."""
FIRST_RETRY = 5.0
"""Seconds until an offline desktop is looked at again; doubles up to the interval."""
JITTER = 0.2
"""Waits are lengthened by up to this part of themselves, so that a class is not probed in step."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known: the readiness, the reason in words, and how many looks in a row found it so."""

    readiness: Readiness = Readiness.UNKNOWN
    reason: str = ""
    times: int = 0

    def found(self, readiness: Readiness, reason: str = "") -> Look:
        """What is known after one more look."""
        times = self.times + 1 if readiness is self.readiness else 1
        return Look(readiness, reason, times)

    def next_after(self, interval: float, chance: float) -> float | None:
        """Seconds until the next look (`chance` in [0, 1)); None: only when something changed."""
        match self.readiness:
            case Readiness.UNKNOWN:
                return 0.0
            case Readiness.WRONG_PASSWORD if self.times >= WRONG_PASSWORD_TRIES:
                return None
            case Readiness.OFFLINE:
                wait = min(interval, FIRST_RETRY * 2.0 ** min(self.times - 1, 16))
            case _:
                wait = interval
        return wait * (1.0 + JITTER * chance)
