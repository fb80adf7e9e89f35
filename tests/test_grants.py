"""Tokens of the REST API: what is kept of them, who is found by them, and files that are none."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate import grants
from vncgate.errors import SettingsError
from vncgate.grants import Grant, Scope
from vncgate.model import Secret

WHEN = "2026-11-21T09:00:00Z"
TOKEN = Secret("vncgate_canary")


def grant(name="portal", token=TOKEN, accounts=("*",)):
    scopes = (Scope.READ, Scope.WRITE)
    return Grant(name=name, sha256=grants.digest(token), scopes=scopes, accounts=accounts, created=WHEN)


def test_a_token_finds_its_grant_and_no_other():
    all_of_them = [grant("a", Secret("one")), grant("b", Secret("two"))]
    assert grants.find(all_of_them, Secret("two")).name == "b"
    for wrong in ("", "tw", "two ", "TWO", grants.digest(Secret("two"))):
        assert grants.find(all_of_them, Secret(wrong)) is None
    assert grants.find([], Secret("two")) is None


def test_the_file_has_the_hash_and_not_the_token():
    content = grants.render([grant()])
    assert grants.parse(content) == (grant(),)
    assert b"canary" not in content
    assert json.loads(content)[0] == {
        "name": "portal",
        "sha256": grants.digest(TOKEN),
        "scopes": ["read", "write"],
        "accounts": ["*"],
        "created": WHEN,
    }


@pytest.mark.parametrize(
    ("patterns", "account", "concerned"),
    [
        (("*",), "ws01", True),
        (("ws0*", "lab"), "ws01", True),
        (("ws0*", "lab"), "lab", True),
        (("ws0*", "lab"), "ws10", False),
        (("WS01",), "ws01", False),
        (("ws0[12]",), "ws02", True),
    ],
)
def test_patterns_of_accounts(patterns, account, concerned):
    assert grant(accounts=patterns).concerns(account) is concerned


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{}", "should be a valid array"),
        (b"[{}]", "0.name: Field required"),
        (b"\xff", "Invalid JSON"),
        (b"[" * 100000, "Invalid JSON"),
    ],
)
def test_files_that_are_none(content, words):
    with pytest.raises(SettingsError, match=words):
        grants.parse(content)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "no blanks"},
        {"sha256": "abc"},
        {"sha256": "A" * 64},
        {"scopes": []},
        {"scopes": ["admin"]},
        {"accounts": []},
        {"created": "yesterday"},
        {"token": "canary-in-the-file"},
    ],
)
def test_an_entry_that_is_wrong_is_an_error_that_quotes_nothing(change):
    entry = json.loads(grants.render([grant()]))[0] | change
    with pytest.raises(SettingsError) as caught:
        grants.parse(json.dumps([entry]).encode())
    assert "0." in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_name_is_there_twice():
    with pytest.raises(SettingsError, match="twice"):
        grants.parse(grants.render([grant(), grant(token=Secret("other"))]))


@given(st.binary(max_size=200))
def test_any_content_is_grants_or_an_error(content):
    with contextlib.suppress(SettingsError):
        grants.parse(content)


def test_nobody_is_an_empty_file():
    assert grants.parse(b"") == grants.parse(b" \n") == grants.parse(grants.render([])) == ()
