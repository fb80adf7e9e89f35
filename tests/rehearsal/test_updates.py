"""What a desktop sends, passed over exactly, wherever it is cut."""

from __future__ import annotations

import contextlib
import itertools
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vncgate.rehearsal.updates import Updates

CORNER = (64, 32)
sizes = st.integers(0, 40)


def rect(x, y, w, h, encoding, payload=b""):
    return struct.pack(">HHHHi", x, y, w, h, encoding) + payload


def compact(length):
    """Tight's length: seven bits a byte, the lowest first; the third byte has eight."""
    if length < 0x80:
        return bytes([length])
    if length < 0x4000:
        return bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])


@st.composite
def tight(draw, w, h):
    kind = draw(st.sampled_from(["fill", "jpeg", "copy", "explicit copy", "palette", "gradient"]))
    reset = draw(st.integers(0, 15))
    data = st.binary(max_size=300) | st.integers(0x3FF0, 0x4100).map(bytes)
    if kind == "fill":
        return bytes([0x80 | reset]) + draw(st.binary(min_size=3, max_size=3))
    if kind == "jpeg":
        jpeg = draw(data)
        return bytes([0x90 | reset]) + compact(len(jpeg)) + jpeg
    stream = draw(st.integers(0, 3)) << 4
    head, size = {
        "copy": (bytes([stream | reset]), 3 * w * h),
        "explicit copy": (bytes([0x40 | stream | reset, 0]), 3 * w * h),
        "gradient": (bytes([0x40 | stream | reset, 2]), 3 * w * h),
        "palette": (bytes([0x40 | stream | reset, 1]), None),
    }[kind]
    if size is None:
        colours = draw(st.sampled_from([2, 3, 16, 256]))
        head += bytes([colours - 1]) + bytes(3 * colours)
        size = ((w + 7) // 8 if colours == 2 else w) * h
    if size < 12:
        return head + bytes(size)
    packed = draw(data)
    return head + compact(len(packed)) + packed


@st.composite
def rectangles(draw):
    x, y, w, h = draw(st.integers(0, 100)), draw(st.integers(0, 100)), draw(sizes), draw(sizes)
    touches = x < CORNER[0] and y < CORNER[1]
    encoding = draw(st.sampled_from([0, 1, 7, 16, -223]))
    payload = {
        0: lambda: bytes(4 * w * h),
        1: lambda: bytes(4),
        7: lambda: draw(tight(w, h)),
        16: lambda: (lambda z: struct.pack(">I", len(z)) + z)(draw(st.binary(max_size=300))),
        -223: lambda: b"",
    }[encoding]()
    return rect(x, y, w, h, encoding, payload), touches and encoding != -223


@st.composite
def messages(draw):
    """A message, and what it says of the corner (None: it is no update)."""
    kind = draw(st.sampled_from(["update", "update", "open update", "colours", "bell", "text", "extended text"]))
    if kind.endswith("update"):
        parts = draw(st.lists(rectangles(), max_size=4))
        count, end = (len(parts), b"") if kind == "update" else (0xFFFF, rect(0, 0, 0, 0, -224))
        body = struct.pack(">BxH", 0, count) + b"".join(part for part, _ in parts) + end
        return body, any(touches for _, touches in parts)
    if kind == "colours":
        count = draw(st.integers(0, 20))
        return struct.pack(">BxHH", 1, 7, count) + bytes(6 * count), None
    if kind == "bell":
        return b"\x02", None
    text = draw(st.binary(max_size=100))
    return struct.pack(">Bxxxi", 3, len(text) if kind == "text" else -len(text)) + text, None


def heard(data, cuts=()):
    said = []
    updates = Updates(said.append, CORNER)
    for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        updates.feed(memoryview(data)[start:end])
    return said


@given(st.lists(messages(), max_size=4), st.data())
def test_every_update_is_counted_once_wherever_it_is_cut(sent, data):
    stream = b"".join(body for body, _ in sent)
    expected = [touches for _, touches in sent if touches is not None]
    assert heard(stream) == expected
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert heard(stream, cuts) == expected


@pytest.mark.parametrize(
    ("width", "height", "payload"),
    [
        (8, 11, b"\x50\x01\x01" + bytes(6) + bytes(11)),  # two colours: a bit a pixel, and too little to be packed
        (9, 5, b"\x50\x01\x01" + bytes(6) + bytes(10)),  # a row of nine takes two bytes
        (9, 6, b"\x50\x01\x01" + bytes(6) + compact(5) + bytes(5)),  # twelve bytes are packed
        (11, 1, b"\x50\x01\x02" + bytes(9) + bytes(11)),  # three colours: a byte a pixel
        (12, 1, b"\x50\x01\x02" + bytes(9) + compact(4) + bytes(4)),
        (3, 1, b"\x00" + bytes(9)),
        (4, 1, b"\x00" + compact(7) + bytes(7)),
        (64, 64, b"\x9f" + compact(0x2FFFFF) + bytes(0x2FFFFF)),  # a JPEG whose length takes all bits of three bytes
    ],
)
def test_the_lengths_of_tight(width, height, payload):
    one = struct.pack(">BxH", 0, 1) + rect(0, 0, width, height, 7, payload)
    assert heard(one + one) == [True, True]
    assert heard(one[:-1]) == []


@given(st.lists(messages(), min_size=1, max_size=3))
def test_an_update_is_complete_with_its_last_byte_and_not_before(sent):
    said = []
    updates = Updates(said.append, CORNER)
    for body, touches in sent:
        for byte in body[:-1]:
            before = len(said)
            updates.feed(bytes([byte]))
            assert len(said) == before
        updates.feed(body[-1:])
        assert said[before if len(body) > 1 else len(said) :] == ([] if touches is None else [touches])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x63", "type 99"),
        (struct.pack(">BxH", 0, 1) + rect(0, 0, 1, 1, 5), "encoding 5"),
        (struct.pack(">BxH", 0, 1) + rect(0, 0, 1, 1, 7, b"\xa0"), "type 10"),
        (struct.pack(">BxH", 0, 1) + rect(0, 0, 9, 9, 7, b"\x40\x03"), "filter 3"),
        (struct.pack(">Bxxxi", 3, 1 << 30), "clipboard of 1073741824 bytes"),
        (struct.pack(">Bxxxi", 3, -(1 << 30)), "clipboard of 1073741824 bytes"),
    ],
)
def test_what_nobody_asked_for_is_an_error_in_words(data, words):
    with pytest.raises(ValueError, match=words):
        heard(data)


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=5))
@example(b"\x00" * 2000, [])
def test_any_bytes_are_taken_or_are_an_error(data, cuts):
    with contextlib.suppress(ValueError):
        heard(data, [min(cut, len(data)) for cut in cuts])
