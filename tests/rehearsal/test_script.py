"""What participants send: harmless, and as RFC 6143 has it."""

from __future__ import annotations

import struct

import pytest

from vncgate.rehearsal.plan import Plan, Play
from vncgate.rehearsal.script import script

SIZES = {0: 20, 3: 10, 4: 8, 5: 6}


def messages(data):
    while data:
        size = 4 + 4 * struct.unpack(">H", data[2:4])[0] if data[0] == 2 else SIZES[data[0]]
        yield data[:size]
        data = data[size:]


@pytest.mark.parametrize("size", [(1280, 720), (1, 1), (0, 0), (65535, 65535), (30, 20)])
def test_a_lively_participant_does_nothing_that_a_desktop_could_mind(size):
    width, height = size
    lines = script(width, height, Plan(Play.LIVELY, corner=(64, 32)))
    pressed = []
    for question in lines.questions:
        ask, move, *keys = messages(question)
        assert struct.unpack(">BBHHHH", ask) == (3, 0, 0, 0, min(64, width), min(32, height))
        kind, buttons, x, y = struct.unpack(">BBHH", move)
        assert (kind, buttons) == (5, 0)
        assert 0 <= x <= max(width - 1, 0)
        assert 0 <= y <= max(height - 1, 0)
        pressed += [struct.unpack(">BBxxI", key) for key in keys]
    assert pressed == [(4, 1, 0xFFE3), (4, 0, 0xFFE3)]  # Control, down and up
    assert struct.unpack(">BBHHHH", lines.want) == (3, 1, 0, 0, width, height)


def test_the_opening_asks_for_what_can_be_passed_over():
    pixels, encodings, first = messages(script(640, 480, Plan(Play.LIVELY)).opening)
    assert struct.unpack(">BxxxBBBBHHHBBBxxx", pixels) == (0, 32, 24, 0, 1, 255, 255, 255, 0, 8, 16)
    assert struct.unpack(">BxH8i", encodings) == (2, 8, 1, 7, 16, 0, -26, -254, -223, -224)
    assert struct.unpack(">BBHHHH", first) == (3, 0, 0, 0, 640, 480)  # all of it, as a viewer does


def test_at_a_fixed_rate_raw_pixels_of_the_corner_are_asked_for_and_nothing_else():
    lines = script(1920, 1080, Plan(Play.FIXED, corner=(64, 32)))
    assert [*messages(lines.opening)][1] == struct.pack(">BxHi", 2, 1, 0)
    assert lines.questions == (struct.pack(">BBHHHH", 3, 0, 0, 0, 64, 32),)
    assert lines.want == b""
