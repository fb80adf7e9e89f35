"""Which pages may open a desktop, and which subprotocol is answered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.engines.handshake import chosen_subprotocol, origin_allowed, wants_upgrade


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


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        (["Upgrade"], True),
        (["keep-alive, Upgrade"], True),
        (["keep-alive", "upgrade"], True),
        (["close"], False),
        (["upgraded"], False),
        ([], False),
    ],
)
def test_connection_tokens(headers, wanted):
    assert wants_upgrade(headers) is wanted
