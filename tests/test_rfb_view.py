"""What somebody who may only watch can send to a desktop, however it is cut and whatever is tried."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_rfb_input import (
    KEY,
    QEMU_KEY,
    REQUEST,
    USED,
    WATCHED,
    clipboard,
    cut_text,
    desktop_size,
    encodings,
    fence,
    pointer,
    wide_pointer,
)
from vncgate.rfb_view import ViewFilter

PASSES = {
    "pixel format": bytes(20),
    "encodings": encodings(7, -239, -316),
    "no encodings": encodings(),
    "most encodings": encodings(*range(65535)),
    "update request": REQUEST,
    "continuous updates": struct.pack(">BBHHHH", 150, 1, 0, 0, 800, 600),
    "fence": fence(b"\x02"),
    "empty fence": fence(b""),
    "longest fence": fence(bytes(255)),
}
DROPPED = {
    "key": KEY,
    "QEMU key": QEMU_KEY,
    "pointer": pointer(1, 1),
    "pointer with more buttons": wide_pointer(1, 1, 0, 1),
    "text": cut_text(b"text"),
    "no text": cut_text(b""),
    "clipboard": clipboard(1 << 28 | 1, b"deflated"),
    "clipboard's abilities": clipboard(1 << 24 | 1, bytes(4)),
    "clipboard without flags": struct.pack(">Bxxxi", 6, -3) + b"abc",
    "desktop size": desktop_size(1),
    "desktop size, no screens": desktop_size(0),
    "xvp": b"\xfa\x00\x01\x02",
}
WRONG = {
    "unknown": (b"\x63", "a message of type 99"),
    "unknown, as TigerVNC's own": (b"\xfc", "a message of type 252"),
    "gii": (b"\xfd", "a message of type 253"),
    "old pixel format": (b"\x01", "a message of type 1"),
    "QEMU audio": (b"\xff\x01", "a QEMU message of sub-type 1"),
}


@pytest.mark.parametrize("message", PASSES.values(), ids=PASSES)
def test_asking_for_pictures_passes(message):
    assert ViewFilter().feed(message * 2) == message * 2
    bytewise = ViewFilter()
    assert b"".join(bytewise.feed(message[i : i + 1]) for i in range(len(message))) == message


@pytest.mark.parametrize("message", DROPPED.values(), ids=DROPPED)
def test_what_does_something_to_the_desktop_is_dropped(message):
    passes = ViewFilter()
    assert passes.feed(REQUEST + message + REQUEST) == REQUEST * 2
    assert passes.feed(message) == b""
    assert b"".join(passes.feed(message[i : i + 1]) for i in range(len(message))) == b""
    assert passes.feed(REQUEST) == REQUEST, "it is still understood"
    assert not passes.wrong


@pytest.mark.parametrize(("message", "reason"), WRONG.values(), ids=WRONG)
def test_behind_what_is_not_known_nothing_passes(message, reason):
    for size in (1, 1000):
        passes, data = ViewFilter(), REQUEST + message + REQUEST * 3
        assert b"".join(passes.feed(data[at : at + size]) for at in range(0, len(data), size)) == REQUEST
        assert passes.wrong == reason
        assert passes.feed(REQUEST) == b""


def test_every_message_that_is_known_is_one_or_the_other():
    known = {message[0] for message in (*PASSES.values(), *DROPPED.values())}
    assert known == {message[0] for message in (*WATCHED.values(), *USED.values())}
    for kind in set(range(256)) - known:
        passes = ViewFilter()
        assert passes.feed(bytes([kind])) == b""
        assert passes.wrong


def test_a_message_within_another_does_not_pass():
    passes = ViewFilter()
    assert passes.feed(cut_text(REQUEST * 9) + clipboard(1 << 28, REQUEST * 9) + desktop_size(2)) == b""
    assert passes.feed(fence(KEY * 8)) == fence(KEY * 8)


def test_a_huge_text_is_dropped_and_not_kept():
    passes = ViewFilter()
    assert passes.feed(struct.pack(">Bxxxi", 6, -(1 << 31))) == b""
    mib = bytes([4]) * (1 << 20)
    assert not any(passes.feed(mib) for _ in range(2048))
    assert len(passes._head) == 0
    assert passes.feed(REQUEST) == REQUEST


MESSAGES = st.sampled_from(
    [(True, message) for message in PASSES.values() if len(message) < 1000]
    + [(False, message) for message in DROPPED.values()]
)


@given(st.lists(MESSAGES, max_size=20), st.lists(st.integers(0, 400)))
def test_messages_pass_or_do_not_however_they_are_cut(messages, cuts):
    data = b"".join(message for _, message in messages)
    passes, passed = ViewFilter(), b""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        passed += passes.feed(memoryview(data)[start:end])
    assert passed == b"".join(message for may, message in messages if may)
    assert not passes.wrong


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_of_any_bytes_the_same_passes_for_any_cut_and_what_passes_is_sound(data, cuts):
    whole = ViewFilter()
    expected = whole.feed(data)
    cut, passed = ViewFilter(), b""
    edges = [0, *sorted(min(each, len(data)) for each in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        passed += cut.feed(data[start:end])
    assert (passed, cut.wrong) == (expected, whole.wrong)
    again = ViewFilter()
    assert again.feed(passed) == passed, "it is made of messages that pass, up to the last, which may be cut"
    assert not again.wrong
