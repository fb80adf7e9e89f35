"""What is use of a desktop and what is not, however the client's bytes are cut."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.rfb_input import InputReader

VERSION = b"RFB 003.008\n"
LOGIN = VERSION + b"\x02" + bytes(range(16)) + b"\x01"
REQUEST = struct.pack(">BBHHHH", 3, 1, 0, 0, 800, 600)
KEY = struct.pack(">BBxxI", 4, 1, 0x61)
QEMU_KEY = struct.pack(">BBHII", 255, 0, 1, 0x61, 30)
CAPS, ASK, PEEK, NOTIFY, PROVIDE = (1 << bit for bit in range(24, 29))


def pointer(x, y, mask=0):
    return struct.pack(">BBHH", 5, mask, x, y)


def wide_pointer(x, y, mask, more):
    return pointer(x, y, mask | 0x80) + bytes([more])


def cut_text(data):
    return struct.pack(">Bxxxi", 6, len(data)) + data


def clipboard(flags, data=b""):
    return struct.pack(">BxxxiI", 6, -4 - len(data), flags) + data


def encodings(*numbers):
    return struct.pack(f">BxH{len(numbers)}i", 2, len(numbers), *numbers)


def fence(payload):
    return struct.pack(">BxxxIB", 248, 1, len(payload)) + payload


def desktop_size(screens):
    return struct.pack(">BxHHBx", 251, 800, 600, screens) + bytes(16 * screens)


WATCHED = {
    "pixel format": bytes(20),
    "encodings": encodings(7, -239, -316),
    "no encodings": encodings(),
    "update request": REQUEST,
    "continuous updates": struct.pack(">BBHHHH", 150, 1, 0, 0, 800, 600),
    "fence": fence(b"\x02"),
    "empty fence": fence(b""),
    "long fence": fence(bytes(64)),
    "desktop size": desktop_size(1),
    "desktop size, no screens": desktop_size(0),
    "xvp": b"\xfa\x00\x01\x02",
    "clipboard's abilities": clipboard(CAPS | ASK | PEEK | NOTIFY | PROVIDE | 1, bytes(4)),
    "the desktop's clipboard asked for": clipboard(ASK | 1),
    "clipboard without flags": struct.pack(">Bxxxi", 6, -3) + b"abc",
}
USED = {
    "key": KEY,
    "key's end": struct.pack(">BBxxI", 4, 0, 0x61),
    "QEMU key": QEMU_KEY,
    "text": cut_text("grüße".encode("latin-1")),
    "no text": cut_text(b""),
    "clipboard is there": clipboard(NOTIFY | 1),
    "clipboard": clipboard(PROVIDE | 1, b"deflated"),
    "pointer": pointer(1, 1),
    "pointer with more buttons": wide_pointer(1, 1, 0, 1),
}


def reader(blind=pytest.fail):
    return InputReader(blind)


def logged_in(login=LOGIN):
    reads = reader()
    assert not reads.feed(login)
    return reads


@pytest.mark.parametrize("message", WATCHED.values(), ids=WATCHED)
def test_who_only_watches_uses_nothing(message):
    reads = logged_in()
    assert not reads.feed(message)
    assert not reads.feed(message + message + REQUEST)
    assert not any(reads.feed(message[i : i + 1]) for i in range(len(message)))
    assert reads.feed(KEY), "it is still understood"


@pytest.mark.parametrize("message", USED.values(), ids=USED)
def test_keys_pointers_and_texts_are_use(message):
    reads = logged_in()
    assert reads.feed(message)
    assert not reads.feed(REQUEST), "it is still understood"
    assert logged_in().feed(REQUEST + message + REQUEST)
    reads = logged_in()
    assert sum(reads.feed(message[i : i + 1]) for i in range(len(message))) == 1


@pytest.mark.parametrize("together", [True, False], ids=["in one frame", "each in its own"])
def test_a_pointer_that_stays_where_it_is_is_no_use(together):
    moves = [pointer(5, 5), pointer(5, 6), pointer(5, 6, 1), pointer(5, 6), pointer(4, 6)]
    moves += [wide_pointer(4, 6, 0, 1), wide_pointer(4, 6, 0, 2), wide_pointer(4, 6, 1, 2), wide_pointer(4, 7, 1, 2)]
    reads = logged_in()
    for move in moves:
        assert reads.feed(REQUEST + move if together else move)
        assert not reads.feed(move + REQUEST if together else move)
        assert not reads.feed(move)


@pytest.mark.parametrize(
    "login",
    [
        VERSION + b"\x01\x00",
        VERSION + b"\x01\x01",
        LOGIN,
        b"RFB 003.007\n" + LOGIN[12:],
        VERSION + b"\x02" + b"\x04" * 17,  # an answer to the challenge that looks like keys
    ],
    ids=["none, not shared", "none", "password", "3.7", "password like keys"],
)
def test_logging_in_is_no_use(login):
    reads = reader()
    assert not any(reads.feed(login[i : i + 1]) for i in range(len(login)))
    assert not reads.feed(REQUEST)
    assert reads.feed(KEY)


BLINDING = {
    "VeNCrypt": (VERSION + b"\x13", "a login of security type 19"),
    "RFB 3.3": (b"RFB 003.003\n", "a client that says b'RFB 003.003\\n'"),
    "no client": (b"GET / HTTP/1.1\r\n", "a client that says b'GET / HTTP/1'"),
    "unknown message": (LOGIN + REQUEST + b"\x63", "a message of type 99"),
    "QEMU audio": (LOGIN + b"\xff\x01", "a QEMU message of sub-type 1"),
}


@pytest.mark.parametrize(("data", "reason"), BLINDING.values(), ids=BLINDING)
def test_where_it_cannot_read_on_every_byte_is_use(data, reason):
    said = []
    reads = reader(said.append)
    assert reads.feed(data)
    for more in (REQUEST, b"\0", LOGIN):
        assert reads.feed(more)
    assert not reads.feed(b""), "nothing is no use"
    assert said == [reason]


def test_a_huge_text_is_passed_over_and_not_kept():
    reads = logged_in()
    size = (1 << 31) - 1
    assert reads.feed(struct.pack(">Bxxxi", 6, size))
    mib = bytes(1 << 20)
    assert not any(reads.feed(mib) for _ in range(size >> 20))
    assert not reads.feed(bytes(size & ((1 << 20) - 1)))
    assert len(reads._kept) == 0
    assert not reads.feed(REQUEST)
    assert reads.feed(KEY)


@pytest.mark.parametrize(
    ("message", "size"),
    [(fence(KEY * 8), 10), (encodings(*[0x04040404] * 9), 8), (wide_pointer(1, 1, 0, 1), 6), (desktop_size(2), 10)],
    ids=["fence", "encodings", "pointer", "desktop size"],
)
def test_the_beginning_of_a_message_is_not_taken_for_a_short_one(message, size):
    reads = logged_in()
    assert not reads.feed(message[:size])
    assert reads.feed(message[size:]) is (message[0] == 5)
    assert not reads.feed(REQUEST)
    assert reads.feed(KEY)


def test_what_is_in_a_text_is_no_message():
    reads = logged_in()
    assert reads.feed(cut_text(KEY * 3)[:8])
    assert not reads.feed(KEY)
    assert not reads.feed(KEY + KEY)
    assert not reads.feed(REQUEST)


MESSAGES = (
    st.sampled_from([*WATCHED.values(), *USED.values()])
    | st.builds(pointer, st.integers(0, 2), st.just(0), st.integers(0, 1))
    | st.builds(wide_pointer, st.integers(0, 2), st.just(0), st.integers(0, 1), st.integers(0, 1))
)
STREAMS = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda parts, end: LOGIN + b"".join(parts) + end, st.lists(MESSAGES, max_size=12), st.binary(max_size=20)
    ),
)


@given(STREAMS, st.data())
def test_any_cut_tells_the_same(stream, data):
    bytewise = reader([].append)
    used_at = [at for at in range(len(stream)) if bytewise.feed(stream[at : at + 1])]
    said = []
    cut = reader(said.append)
    at = 0
    while at < len(stream):
        size = data.draw(st.sampled_from([1, 6, 8, 10, 12]) | st.integers(0, len(stream)))
        found = cut.feed(memoryview(stream)[at : at + size])
        assert found is any(at <= place < at + size for place in used_at)
        at += size
    assert len(said) <= 1


@given(st.lists(MESSAGES, max_size=30))
def test_messages_are_told_apart(messages):
    """Each by each, and against what makes a pointer's event use: that it is not as the last one was."""
    reads = logged_in()
    last = None
    for message in messages:
        if message[0] == 5:
            expected, last = message != last, message
        else:
            expected = message in USED.values()
        assert reads.feed(message) is expected
