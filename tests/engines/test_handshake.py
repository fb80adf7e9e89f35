"""Which pages may open a desktop, and which subprotocol is answered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from tests.engines.desktop import limits
from vncgate.engines.handshake import came_over_https, chosen_subprotocol, objection, origin_allowed, wants_upgrade
from vncgate.tally import Refusal


@pytest.mark.parametrize(
    ("origin", "hosts", "allowed"),
    [
        (None, ["x"], True),
        ("https://gate.example", ["gate.example"], True),
        ("https://gate.example:443", ["gate.example"], True),
        ("HTTPS://Gate.Example", ["gate.example:443"], True),
        ("http://gate.example", ["gate.example:80"], True),
        ("https://gate.example:8080", ["gate.example:6000"], True),  # our pages' port
        ("https://gate.example:9999", ["gate.example:6000"], False),
        ("http://[::1]:8080", ["[::1]:8081"], True),
        ("https://gate.example.evil", ["gate.example"], False),
        ("https://evil", ["gate.example", "evil.gate.example"], False),
        ("https://user@evil", ["evil@gate"], False),
        ("null", ["null"], False),
        ("", [""], False),
        ("file://", [""], False),
        ("https://x:99999", ["x:99999"], False),
        ("https://portal.example", ["gate.example"], True),
    ],
)
def test_origins(origin, hosts, allowed):
    assert origin_allowed(origin, hosts, ("https://portal.example",), 8080) is allowed


@given(st.text(), st.lists(st.text(), max_size=3))
def test_no_header_makes_it_fail(origin, hosts):
    origin_allowed(origin, hosts, (), 8080)


@given(st.lists(st.text(alphabet="binary,base64 \t", max_size=30), max_size=3))
def test_only_what_was_offered_is_answered(offered):
    answer = chosen_subprotocol(offered)
    assert answer is None or any(answer in header for header in offered)


def request(*lines, **changes):
    """The headers of a good handshake, with changes and more lines."""
    good = {
        "Host": "gate.example",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    good |= {name.replace("_", "-"): value for name, value in changes.items()}
    return CIMultiDict([*((name, value) for name, value in good.items() if value is not None), *lines])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["Upgrade"], True),
        (["keep-alive, Upgrade"], True),
        (["keep-alive", "upgrade"], True),
        (["close"], False),
        (["upgraded"], False),
        ([], False),
    ],
)
def test_connection_tokens(values, wanted):
    assert wants_upgrade(request(*(("Connection", value) for value in values), Connection=None)) is wanted


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        (request(), None, None),
        (request(Upgrade="WebSocket"), None, None),
        (request(Origin="http://gate.example"), None, None),
        (request(Connection="close"), 426, Refusal.NO_WEBSOCKET),
        (request(Upgrade="h2c"), 426, Refusal.NO_WEBSOCKET),
        (request(Upgrade=None), 426, Refusal.NO_WEBSOCKET),
        (request(Sec_WebSocket_Version="8"), 426, Refusal.BAD_REQUEST),
        (request(Sec_WebSocket_Version=None), 426, Refusal.BAD_REQUEST),
        (request(Sec_WebSocket_Key=None), 400, Refusal.BAD_REQUEST),
        (request(Sec_WebSocket_Key=""), 400, Refusal.BAD_REQUEST),
        (request(Sec_WebSocket_Key="c2hvcnQ="), 400, Refusal.BAD_REQUEST),
        (request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ"), 400, Refusal.BAD_REQUEST),
        (request(Sec_WebSocket_Key="\udcff" * 16), 400, Refusal.BAD_REQUEST),
        (request(("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")), 400, Refusal.BAD_REQUEST),
        (request(Origin="http://evil.example"), 403, Refusal.OTHER_SITE),
        (request(Cookie="c" * 4000), 431, Refusal.TOO_LARGE),
        (request(*(("A", "b") for _ in range(700))), 431, Refusal.TOO_LARGE),
    ],
)
def test_what_is_wrong_with_a_request(headers, status, reason):
    refused = objection(b"/websockify", headers, limits(max_headers=4096))
    assert (refused.status, refused.reason) == (status, reason) if status else refused is None


def test_an_answer_names_what_would_be_right():
    assert objection(b"/", request(Connection="close"), limits()).headers == {"Upgrade": "websocket"}
    assert objection(b"/", request(Sec_WebSocket_Version="8"), limits()).headers["Sec-WebSocket-Version"] == "13"
    assert "4096" in objection(b"/" * 5000, request(), limits(max_headers=4096)).text
    refused = objection(b"/", request(Origin="https://e" + "v" * 5000), limits())
    assert refused.text.startswith("Pages of 'https://evvv")
    assert len(refused.text) < 300


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["https"], True),
        (["HTTPS "], True),
        (["https, https"], True),
        (["https", "https"], True),
        ([], False),
        ([""], False),
        (["http"], False),
        (["https, http"], False),
        (["https", "http"], False),
        (["https,"], False),
    ],
)
def test_https_is_what_all_say(headers, expected):
    assert came_over_https(headers) is expected
