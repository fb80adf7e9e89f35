"""`vncgate workshop`, as commands, against a control socket with a life of ours behind it."""

from __future__ import annotations

import asyncio
import builtins
import stat
import sys
from typing import NamedTuple

import pytest
from aiohttp import web

from vncgate import control
from vncgate.cli import main
from vncgate.cli import workshop as cli
from vncgate.errors import WorkshopError
from vncgate.workshop import Command


class Said(NamedTuple):
    status: int
    out: str
    err: str


class Life:
    """Goes on for some looks after a word."""

    def __init__(self):
        self.orders = []
        self.looks = 0
        self.phase = "open"
        self.frozen = False
        self.trouble = ""

    def status(self):
        self.looks = max(0, self.looks - 1)
        work = {"step": "desktops are closed", "by": "ada", "done": []} if self.looks else None
        return {
            "title": "Our school", "phase": self.phase, "frozen": self.frozen, "work": work,
            "next": {"step": "files are closed", "at": "2026-03-02T08:00:00+00:00"} if self.phase != "purged" else None,
            "progress": f"desktops: {3 - self.looks} of 3 closed" if work else "", "trouble": self.trouble,
            "said": ["3 desktops closed"] if self.phase == "ended" and not work else [],
        }  # fmt: skip

    async def order(self, command, by):
        if command is Command.PURGE and self.phase == "open":
            raise WorkshopError("the workshop is open: nothing is removed before its end (vncgate workshop end)")
        self.orders.append((command, by))
        self.phase = {"end": "ended", "purge": "purged"}.get(command, "open")
        self.frozen = command is Command.FREEZE
        self.looks = 4 if command is Command.END else 0
        return self.status()

    async def plan(self, command):
        return [f"what {command} does", "and more"]

    async def report(self, *, names):
        return {
            "title": "x", "place": "", "opens": None, "ends": None, "phase": "ended", "accounts": 3, "came": 2,
            "names": [["ws01", "Ada"]] if names else None, "people": {}, "figures": [],
        }  # fmt: skip


class Operator:
    def __init__(self, life):
        self.workshop = life


async def no_metrics(request):
    return web.Response()


@pytest.fixture
def life():
    return Life()


@pytest.fixture
async def command(life, tmp_path, monkeypatch, capsys):
    """A function that gives a command, in a thread, and returns what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VNCGATE_CONTROL", raising=False)
    monkeypatch.delenv("VNCGATE_CONFIG", raising=False)
    monkeypatch.setenv("SUDO_USER", "ada")
    monkeypatch.setattr(cli, "INTERVAL", 0)

    async def give(*args):
        status = await asyncio.to_thread(main, ["workshop", *args, "--control", str(tmp_path / "control")])
        return Said(status, *capsys.readouterr())

    async with control.serve(control.bind(tmp_path / "control"), Operator(life), no_metrics):
        yield give


async def test_status(command, life):
    life.frozen, life.trouble = True, "the ledger does not answer"
    said = await command("status")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[:2] == [
        "Our school: open, frozen: nobody new can sign in",
        "the ledger does not answer; it is tried again",
    ]
    assert lines[2].startswith("next: files are closed, Mon 02 Mar 2026,")


async def test_an_end_is_told_as_it_goes_on(command, life):
    said = await command("end")
    assert said.status == 0
    assert said.out.splitlines()[:-1] == [
        "desktops: 0 of 3 closed", "desktops: 1 of 3 closed", "desktops: 2 of 3 closed",
        "Our school: ended", "  3 desktops closed",
    ]  # fmt: skip
    assert life.orders == [("end", "ada")]


async def test_open_and_freeze(command, life):
    assert "frozen" in (await command("freeze")).out
    assert (await command("open")).out.startswith("Our school: open\n")
    assert life.orders == [("freeze", "ada"), ("open", "ada")]


async def test_a_purge_wants_a_yes(command, life, monkeypatch):
    life.phase = "ended"
    said = await command("purge")
    assert (said.status, life.orders) == (1, [])
    assert said.out.startswith("what purge does\nand more\n")
    assert "nothing was removed" in said.err
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(builtins, "input", lambda _: "no")
    assert (await command("purge")).status == 1
    monkeypatch.setattr(builtins, "input", lambda _: "yes")
    assert (await command("purge")).status == 0
    said = await command("purge", "--yes")
    assert (said.status, life.orders) == (0, [("purge", "ada")] * 2)
    assert "next: nothing by the clock" in said.out


class Terminal:
    def isatty(self):
        return True


async def test_a_dry_run_does_nothing(command, life):
    said = await command("end", "--dry-run")
    assert (said.status, said.out, life.orders) == (0, "what end does\nand more\n", [])


async def test_what_may_not_be_now_is_told(command):
    said = await command("purge", "--yes")
    assert (said.status, said.out) == (1, "")
    assert said.err == "vncgate: the workshop is open: nothing is removed before its end (vncgate workshop end)\n"


async def test_the_report_is_written_for_one_pair_of_eyes_and_over_nothing(command, tmp_path):
    assert (await command("report", "-o", "r.html")).status == 0
    made = tmp_path / "r.html"
    assert "2 of 3 accounts" in made.read_text()
    assert "Ada" not in made.read_text()
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert "is there already" in (await command("report", "-o", "r.html", "--names")).err
    assert (await command("report", "-o", "r.html", "--names", "--force", "--language", "de")).status == 0
    assert "Ada" in made.read_text()
    assert '<html lang="de">' in made.read_text()
    assert (await command("report", "-o", "r.pdf")).status == 0
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")


async def test_without_matplotlib_it_says_what_to_install(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "vncgate.render.report_pages", raising=False)
    import vncgate.render

    monkeypatch.delattr(vncgate.render, "report_pages", raising=False)
    said = await command("report", "-o", "r.pdf")
    assert (said.status, said.out) == (1, "")
    assert "pip install 'vncgate[report]'" in said.err
