"""What a participant sends to its desktop, as bytes: values only. All of it is harmless to a desktop in use.

Pointer moves have no button, and near the middle of the screen; the one key is Control, alone, down and up. (Not Shift:
five of those in a row mean something to X servers, XKB's AccessX.)
"""

from __future__ import annotations

import functools
import math
import struct
from dataclasses import dataclass

from vncgate.rehearsal.plan import Plan, Play
from vncgate.rehearsal.updates import ENCODINGS, PIXELS, RAW

POSITIONS = 20
"""Different places of the pointer; once in a round of them the key is pressed."""
CIRCLE = 20
"""Pixels from the middle of the screen to where the pointer goes."""
CONTROL_KEY = 0xFFE3
"""keysymdef.h, XK_Control_L."""

_FORMAT = struct.Struct(">Bxxx16s")
_REQUEST = struct.Struct(">BBHHHH")
_POINTER = struct.Struct(">BBHH")
_KEY = struct.Struct(">BBxxI")


@dataclass(frozen=True, slots=True)
class Script:
    """The lines of a part (RFC 6143, section 7.5)."""

    opening: bytes
    """SetPixelFormat and SetEncodings, after the login; and the whole screen, where that is of interest."""
    questions: tuple[bytes, ...]
    """A request for the corner, each with what else is done at that moment; to be taken in turn."""
    want: bytes
    """A request for whatever changes anywhere, after each update; empty where only the corner is of interest."""


@functools.lru_cache(maxsize=64)  # all desktops of a class are of a few sizes
def script(width: int, height: int, plan: Plan) -> Script:
    """The lines for a desktop of this size."""
    lively = plan.play is Play.LIVELY
    encodings = ENCODINGS if lively else (RAW,)
    opening = _FORMAT.pack(0, PIXELS.pack()) + struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings)
    corner_width, corner_height = plan.corner
    ask = _REQUEST.pack(3, 0, 0, 0, min(corner_width, width), min(corner_height, height))
    if not lively:
        return Script(opening, (ask,), b"")
    moves = [_POINTER.pack(5, 0, *_place(step / POSITIONS, width, height)) for step in range(POSITIONS)]
    moves[0] += _KEY.pack(4, 1, CONTROL_KEY) + _KEY.pack(4, 0, CONTROL_KEY)
    return Script(
        opening + _REQUEST.pack(3, 0, 0, 0, width, height),
        tuple(ask + move for move in moves),
        _REQUEST.pack(3, 1, 0, 0, width, height),
    )


def _place(turn: float, width: int, height: int) -> tuple[int, int]:
    """A place on the circle, or the nearest on a screen that is smaller."""
    x = width // 2 + round(CIRCLE * math.cos(turn * math.tau))
    y = height // 2 + round(CIRCLE * math.sin(turn * math.tau))
    return min(max(x, 0), max(width - 1, 0)), min(max(y, 0), max(height - 1, 0))
