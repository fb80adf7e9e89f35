"""The websocket's frames: the desktop gets the payload of sound data frames in order, and nothing of what is behind a
frame that is refused; the browser is told why.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tests.engines.desktop import BANNER
from tests.engines.raw import handshake
from tests.fuzz.relayed import MAX_FRAME, Relayed

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
OPEN = 0
"""The end of a session whose browser sent no close frame."""


@dataclass(frozen=True)
class Frame:
    """A frame as far as it came; `wrong` are the codes that it is refused with, whatever came before it."""

    opcode: int
    fin: bool
    payload: bytes
    is_whole: bool
    wrong: frozenset[int]


def close_faults(payload: bytes) -> set[int]:
    """The codes that a close frame is refused with (RFC 6455, sections 5.5.1 and 7.4)."""
    if len(payload) < 2:
        return {1002} if payload else set()
    (code,) = struct.unpack("!H", payload[:2])
    faults = set()
    if not 1000 <= code <= 4999 or code in (1004, 1005, 1006) or 1015 <= code < 3000:
        faults.add(1002)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        faults.add(1007)
    return faults


def frames_of(data: bytes) -> Iterator[Frame]:
    """A browser's frames (RFC 6455, section 5.2), up to the first that is not whole."""
    while data:
        first, second = (data + b"\x80")[:2]
        opcode, size = first & 15, second & 127
        extended = {126: 2, 127: 8}.get(size, 0)
        length, mask, rest = data[2 : 2 + extended], data[2 + extended : 6 + extended], data[6 + extended :]
        wrong = set()
        if not second & 0x80 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            wrong.add(1002)
        if first & 0x70:
            wrong.add(1002)
        if opcode >= CLOSE and (first < 0x80 or size > 125):
            wrong.add(1002)
        if extended and len(length) == extended:
            size = int.from_bytes(length, "big")
            if size >= 1 << 63 or size < (126 if extended == 2 else 65536):
                wrong.add(1002)
        if size > MAX_FRAME:
            wrong.add(1009)
        is_whole = len(data) > 1 and len(mask) == 4 and len(rest) >= size
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(rest[:size])) if is_whole else b""
        if opcode == CLOSE and is_whole and size <= 125:
            wrong |= close_faults(payload)
        yield Frame(opcode, first >= 0x80, payload, is_whole, frozenset(wrong))
        data = rest[size:] if is_whole else b""


def meaning(data: bytes) -> tuple[bytes, bytes, set[int]]:
    """The most and the least that the desktop is to get of a browser's frames, and how the session may end.

    A frame is looked at when the next has come: one that is wrong may cost the one before it, and nothing else.
    """
    up, before, in_message = b"", b"", False
    frames = [*frames_of(data), None]
    for frame, following in itertools.pairwise(frames):
        next_wrong = following.wrong if following else set()
        if frame.wrong:
            return up, before, {*frame.wrong, *next_wrong, *(() if frame.is_whole else (OPEN,))}
        if not frame.is_whole:
            return up, up, {OPEN}
        before = up
        ends = set()
        if frame.opcode == TEXT:
            ends = {1003}
        elif frame.opcode == CLOSE:
            ends = {struct.unpack("!H", frame.payload[:2])[0] if frame.payload else 1000}
            if following and following.opcode == CLOSE:
                ends.add(1002)
        elif frame.opcode in (BINARY, CONTINUATION):
            if (frame.opcode == CONTINUATION) != in_message:
                ends = {1002}
            else:
                in_message = not frame.fin
                up += frame.payload
        if ends:
            return up, up, ends | next_wrong
    return up, up, {OPEN}


def told(got: bytes) -> int:
    """The code of the close frame that a browser got; OPEN without one. All that it got must be sound."""
    head, _, rest = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), got
    down, code = b"", OPEN
    while rest:
        assert code == OPEN, "nothing comes behind a close frame"
        opcode, size, at = rest[0] & 15, rest[1], 2
        assert rest[0] & 0xF0 == 0x80
        assert size < 126, "what we send here is short, and not masked"
        payload, rest = rest[at : at + size], rest[at + size :]
        assert len(payload) == size
        if opcode == CLOSE:
            code = struct.unpack("!H", payload[:2])[0]
            payload[2:].decode()
        elif opcode == BINARY:
            down += payload
        else:
            assert opcode == PONG
    assert down in (BANNER, b"")
    return code


@functools.cache
def relayed() -> Relayed:
    """Made with the first input: an import does nothing."""
    return Relayed()


def one_input(data: bytes) -> None:
    """The first byte says how the rest is sent: whether it waits for the desktop, and in how many parts."""
    if not data:
        return
    how, frames = data[0], data[1:]
    size = max(1, len(frames) // (1 + how % 4))
    parts = [frames[at : at + size] for at in range(0, len(frames), size)]
    most, least, ends = meaning(frames)
    early = bool(how & 128 and parts)
    first = handshake() + parts.pop(0) if early else handshake()
    got, received, reached = relayed().play(first, *parts, greeted=not early)
    code = told(got)
    assert code in ends, (code, ends)
    if early and code != OPEN:
        least = b""  # it ended, perhaps before there was a desktop
    elif code == OPEN:
        least = most
        assert reached
    assert received.startswith(least), (received, least)
    assert most.startswith(received), (received, most)
