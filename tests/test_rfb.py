"""The login on both sides: every version and outcome, any chunking, any bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.model import Secret
from vncgate.rfb import (
    MAX_TEXT,
    SECURITY_NONE,
    SECURITY_VNC_AUTH,
    ClientHandshake,
    PixelFormat,
    Refusal,
    Refused,
    ServerHandshake,
    ServerInit,
    password_file,
    vnc_auth,
)

PASSWORD = "secret01"
CHALLENGE = bytes(range(16))
FORMAT = PixelFormat(32, 24, False, True, 255, 255, 255, 16, 8, 0)
INIT = ServerInit(1024, 768, FORMAT, "Ada's desktop")


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def text(words: bytes) -> bytes:
    return u32(len(words)) + words


def server(minor: int, security: int, result: bytes = u32(0), after: bytes | None = None) -> bytes:
    """What a server of 3.`minor` sends during a login with `security`."""
    sent = b"RFB 003.%03d\n" % minor
    sent += u32(security) if minor == 3 else bytes([2, 16, security])
    if security == SECURITY_VNC_AUTH:
        sent += CHALLENGE
    if security == SECURITY_VNC_AUTH or minor >= 8:
        sent += result
    return sent + (INIT.pack() if after is None else after)


def login(data: bytes, cuts=(), eof: bool = True, password: str = PASSWORD) -> tuple[object, bytes]:
    """The result and all bytes sent, when `data` comes cut at `cuts`."""
    handshake = ClientHandshake(Secret(password))
    sent = b""
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        handshake.receive_data(data[start:end])
        sent += handshake.data_to_send()
    if eof:
        handshake.receive_eof()
    return handshake.result, sent + handshake.data_to_send()


@pytest.mark.parametrize("security", [SECURITY_NONE, SECURITY_VNC_AUTH])
@pytest.mark.parametrize("minor", [3, 7, 8])
def test_a_login_succeeds_in_every_version(minor, security):
    result, sent = login(server(minor, security))
    choice = b"" if minor == 3 else bytes([security])
    answer = vnc_auth(PASSWORD, CHALLENGE) if security == SECURITY_VNC_AUTH else b""
    assert result == INIT
    assert sent == b"RFB 003.%03d\n" % minor + choice + answer + b"\x01"


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [("003.005", 3), ("003.006", 3), ("003.007", 7), ("003.889", 8), ("004.001", 8), ("005.000", 8)],
)
def test_a_version_that_is_none_of_the_three_is_met_with_one_that_is(offered, spoken):
    data = b"RFB " + offered.encode() + b"\n" + server(spoken, SECURITY_VNC_AUTH)[12:]
    result, sent = login(data)
    assert result == INIT
    assert sent.startswith(b"RFB 003.%03d\n" % spoken)


def test_nothing_is_sent_before_the_server_spoke_nor_twice():
    handshake = ClientHandshake(Secret(PASSWORD))
    assert handshake.data_to_send() == b""
    handshake.receive_data(b"RFB 003.008\n")
    assert handshake.data_to_send() == b"RFB 003.008\n"
    assert handshake.data_to_send() == b""


def test_a_password_is_used_where_the_server_leaves_the_choice():
    data = b"RFB 003.008\n\x02\x01\x02"
    assert login(data, eof=False)[1][-1] == SECURITY_VNC_AUTH
    assert login(data, eof=False, password="")[1][-1] == SECURITY_NONE


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (server(3, 2, u32(1), b""), Refused(Refusal.WRONG_PASSWORD)),
        (server(7, 2, u32(1), b""), Refused(Refusal.WRONG_PASSWORD)),
        (
            server(8, 2, u32(1), text(b"Authentication failure")),
            Refused(Refusal.WRONG_PASSWORD, "Authentication failure"),
        ),
        (server(8, 2, u32(1), b""), Refused(Refusal.WRONG_PASSWORD)),
        (server(8, 1, u32(1), text(b"Not today")), Refused(Refusal.REJECTED, "Not today")),
        (server(3, 2, u32(2), b""), Refused(Refusal.TOO_MANY_FAILURES)),
        (server(8, 2, u32(1), text(b"Too many tries")), Refused(Refusal.TOO_MANY_FAILURES, "Too many tries")),
        (
            b"RFB 003.003\n" + u32(0) + text(b"Too many security failures"),
            Refused(Refusal.TOO_MANY_FAILURES, "Too many security failures"),
        ),
        (b"RFB 003.008\n\x00" + text(b"No room\r\n\x1b[1m"), Refused(Refusal.REJECTED, "No room   [1m")),
        (b"RFB 003.008\n\x00" + u32(2**32 - 1) + b"x" * MAX_TEXT, Refused(Refusal.REJECTED, "x" * MAX_TEXT)),
        (b"RFB 003.008\n\x02\x13\x10", Refused(Refusal.NO_COMMON_SECURITY, "it offers 19, 16")),
        (b"RFB 003.003\n" + u32(30), Refused(Refusal.NO_COMMON_SECURITY, "it offers 30")),
        (server(8, 2, u32(7), b""), Refused(Refusal.NOT_RFB, "security result 7")),
        (server(8, 2, after=INIT.pack()[:20] + u32(MAX_TEXT + 1)), Refused(Refusal.NOT_RFB, "a name of 4097 bytes")),
        (server(8, 2, after=b"\0\1\0\1\x18" + bytes(19)), Refused(Refusal.NOT_RFB, "pixels of 24 bits")),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", Refused(Refusal.NOT_RFB, "no RFB greeting")),
        (b"220 ", Refused(Refusal.NOT_RFB, "no RFB greeting")),
        (b"RFB 002.000\n", Refused(Refusal.NOT_RFB, "no RFB greeting")),
        (b"RFB 003 008\n", Refused(Refusal.NOT_RFB, "no RFB greeting")),
        (b"", Refused(Refusal.CLOSED)),
        (server(8, 2, b"", b""), Refused(Refusal.CLOSED)),
        (server(8, 2)[:-1], Refused(Refusal.CLOSED)),
    ],
)
def test_every_refusal_has_its_kind_and_reason(data, expected):
    assert login(data)[0] == expected


def test_another_server_is_recognised_without_waiting_for_more():
    assert login(b"220 ", eof=False)[0] == Refused(Refusal.NOT_RFB, "no RFB greeting")


def test_a_result_never_changes():
    handshake = ClientHandshake(Secret(PASSWORD))
    handshake.receive_data(server(8, SECURITY_VNC_AUTH))
    handshake.receive_data(b"more")
    handshake.receive_eof()
    assert handshake.result == INIT


versions, securities = st.sampled_from([3, 7, 8]), st.sampled_from([SECURITY_NONE, SECURITY_VNC_AUTH])
results = st.sampled_from([u32(0), u32(1), u32(2), u32(9)])


@given(
    versions,
    securities,
    results,
    st.none() | st.binary(max_size=60),
    st.lists(st.integers(0, 120)),
    st.integers(0, 120),
)
def test_any_chunking_gives_the_same(minor, security, result, after, cuts, size):
    data = server(minor, security, result, after)[:size]
    assert login(data, cuts) == login(data)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(b"RFB 003.008\n".__add__), st.lists(st.integers(0, 200)))
def test_any_bytes_end_in_a_typed_result(data, cuts):
    result, _ = login(data, cuts)
    assert isinstance(result, (ServerInit, Refused))


@given(
    st.builds(
        PixelFormat,
        st.sampled_from([8, 16, 32]),
        st.integers(1, 32),
        st.booleans(),
        st.booleans(),
        *[st.integers(0, 65535)] * 3,
        *[st.integers(0, 255)] * 3,
    )
)
def test_a_pixel_format_survives_its_bytes(pixel_format):
    assert PixelFormat.unpack(pixel_format.pack()) == pixel_format


def test_des_is_that_of_the_standard_with_each_key_byte_reversed():
    # Key 133457799BBCDFF1, plain text 0123456789ABCDEF: the worked example of FIPS 46 (J. O. Grabbe).
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in bytes.fromhex("133457799BBCDFF1"))
    block = bytes.fromhex("0123456789ABCDEF")
    assert vnc_auth(key.decode("latin-1"), block * 2) == bytes.fromhex("85E813540F0AB405") * 2


def test_a_password_file_is_what_vncpasswd_writes():
    assert password_file(Secret("password")).hex() == "dbd83cfd727a1458"
    assert password_file(Secret("password and more")) == password_file(Secret("password"))
    assert password_file(Secret("p\xe4ss")).hex() == "dbf0dd8b7c9b2c23"  # typed as Latin-1


@given(st.text(max_size=20))
def test_any_password_has_an_answer(password):
    assert len(vnc_auth(password, CHALLENGE)) == 16


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_follows_the_login_is_kept(size):
    data = server(8, SECURITY_NONE) + b"\x02\x02"
    handshake = ClientHandshake(Secret(PASSWORD))
    while handshake.result is None:
        handshake.receive_data(data[:size])
        data = data[size:]
    assert handshake.rest + data == b"\x02\x02"


def test_a_handshake_does_not_show_its_password():
    assert PASSWORD not in repr(vars(ClientHandshake(Secret(PASSWORD))))


@pytest.mark.parametrize("kind", list(Refusal))
def test_every_refusal_has_words_whatever_the_server_says(kind):
    assert "{" not in str(Refused(kind))
    said = str(Refused(kind, "{a} {"))
    assert ("{a} {" in said) == (kind in (Refusal.NO_COMMON_SECURITY, Refusal.REJECTED, Refusal.NOT_RFB))


def test_a_challenge_may_be_answered_from_outside():
    handshake = ClientHandshake(None)
    data = server(8, SECURITY_VNC_AUTH) + b"more"
    for at in range(len(data)):
        handshake.receive_data(data[at : at + 1])
    assert handshake.result is None
    assert handshake.challenge == CHALLENGE
    handshake.data_to_send()
    handshake.answer(b"r" * 16)
    assert handshake.data_to_send() == b"r" * 16 + b"\x01"
    assert handshake.challenge is None
    assert (handshake.result, handshake.server_init, handshake.rest) == (INIT, INIT.pack(), b"more")


@pytest.mark.parametrize("minor", [3, 7, 8])
@given(cuts=st.lists(st.integers(0, 120)), result=results)
def test_an_answer_from_outside_leads_to_what_a_password_leads_to(minor, cuts, result):
    data = server(minor, SECURITY_VNC_AUTH, result)
    handshake, sent = ClientHandshake(None), b""
    for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        handshake.receive_data(data[start:end])
        if handshake.challenge:
            handshake.answer(vnc_auth(PASSWORD, handshake.challenge))
        sent += handshake.data_to_send()
    handshake.receive_eof()
    assert (handshake.result, sent) == login(data)


@pytest.mark.parametrize("security", [SECURITY_NONE, SECURITY_VNC_AUTH])
def test_what_is_no_answer_is_not_taken(security):
    handshake = ClientHandshake(None)
    with pytest.raises(ValueError, match="no challenge"):
        handshake.answer(bytes(16))
    handshake.receive_data(server(8, security))
    with pytest.raises(ValueError, match="no answer"):
        handshake.answer(bytes(15))
    if security == SECURITY_VNC_AUTH:
        handshake.receive_eof()
    with pytest.raises(ValueError, match="no answer"):
        handshake.answer(bytes(16))


def test_without_a_password_here_the_one_outside_is_preferred_to_none():
    handshake = ClientHandshake(None)
    handshake.receive_data(b"RFB 003.008\n\x02\x01\x02")
    assert handshake.data_to_send()[-1] == SECURITY_VNC_AUTH


def test_a_name_reaches_the_browser_as_the_desktop_wrote_it():
    raw = INIT.pack()[:20] + text(b"\xff\x1b[1m")
    handshake = ClientHandshake(Secret(PASSWORD))
    handshake.receive_data(server(8, SECURITY_NONE, after=raw))
    assert handshake.server_init == raw
    assert handshake.result.name.isprintable()


def serve(data: bytes, cuts=(), eof: bool = True) -> tuple[object, bytes, bytes]:
    """What a server makes of a client's bytes, says, and leaves."""
    handshake = ServerHandshake()
    sent = handshake.data_to_send()
    for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        handshake.receive_data(data[start:end])
        sent += handshake.data_to_send()
    if eof:
        handshake.receive_eof()
    return handshake.result, sent, handshake.rest


OURS = b"RFB 003.008\n"


@pytest.mark.parametrize(
    ("said", "expected", "sent"),
    [
        (b"RFB 003.003\n\x01", True, u32(1)),
        (b"RFB 003.005\n\x01", True, u32(1)),
        (b"RFB 003.007\n\x01\x01", True, b"\x01\x01"),
        (b"RFB 003.008\n\x01\x01", True, b"\x01\x01" + u32(0)),
        (b"RFB 003.008\n\x01\x00", False, b"\x01\x01" + u32(0)),
        (b"RFB 003.889\n\x01\x01", True, b"\x01\x01" + u32(0)),
        (
            b"RFB 003.008\n\x02",
            Refused(Refusal.NOT_RFB, "security type 2 was not offered"),
            b"\x01\x01" + u32(1) + text(b"security type 2 was not offered"),
        ),
        (b"RFB 003.007\n\x13", Refused(Refusal.NOT_RFB, "security type 19 was not offered"), b"\x01\x01"),
        (b"GET ", Refused(Refusal.NOT_RFB, "no RFB greeting"), b""),
        (b"RFB 002.000\n", Refused(Refusal.NOT_RFB, "no RFB greeting"), b""),
        (b"", Refused(Refusal.CLOSED), b""),
        (b"RFB 003.008\n\x01", Refused(Refusal.CLOSED), b"\x01\x01" + u32(0)),
    ],
)
def test_a_server_lets_in_whoever_is_there(said, expected, sent):
    assert serve(said)[:2] == (expected, OURS + sent)


@given(
    st.sampled_from([b"RFB 003.003\n", b"RFB 003.007\n\x01", b"RFB 003.008\n\x01", b"RFB 003.008\n", b""]),
    st.binary(max_size=20),
    st.lists(st.integers(0, 40)),
)
def test_for_a_server_too_any_chunking_gives_the_same(begin, more, cuts):
    found = serve(begin + more, cuts)
    assert found == serve(begin + more)
    assert isinstance(found[0], bool | Refused)


@pytest.mark.parametrize("minor", [3, 7, 8])
@given(rest=st.binary(max_size=20))
def test_our_client_and_our_server_understand_each_other(minor, rest):
    ours, theirs = ServerHandshake(), ClientHandshake(Secret(PASSWORD))
    theirs.receive_data(ours.data_to_send().replace(b"3.008", b"3.00%d" % minor))
    while ours.result is None:
        ours.receive_data(theirs.data_to_send())
        theirs.receive_data(ours.data_to_send())
    theirs.receive_data(INIT.pack() + rest)
    assert (ours.result, theirs.result, theirs.rest) == (True, INIT, rest)
