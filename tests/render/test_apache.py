"""Apache's lines against golden files: token file, settings, and what comes of them, between lines of dashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.errors import PublishError
from vncgate.model import Account, Desktop, Roster, Secret
from vncgate.render.apache import PATH, render
from vncgate.settings import Form, Settings
from vncgate.tokens import LONGEST_NAME, RESERVED, name_fault, parse

GOLDEN = Path(__file__).parents[1] / "golden" / "apache"
GUIDE = Settings(apache={"form": "guide"})


def account(path: str, **values) -> Account:
    return Account("ws01", Desktop("node01", 5901), path, 6000, Secret("canary77"), **values)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.txt")), ids=lambda file: file.stem)
def test_golden(file):
    tokens, settings, expected = (part.removeprefix("\n") for part in file.read_text().split("----"))
    parsed = parse(tokens.encode())
    assert not parsed.errors
    try:
        text = render(parsed.roster, Settings.model_validate(tomllib.loads(settings)))
    except PublishError as error:
        text = "".join(f"error: {line}\n" for line in str(error).splitlines())
    assert text == expected
    assert not any(account.password.reveal() in text for account in parsed.roster.values())


EVIL_PATHS = """a b|a\nProxyPass / http://evil/|a\n|a"|a/b|..|.a|-a|a\\|${x}|ä|a\0|a#b|$1|api|desk"""


@pytest.mark.parametrize("path", ["", *EVIL_PATHS.split("|")])
def test_a_path_that_the_parser_would_not_let_through_is_refused(path):
    with pytest.raises(PublishError, match="account 'ws01': the path"):
        render(Roster((account(path),)), GUIDE)


@given(st.text(max_size=20))
def test_whatever_the_path_there_are_two_lines_or_none(path):
    try:
        lines = render(Roster((account(path),)), GUIDE).splitlines()
    except PublishError:
        return
    assert [line.split()[:3] for line in lines if not line.startswith("#")] == [
        [directive, f"/{path}", "ws://127.0.0.1:6000/websockify"] for directive in ("ProxyPass", "ProxyPassReverse")
    ]


@given(st.one_of(st.text(max_size=12), st.from_regex(PATH, fullmatch=True)))
def test_the_single_rule_takes_every_path_that_the_token_file_may_have_and_no_other(path):
    possible = re.fullmatch(PATH, path) and path not in RESERVED and len(path) <= LONGEST_NAME
    assert bool(possible) == (name_fault(path) == "")


@pytest.mark.parametrize("form", Form)
def test_no_name_and_no_password_gets_in(form):
    evil = 'x"\nProxyPass / http://evil.example/\n#'
    accounts = (account("ws01", display_name=evil, kind=evil),)
    text = render(Roster(accounts), Settings(apache={"form": form}))
    assert "evil" not in text
    assert "canary77" not in text
