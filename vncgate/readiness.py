"""Is the desktop there? What the probes found, and when to probe again. Pure.

A probe is a full VNC login, never less: TigerVNC counts every connection that ends before it has authenticated,
and locks out everybody behind the gate's address after five. For the same reason a wrong password is tried
`WRONG_PASSWORD_TRIES` times and then left alone, until the account changes or an operator restarts it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vncgate.model import Readiness

WRONG_PASSWORD_TRIES = 3
"""Logins with a wrong password before probing stops; TigerVNC blocks at the fifth."""
FIRST_RETRY = 5.0
"""Seconds until an offline desktop is probed again; doubles up to the interval."""
JITTER = 0.2
"""Waits are lengthened by up to this part of themselves, so that a class is not probed in step."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known: the readiness, the reason in words, and how many probes in a row found it so.

    `wrong` counts logins with a wrong password since the last that succeeded; nothing else clears it.
    """

    readiness: Readiness = Readiness.UNKNOWN
    reason: str = ""
    times: int = 0
    wrong: int = 0

    @property
    def is_final(self) -> bool:
        """Whether no further probe may be made: the password was wrong too often."""
        return self.wrong >= WRONG_PASSWORD_TRIES

    def found(self, readiness: Readiness, reason: str = "") -> Finding:
        """What is known after one more probe."""
        times = self.times + 1 if readiness is self.readiness else 1
        match readiness:
            case Readiness.READY:
                wrong = 0
            case Readiness.WRONG_PASSWORD:
                wrong = self.wrong + 1
            case _:
                wrong = self.wrong
        return Finding(readiness, reason, times, wrong)

    def suspected(self, reason: str) -> Finding:
        """What is known after a browser could not be connected: no probe, so a final finding stays."""
        return self if self.is_final else replace(self.found(Readiness.OFFLINE, reason), times=1)

    def in_use(self) -> Finding:
        """What is known while a browser is connected: the desktop is there, whatever its password."""
        return (
            self if self.readiness is Readiness.WRONG_PASSWORD else replace(self, readiness=Readiness.READY, reason="")
        )

    def next_after(self, interval: float, chance: float) -> float | None:
        """Seconds until the next probe (`chance` in [0, 1)); None: none until something changes."""
        if self.is_final:
            return None
        if self.readiness is Readiness.UNKNOWN:
            return 0.0
        wait = interval
        if self.readiness is Readiness.OFFLINE:
            wait = min(interval, FIRST_RETRY * 2.0 ** min(self.times - 1, 16))
        return wait * (1.0 + JITTER * chance)
