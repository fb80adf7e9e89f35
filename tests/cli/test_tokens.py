"""`vncgate check` and `vncgate tokens new`, as they are called."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from vncgate import roster
from vncgate.cli import main, tokens
from vncgate.tokens import parse

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent.parent / "golden" / "tokens"
GOOD = "ws01 node01 p1 7000 5901 k3Vq9xTb\nws02 node02 p2 7001 5901 Hm7wPz4c\n"
DASHES = "\n----------\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory, on a host without X servers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(roster.load_tokens, "__defaults__", (tmp_path / "none",))
    return tmp_path


@pytest.fixture
def file(folder):
    """A function that writes a private token file."""

    def write(text, name="ws.tokens"):
        path = folder / name
        path.write_text(text)
        path.chmod(0o600)
        return name

    return write


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.txt")))
def test_golden(name, file, capsys):
    """A file's token lines, a line of dashes, and what `check` says of them."""
    text, expected = (GOLDEN / name).read_text().split(DASHES)
    status = main(["check", file(text)])
    assert capsys.readouterr().out == expected
    assert status == (1 if ": error: " in expected else 0)


def test_the_example_teaches_what_check_accepts(file, capsys):
    assert main(["check", file((ROOT / "tokens.example").read_text())]) == 0
    assert capsys.readouterr().out == "7 accounts on 5 hosts: no problems\n"


def test_doubts_about_the_settings_are_told_with_their_file(file, capsys):
    kind = '[desktops]\nkinds.x = {command = "a", cores = 2}\nplaces.local = {type = "local", user = "somebody"}\n'
    config = file(kind, "vncgate.toml")
    name = file("ws01 - p1 - - -\n")
    assert main(["check", name, "--config", config]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(
        "vncgate.toml: warning: desktops.kinds.x.cores: a place of type local does not keep to it"
    )
    assert said[1].startswith("ws.tokens:1:15: warning: vncpassword is one -: that is a password here")
    assert said[2:] == ["1 account: 2 warnings"]
    assert main(["check", name, "--config", config, "--strict", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [problem["file"] for problem in report["problems"]] == [config, name]
    assert (report["errors"], report["warnings"]) == (2, 0)


@pytest.mark.parametrize(("uid", "user", "lines"), [(0, "", 2), (0, "{account}", 1), (1000, "", 1)])
def test_who_is_root_is_told_that_desktops_are_not(file, capsys, monkeypatch, uid, user, lines):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    kind = f'[desktops]\nkinds.x = {{command = "a"}}\nplaces.local = {{type = "local", user = "{user}"}}\n'
    assert main(["check", file("ws01 - p1 - - secret01\n"), "--config", file(kind, "vncgate.toml")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == lines
    if lines == 2:
        assert said[0].startswith(
            "vncgate.toml: warning: desktops.places.local.user: is empty, and desktops do not run"
        )


def test_new_lines_for_desktops_that_the_gate_starts(folder, capsys):
    assert main(["tokens", "new", "--accounts", "2", "--hosts", "-", "--first-websocketport", "-", "-o", "-"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert [line[:5] for line in lines] == [[f"ws0{n}", "-", f"websocketpath0{n}", "-", "-"] for n in (1, 2)]


def test_strict_makes_warnings_errors(file, capsys):
    name = file("a n p 80 1 longsecret\n")
    assert main(["check", name]) == 0
    assert ": warning: " in capsys.readouterr().out
    assert main(["check", "--strict", name]) == 1
    out = capsys.readouterr().out
    assert out.startswith("ws.tokens:1:12: error: vncpassword is longer")
    assert out.endswith("1 account on 1 host: 1 error\n")


def test_json(file, capsys):
    assert main(["check", "--json", file(GOOD + "a n p 80 1 ''\nb n q x 2 s\n")]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [tuple(problem.values())[:4] for problem in found["problems"]] == [
        (3, 12, "warning", "vncpassword is empty: everybody can open this desktop (nobody, if the gate starts it)"),
        (4, 7, "error", "websocketport must be a number from 1 to 65535, or - for none"),
    ]
    assert list(found["problems"][0]) == ["line", "column", "severity", "message", "file"]
    del found["problems"]
    assert found == {"file": "ws.tokens", "accounts": 3, "errors": 1, "warnings": 1}


def test_a_file_that_others_can_read_is_a_warning(file, capsys):
    name = file(GOOD)
    Path(name).chmod(0o644)
    assert main(["check", name]) == 0
    assert capsys.readouterr().out.startswith("ws.tokens: warning: others can read or change this file")


def test_a_file_that_cannot_be_read(capsys):
    assert main(["check", "none"]) == 2
    assert capsys.readouterr() == ("", "vncgate: none: cannot be read: No such file or directory\n")


def new(*words):
    return main(["tokens", "new", *words])


def test_a_new_file_is_private_and_good(capsys, folder):
    old = os.umask(0)
    try:
        assert new("--accounts", "60", "--hosts", "node[01-06]") == 0
    finally:
        os.umask(old)
    path = folder / "workshop.tokens"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert capsys.readouterr().out == "workshop.tokens: 60 accounts on 6 hosts, readable by you alone\n"
    assert main(["check", "workshop.tokens"]) == 0
    assert capsys.readouterr().out == "60 accounts on 6 hosts: no problems\n"
    assert len({account.password for account in parse(path.read_bytes()).roster.values()}) == 60


def test_an_existing_file_stays(file, folder, capsys):
    file("precious")
    (folder / "link").symlink_to("nowhere")
    for name in ("ws.tokens", "link"):
        assert new("--accounts", "1", "--hosts", "n", "-o", name) == 1
        assert "is there already and stays as it is" in capsys.readouterr().err
    assert (folder / "ws.tokens").read_text() == "precious"
    assert not (folder / "nowhere").exists()


def test_every_flag(capsys, folder):
    flags = "--accounts 2 --hosts gpu[1-2] --prefix kurs --first-websocketport - --first-vncport 5911 -o -"
    assert new(*flags.split()) == 0
    accounts = parse(capsys.readouterr().out.encode()).roster.accounts
    assert [(a.name, str(a.desktop), a.port) for a in accounts] == [
        ("kurs01", "gpu1:5911", None),
        ("kurs02", "gpu2:5911", None),
    ]
    assert not list(folder.iterdir())


def test_websocketports_of_x_displays_are_told_at_once(capsys, folder, monkeypatch):
    (folder / "X0").touch()
    monkeypatch.setattr(roster.load_tokens, "__defaults__", (folder,))
    assert new("--accounts", "2", "--hosts", "::1", "--first-websocketport", "6000") == 0
    assert "X display :0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        ("--accounts 0 --hosts n", 1, "vncgate: there must be at least one account and one host"),
        ("--accounts 1 --hosts n[", 1, "vncgate: host list, character 2: a bracket without its partner"),
        ("--accounts 1 --hosts n!", 1, "vncgate: --hosts: 'n!' must be a host name"),
        ("--accounts 1 --hosts n --prefix -x", 2, "--prefix: expected one argument"),
        ("--accounts 1 --hosts n --prefix=-x", 1, "vncgate: --prefix: the account name '-x01' must be letters"),
        ("--accounts 1 --hosts n --first-vncport 0", 1, "vncgate: 1 vncports from 0 on do not fit"),
        ("--accounts 1 --hosts n --first-websocketport x", 2, "--first-websocketport: must be a number, or - for none"),
        ("--accounts x --hosts n", 2, "invalid int value"),
    ],
)
def test_wrong_usage(flags, status, message, capsys, folder):
    try:
        ended = new(*flags.split())
    except SystemExit as end:  # argparse's own
        ended = end.code
    assert ended == status
    assert message in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_a_folder_that_is_not_there(capsys):
    assert new("--accounts", "1", "--hosts", "n", "-o", "no/such/file") == 1
    assert capsys.readouterr().err == "vncgate: no/such/file: cannot be written: No such file or directory\n"


def test_half_a_file_is_not_left_behind(capsys, folder, monkeypatch):
    real = os.open

    def on_a_full_disk(path, *rest):
        os.close(real(path, *rest))
        return real("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(tokens.os, "open", on_a_full_disk)
    assert new("--accounts", "1", "--hosts", "n") == 1
    assert capsys.readouterr().err == "vncgate: workshop.tokens: cannot be written: No space left on device\n"
    assert not list(folder.iterdir())


def test_new_with_pins_and_new_passwords_for_all(folder, capsys):
    assert main(["tokens", "new", "--accounts", "3", "--hosts", "-", "--pins"]) == 0
    before = parse((folder / "workshop.tokens").read_bytes()).roster
    assert all(account.pin for account in before.values())
    assert main(["tokens", "rekey", "workshop.tokens"]) == 0
    after = parse((folder / "workshop.tokens").read_bytes()).roster
    assert [account.pin for account in after.values()] == [account.pin for account in before.values()]
    assert not {account.password for account in after.values()} & {account.password for account in before.values()}
    assert main(["tokens", "rekey", "workshop.tokens", "--pins"]) == 0
    last = parse((folder / "workshop.tokens").read_bytes()).roster
    assert [account.pin for account in last.values()] != [account.pin for account in before.values()]
    out = capsys.readouterr().out
    assert "3 accounts with new VNC passwords and PINs" in out
    assert not any(account.password.reveal() in out for account in last.values())


def test_passwords_of_other_servers_are_told_of(file, capsys):
    assert main(["tokens", "rekey", file(GOOD)]) == 0
    assert "2 accounts with a VNC server of its own" in capsys.readouterr().out
