"""What is played, and where: values only."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from vncgate.model import Secret


class Play(enum.StrEnum):
    """What a participant does once it is logged in."""

    LIVELY = "lively"
    """As a person with noVNC: wants every change of the screen, moves the pointer, presses a key now and then; and asks
    `rate` times a second for the corner of the screen, whose way there and back is the latency."""
    FIXED = "fixed"
    """Asks `rate` times a second for the corner, and for nothing else: one request, one answer."""


@dataclass(frozen=True, slots=True)
class Target:
    """One participant's seat: `url` is ws://, wss:// or tcp:// (plain RFB). An empty password: security None."""

    name: str
    url: str
    password: Secret = Secret("")  # noqa: RUF009  (it is immutable)
    origin: str = ""
    """The Origin that a browser would send (https://host[:port]); empty: none is sent."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how often, how much."""

    play: Play = Play.LIVELY
    rate: float = 10.0
    """Requests a second of each participant."""
    seconds: float = 60.0
    """How long to play, once all have arrived."""
    ramp: float = 0.0
    """Seconds over which the participants arrive, evenly; 0: all at once."""
    corner: tuple[int, int] = (64, 32)
    """Pixels, width and height, of the rectangle at the top left that is asked for: 8 KiB as they are."""
    patience: float = 20.0
    """Seconds that a participant waits until it is logged in."""
