"""`vncgate doctor`, as it is called; what it finds is tested in tests/doctor, and on real parts in tests/real."""

from __future__ import annotations

import asyncio
import json

import pytest

from vncgate.cli import doctor, main
from vncgate.doctor import examination
from vncgate.doctor.base import Check, Finding, Result

LONG = "make /etc/vncgate/workshop.tokens and the VNC server agree; no more tries until then (its blacklist counts)"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A function that runs the command with one check that finds `results`; returns the exit status."""
    tokens = tmp_path / "w.tokens"
    tokens.write_text("ws01 unix:/none path-ws01 - - canary\n")
    tokens.chmod(0o600)
    (tmp_path / "c.toml").write_text("")
    monkeypatch.delenv("VNCGATE_CONTROL", raising=False)

    async def run(*found, flags=()):
        async def check(case):
            check.case = case
            return [Finding("desktops", result, f"it is {result}", LONG) for result in found]

        run.check = check
        monkeypatch.setattr(examination, "CHECKS", (Check("desktops", check),))
        argv = ["doctor", str(tokens), "--config", str(tmp_path / "c.toml"), "--control", str(tmp_path / "no"), *flags]
        return await asyncio.to_thread(main, argv)

    return run


@pytest.mark.parametrize(
    ("found", "status", "summary"),
    [
        ((Result.OK,), 0, "Ready, with warnings: 1 warning, 3 ok."),
        ((Result.SKIPPED, Result.WARNING), 0, "Ready, with warnings: 2 warnings, 2 ok, 1 skipped."),
        ((Result.ERROR, Result.OK), 1, "Not ready: 1 error, 1 warning, 3 ok."),
    ],
)
async def test_the_exit_status_and_the_summary(given, capsys, found, status, summary):
    assert await given(*found) == status
    out = capsys.readouterr().out
    assert out.endswith(f"\n\n{summary}\n")
    assert "canary" not in out


async def test_a_finding_in_a_file_is_a_line_and_a_line(given, capsys):
    await given(Result.ERROR)
    assert f"error   desktops   it is error\n                   -> {LONG}\n" in capsys.readouterr().out


def test_a_finding_in_a_terminal_keeps_its_columns():
    text = doctor._lines(Finding("desktops", Result.ERROR, "word " * 20, LONG), 80).plain
    lines = text.splitlines()
    assert len(lines) == 4
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("error   desktops   word")
    assert lines[2].startswith(f"{' ' * 19}-> make")
    assert lines[3].startswith(f"{' ' * 22}agree")


def test_a_command_is_not_cut():
    path = "/a-very-long/path-of-something/that-does-not-fit/into-the-columns/of-any-terminal/workshop.tokens"
    assert path in doctor._lines(Finding("x", Result.OK, "m", path), 60).plain


async def test_json(given, capsys):
    assert await given(Result.ERROR, flags=["--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found[-1] == {"step": "desktops", "result": "error", "message": "it is error", "advice": LONG}
    assert [each["step"] for each in found] == ["settings", "token file", "gate", "desktops"]


async def test_flags_reach_the_checks(given):
    await given(flags=["--url", "https://class.example/", "--sample", "all"])
    assert (given.check.case.url, given.check.case.sample) == ("https://class.example/", None)
    await given()
    assert (given.check.case.url, given.check.case.sample) == ("", 3)


@pytest.mark.parametrize(
    "flags", [["--url", "class.example"], ["--url", "ftp://x/"], ["--sample", "0"], ["--sample", "some"]]
)
def test_wrong_usage(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "w.tokens", *flags])
    assert ended.value.code == 2
    assert "usage: vncgate doctor" in capsys.readouterr().err
