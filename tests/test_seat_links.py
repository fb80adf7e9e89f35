"""Links: read back as they were made, and nothing else is taken for one."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate import seat_links
from vncgate.seat_links import LONGEST, SEAT, SHARE, SeatLink, read_seat_token, seat_token, sign, signature, verified

KEY = b"k" * 32
accounts = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", fullmatch=True)
links = st.builds(SeatLink, accounts, st.integers(0, 10**14), st.integers(0, 10**9))


@given(links)
def test_a_seat_link_says_what_it_was_made_of(link):
    token = seat_token(KEY, link)
    assert read_seat_token(KEY, token) == link
    assert token.startswith(f"v1.{link.account}.{link.expires}.{link.epoch}.")
    assert set(token) <= set(
        string.ascii_letters + string.digits + "._-"
    )  # nothing that an address would have to escape


@given(links, st.integers(0, 200), st.characters())
def test_a_link_with_one_character_changed_is_none(link, at, other):
    token = seat_token(KEY, link)
    at %= len(token)
    if token[at] != other:
        assert read_seat_token(KEY, token[:at] + other + token[at + 1 :]) is None


@given(st.text(max_size=300))
def test_no_text_is_taken_for_a_link(text):
    assert read_seat_token(KEY, text) is None
    assert verified(KEY, SEAT, text) is None


@given(links, st.binary(min_size=32, max_size=32).filter(lambda key: key != KEY))
def test_another_key_makes_no_link_of_ours(link, key):
    assert read_seat_token(KEY, seat_token(key, link)) is None


@given(st.text(st.characters(codec="utf-8", exclude_characters="."), max_size=100))
def test_a_link_for_one_purpose_is_none_for_another(text):
    assert verified(KEY, SHARE, sign(KEY, SHARE, text)) == text
    assert verified(KEY, SEAT, sign(KEY, SHARE, text)) is None


@pytest.mark.parametrize("text", ["ws01", "ws01.1", ".1.2", "ws01.-1.2", "ws01.1.x", "ws01.01.2", "ws01.1.²"])
def test_a_signed_text_that_is_no_seat_is_none(text):
    assert read_seat_token(KEY, sign(KEY, SEAT, text)) is None


def test_an_account_may_have_dots_in_its_name():
    link = SeatLink("a.1.2", 3, 4)
    assert read_seat_token(KEY, seat_token(KEY, link)) == link


def test_a_long_text_is_not_even_looked_at(monkeypatch):
    token = sign(KEY, SEAT, "x" * LONGEST)
    monkeypatch.setattr(seat_links, "signature", lambda *_: pytest.fail("it was"))
    assert verified(KEY, SEAT, token) is None


def test_signatures_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(seat_links.hmac, "compare_digest", lambda *texts: compared.append(texts) or False)
    assert verified(KEY, SEAT, "v1.ws01.AAAA") is None
    assert compared == [(signature(KEY, SEAT, "ws01").encode(), b"AAAA")]
