"""`vncgate token`: what is printed once, what is kept, and what is refused."""

from __future__ import annotations

import stat

import pytest

from vncgate import grants
from vncgate.cli import main
from vncgate.model import Secret


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.delenv("VNCGATE_CONFIG", raising=False)
    file = tmp_path / "api.tokens"
    monkeypatch.setenv("VNCGATE_API_TOKENS", str(file))
    return file


@pytest.fixture
def command(capsys):
    def give(*args):
        return main(["token", *args]), *capsys.readouterr()

    return give


def test_a_token_is_printed_once_and_found_by_its_hash(file, command):
    status, out, err = command("create", "--scope", "write,read", "--accounts", "ws0*,lab", "portal")
    assert (status, err) == (0, "")
    token = out.strip()
    assert token.startswith("vncgate_")
    assert len(token) == len("vncgate_") + 43, "256 bits"
    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = grants.find(grants.parse(file.read_bytes()), Secret(token))
    assert (found.name, found.scopes, found.accounts) == ("portal", ("read", "write"), ("ws0*", "lab"))


def test_tokens_are_listed_and_revoked(file, command):
    assert command("list") == (0, "", "")
    tokens = {name: command("create", "--scope", "read", name)[1].strip() for name in ("a", "b")}
    assert len(set(tokens.values())) == 2
    status, out, _ = command("list")
    assert status == 0
    assert [line.split("  ")[:3] for line in out.splitlines()] == [["a", "read", "*"], ["b", "read", "*"]]
    assert not any(token in out for token in tokens.values())
    assert command("revoke", "a") == (0, "revoked: a\n", "")
    assert [grant.name for grant in grants.parse(file.read_bytes())] == ["b"]
    assert command("revoke", "a") == (1, "", f"vncgate: there is no token a in {file}\n")


def test_the_mode_of_a_file_that_is_there_stays(file, command):
    command("create", "--scope", "read", "a")
    file.chmod(0o640)
    command("create", "--scope", "read", "b")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--scope", "read,admin", "x"), "--scope: admin is none; write read, write or read,write"),
        (("--scope", "", "x"), "scopes: "),
        (("--scope", "read", "--accounts", ",", "x"), "accounts: "),
        (("--scope", "read", "no blanks"), "name: "),
        (("--scope", "read", "taken"), "there is a token taken already; revoke it first, or take another name"),
    ],
)
def test_what_is_refused_changes_nothing(args, words, file, command):
    command("create", "--scope", "read", "taken")
    before = file.read_bytes()
    status, out, err = command("create", *args)
    assert (status, out) == (1, "")
    assert err.startswith(f"vncgate: {words}")
    assert file.read_bytes() == before


def test_a_file_that_is_no_tokens_file_stays_as_it_is(file, command):
    file.write_text("ws01 node01 path - 5901 secret\n")
    for args in (("create", "--scope", "read", "x"), ("revoke", "x"), ("list",)):
        status, _, err = command(*args)
        assert status == 1
        assert err.startswith(f"vncgate: {file}: Invalid JSON")
    assert file.read_text().startswith("ws01")


def test_a_file_that_cannot_be_read_or_written(file, command):
    file.mkdir()
    assert command("list") == (1, "", f"vncgate: {file}: cannot be read: Is a directory\n")
    file.rmdir()
    file.symlink_to(file.parent / "none" / "tokens")
    status, _, err = command("create", "--scope", "read", "x")
    assert (status, err) == (1, f"vncgate: {file}: cannot be written: No such file or directory\n")


def test_without_the_setting(file, command, monkeypatch):
    monkeypatch.delenv("VNCGATE_API_TOKENS")
    status, _, err = command("list")
    assert status == 1
    assert "api.tokens" in err
