"""`vncgate token`: what is printed once, what is kept, and what is refused."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading

import pytest

from vncgate import grants
from vncgate.cli import main, token
from vncgate.errors import SettingsError
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
    made = out.strip()
    assert made.startswith("vncgate_")
    assert len(made) == len("vncgate_") + 43, "256 bits"
    assert made not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = grants.find(grants.parse(file.read_bytes()), Secret(made))
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


def test_an_organizers_token_is_for_all_accounts(file, command):
    status, out, err = command("new", "--scope", "organize", "ada")
    assert (status, err) == (0, "")
    found = grants.find(grants.parse(file.read_bytes()), Secret(out.strip()))
    assert (found.scopes, found.accounts) == (("organize",), ("*",))
    narrowed = file.read_text().replace('"*"', '"ws01"')
    with pytest.raises(SettingsError, match="^0: a token with the scope organize is for all accounts"):
        grants.parse(narrowed.encode())


def test_the_mode_of_a_file_that_is_there_stays(file, command):
    command("create", "--scope", "read", "a")
    file.chmod(0o640)
    command("create", "--scope", "read", "b")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ("--scope", "read,admin", "x"),
            "--scope: admin is none; write read, write, organize, or several with commas between",
        ),
        (("--scope", "organize", "--accounts", "ws0*", "x"), "a token with the scope organize is for all accounts"),
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


def test_without_the_setting_it_says_what_to_name(file, command, monkeypatch, tmp_path):
    monkeypatch.delenv("VNCGATE_API_TOKENS")
    for args in (("list",), ("revoke", "x"), ("create", "--scope", "read", "x")):
        status, _, err = command(*args)
        assert status == 1
        assert "--config /etc/vncgate/vncgate.toml" in err
        assert "VNCGATE_API_TOKENS=" in err
    config = tmp_path / "vncgate.toml"
    config.write_text("")
    words = f'vncgate: {config}: it names no file for tokens: below [api] write tokens = "/etc/vncgate/api.tokens"\n'
    assert command("list", "--config", str(config)) == (1, "", words)


def test_two_commands_at_once_lose_no_token(file, monkeypatch):
    """Each would read what is there before the other has written, if they let each other."""
    read, together = token._read, threading.Barrier(2)

    def read_together(file):
        found = read(file)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.2)
        return found

    monkeypatch.setattr(token, "_read", read_together)
    commands = [
        threading.Thread(target=main, args=(["token", "create", "--scope", "read", name],)) for name in ("a", "b")
    ]
    for command in commands:
        command.start()
    for command in commands:
        command.join(20)
    assert sorted(grant.name for grant in grants.parse(file.read_bytes())) == ["a", "b"]


def test_a_command_waits_for_another_and_not_for_ever(file, command, monkeypatch):
    command("create", "--scope", "read", "a")
    monkeypatch.setattr("vncgate.cli.token.LOCK_TIMEOUT", 0.0)
    with file.open("r+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for args in (("create", "--scope", "read", "b"), ("revoke", "a")):
            status, _, err = command(*args)
            assert status == 1
            assert err.startswith(f"vncgate: {file}: another command holds it")
        assert command("list")[0] == 0
    assert command("create", "--scope", "read", "b")[0] == 0


def test_the_lock_of_a_file_that_was_replaced_meanwhile_is_none(file, command, monkeypatch):
    command("create", "--scope", "read", "a")
    held = os.open(file, os.O_RDWR)
    command("create", "--scope", "read", "b")
    assert not token._lock(held, file)
    os.close(held)
