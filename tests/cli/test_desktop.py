"""`vncgate desktop`, as commands, against a control socket with a launcher of ours behind it."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

from tests.cli.terminal import Terminal
from tests.launched import FAILED, PENDING, REQUESTED, RUNNING, STARTING, STOPPED, STOPPING, Launcher, desktop
from vncgate import control, desktop_view
from vncgate.cli import desktop as cli
from vncgate.cli import main


class Said(NamedTuple):
    status: int
    out: str
    err: str


class Operator:
    def __init__(self, launcher):
        self.desktops = launcher
        self.stopped = ()
        self.served = {}

    def status(self):
        stopped = [{"name": name, "want": "down", "desktop": None} for name in self.stopped]
        return {"accounts": [*stopped, *({"name": name, "desktop": at} for name, at in self.served.items())]}


async def no_metrics(request):
    return web.Response()


@pytest.fixture
def launcher():
    return Launcher(
        desktop("ws01", size="small"),
        desktop("ws02", RUNNING, host="node02"),
        desktop("ws03", FAILED, reason="image missing"),
    )


@pytest.fixture
def operator(launcher):
    return Operator(launcher)


@pytest.fixture
async def path(operator, tmp_path, monkeypatch):
    monkeypatch.delenv("VNCGATE_CONTROL", raising=False)
    monkeypatch.setattr(cli, "INTERVAL", 0)
    path = tmp_path / "control"
    async with control.serve(control.bind(path), operator, no_metrics):
        yield path


@pytest.fixture
def command(path, capsys):
    """A function that gives a command about desktops, in a thread, and returns what it said."""

    async def give(*args):
        status = await asyncio.to_thread(main, ["desktop", *map(str, args), "--control", str(path)])
        return Said(status, *capsys.readouterr())

    return give


# ---- start, stop, restart


async def test_starting_tells_each_step_until_all_run(command, launcher):
    status, out, err = await command("start", "ws01")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "ws01: PENDING: Priority (hpc)",
        "ws01: STARTING (hpc)",
        "ws01: RUNNING (hpc: node01)",
    ]
    assert launcher.calls == [("start", ["ws01"])]


async def test_one_that_runs_is_started_at_once(command, launcher):
    assert await command("start", "ws02") == (0, "ws02: RUNNING (hpc: node02)\n", "")


async def test_of_accounts_that_are_stopped_it_says_that_nobody_gets_to_them(command, operator):
    operator.stopped = ("ws01", "ws02")
    hint = "nobody gets to ws02, stopped with `vncgate stop`: vncgate start ws02"
    assert (await command("start", "ws02")).out.splitlines()[-1] == hint
    assert "nobody gets to" not in (await command("stop", "ws02")).out


async def test_a_restart_is_over_when_the_new_one_runs(command, launcher):
    # The daemon has heard, and has not begun: the old one is still to be seen.
    launcher.ways["ws02"] = [(), (), (RUNNING,)]
    status, out, _ = await command("restart", "ws02")
    assert status == 0
    assert out.splitlines() == ["ws02: RUNNING (hpc: node02)", "ws02: RUNNING (hpc: node01)"]


async def test_stopping_ends_with_the_last_one(command, launcher):
    status, out, err = await command("stop", "ws0[12]")
    assert (status, err) == (0, "")
    assert out.splitlines()[-2:] == ["ws01: STOPPED (hpc)", "ws02: STOPPED (hpc)"]
    assert launcher.calls == [("stop", ["ws01", "ws02"])]


async def test_what_fails_is_told_with_its_reason_and_the_others_go_on(command, launcher):
    launcher.ways["ws03"] = [(REQUESTED,), (FAILED, "no such partition: viz")]
    status, out, err = await command("start", "--all")
    assert status == 1
    assert err == "vncgate: ws03 is not RUNNING: FAILED: no such partition: viz\n"
    assert "ws01: RUNNING (hpc: node01)" in out.splitlines()
    assert launcher.calls == [("start", ["ws01", "ws02", "ws03"])]


async def test_an_account_that_is_removed_meanwhile_is_waited_for_no_longer(command, launcher):
    launcher.ways["ws01"] = [(PENDING, "Priority")]
    seen = launcher.statuses

    def statuses():
        if launcher.looks == 2:
            del launcher.all["ws01"]
        return seen()

    launcher.statuses = statuses
    status, _, err = await command("start", "ws01")
    assert (status, err) == (1, "vncgate: ws01 is not RUNNING: GONE: its account was removed\n")


async def test_another_operators_stop_ends_the_waiting(command, launcher):
    launcher.ways["ws01"] = [(REQUESTED,), (STOPPED, "", "", "down")]
    status, _, err = await command("start", "ws01")
    assert (status, err) == (1, "vncgate: ws01 is not RUNNING: STOPPED\n")


SILENT = "the place lost does not answer: no ssh connection to lost1; it is tried again"


async def test_a_place_that_does_not_answer_is_not_waited_for_without_end(command, launcher, monkeypatch):
    monkeypatch.setattr(cli, "PATIENCE", 0)
    launcher.ways["ws01"] = [(REQUESTED,), (REQUESTED, SILENT)]
    launcher.ways["ws02"] = [(STOPPING, "asked for; it cannot be ended yet: node02 does not answer")]
    launcher.ways["ws03"] = [(REQUESTED,), (PENDING, "Priority"), (FAILED, "home full")]
    status, out, err = await command("restart", "--all")
    assert status == 1
    waiting = (
        f"2 waiting for their place to answer ({SILENT} / asked for; it cannot be ended yet: node02 does not answer)"
    )
    assert out.splitlines()[-2:] == ["ws03: FAILED: home full (hpc)", f"{waiting}; Ctrl-C leaves them asked for"]
    assert err.splitlines() == [
        "not waited for any longer, but asked for all the same: ws01, ws02",
        f"vncgate: ws01 is not RUNNING: REQUESTED: {SILENT}",
        "ws02 is not RUNNING: STOPPING: asked for; it cannot be ended yet: node02 does not answer",
        "ws03 is not RUNNING: FAILED: home full",
    ]


async def test_a_place_that_answers_again_is_waited_for(command, launcher):
    launcher.ways["ws01"] = [(REQUESTED, SILENT), (), (REQUESTED,), (REQUESTED, SILENT), (), (STARTING,), (RUNNING,)]
    status, out, _ = await command("start", "ws01")
    assert status == 0
    assert [line[:9] for line in out.splitlines()] == ["ws01: REQ", "1 waiting", "ws01: STA", "ws01: RUN"]


def test_the_words_by_which_silence_is_known_are_those_of_the_launcher():
    said = Path(desktop_view.__file__).read_text()
    assert 'f"the place {yard.name} does not answer: ' in said
    assert "; it cannot be ended yet: " in said


async def test_without_waiting(command, launcher):
    assert await command("restart", "--all", "--no-wait") == (0, "asked for: ws01, ws02, ws03\n", "")
    assert launcher.looks == 1


@pytest.mark.parametrize("action", ["start", "stop", "restart", "status", "logs"])
async def test_names_that_are_none(action, command, launcher):
    assert await command(action, "ws01", "ws7*", "ws8") == (
        1,
        "",
        "vncgate: no such desktop of the gate's own: ws7*, ws8\n",
    )
    assert launcher.calls == []
    launcher.all.clear()
    status, _, err = await command(action, "--all")
    assert status == 1
    assert "vnchost `-`" in err


async def test_a_name_that_has_a_server_of_its_own(command, operator):
    operator.served = {"nu4c": "node04:5901"}
    assert await command("start", "nu4c", "ws01", "nu4") == (
        1,
        "",
        "vncgate: nu4c has a VNC server of its own (node04:5901)\nno such desktop of the gate's own: nu4\n",
    )


async def test_somebody_must_be_named(path, capsys):
    with pytest.raises(SystemExit, match="2"):
        await asyncio.to_thread(main, ["desktop", "stop", "--control", str(path)])
    assert "name accounts, or give --all" in capsys.readouterr().err


def test_nobody_is_there(tmp_path, capsys):
    assert main(["desktop", "status", "--all", "--control", str(tmp_path / "none")]) == 1
    assert "there is no such socket" in capsys.readouterr().err


# ---- on a terminal


async def test_on_a_terminal_the_lines_are_painted_over_and_ctrl_c_ends_quietly(path, launcher):
    launcher.ways["ws01"] = [(REQUESTED,), (PENDING, "Resources")]
    terminal = Terminal("desktop", "start", "ws01", "ws02", "--control", path)
    await terminal.shows("Resources")
    await terminal.shows("2 desktops of the gate's own: 1 PENDING, 1 RUNNING")
    assert await terminal.end(signal.SIGINT) == 130
    assert "Traceback" not in terminal.said
    assert launcher.all["ws01"].state is PENDING


async def test_many_on_a_terminal_are_summed_up(path, launcher):
    for number in range(10, 99):
        launcher.all[f"ws{number}"] = desktop(f"ws{number}")
    launcher.ways["ws50"] = [(FAILED, "home full")]
    terminal = Terminal("desktop", "start", "--all", "--control", path)
    before = await terminal.shows("92 desktops of the gate's own: 91 RUNNING, 1 FAILED")
    assert "ws50: home full" in before
    assert "ws60" not in before
    assert await terminal.end() == 1


# ---- pools


@pytest.fixture
def pool(launcher):
    """Two that nobody has yet."""
    for number in (1, 2):
        launcher.all[f"pool:xfce:{number}"] = desktop(f"pool:xfce:{number}", RUNNING, host="node02")
        launcher.pool.add(f"pool:xfce:{number}")


async def test_what_is_in_a_pool_is_shown_and_its_log_is_to_be_had(command, pool):
    _, out, _ = await command("status")
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines[3:8]] == ["ws01", "ws02", "ws03", "pool:xfce:1", "pool:xfce:2"]
    assert await command("logs", "pool:xfce:2", "--lines", "1") == (0, "pool:xfce:2 line 5\n", "")


async def test_stopping_all_stops_the_pools(command, launcher, pool):
    status, out, _ = await command("stop", "--all")
    assert status == 0
    assert launcher.calls == [("stop", ["ws01", "ws02", "ws03", "pool:xfce:1", "pool:xfce:2"])]
    assert out.splitlines()[-1] == "pool:xfce:2: STOPPED (hpc)"


async def test_one_of_a_pool_that_is_given_out_meanwhile_is_waited_for_no_longer(command, launcher, pool):
    launcher.ways["pool:xfce:1"] = [(REQUESTED,)]
    seen = launcher.spares

    def spares():
        if launcher.looks == 3:
            del launcher.all["pool:xfce:1"]
        return seen()

    launcher.spares = spares
    status, _, err = await command("restart", "pool:*")
    assert (status, err) == (0, "")


# ---- status, logs


async def test_the_table(command):
    status, out, err = await command("status", "--all")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split() == ["account", "kind", "where", "want", "state", "since", "restarts"]
    assert lines[3].split()[:6] == ["ws01", "xfce", "small", "hpc", "up", "STOPPED"]
    assert lines[4].split()[:6] == ["ws02", "xfce", "hpc:", "node02", "up", "RUNNING"]
    assert lines[-2:] == ["ws03: image missing", "3 desktops of the gate's own: 1 STOPPED, 1 RUNNING, 1 FAILED"]


async def test_when_it_starts_and_ends_is_told_as_far_as_it_is_known(command, launcher):
    soon = time.time() + 600
    launcher.all["ws01"] = replace(desktop("ws01", PENDING, reason="Priority"), starts=soon)
    launcher.all["ws02"] = replace(launcher.all["ws02"], ends=soon, idle_end=soon + 7 * 86400)
    _, out, _ = await command("status", "ws01", "ws02")
    clock = time.strftime("%H:%M", time.localtime(soon))
    day = time.strftime("%a %d %b, %H:%M", time.localtime(soon + 7 * 86400))
    assert out.splitlines()[-3:-1] == [
        f"ws01: Priority; expected to start at {clock}",
        f"ws02: its time is over at {clock}; unused, ends at {day}",
    ]


async def test_logs_that_are_not_to_be_had_are_told_after_all_others(command, launcher):
    launcher.set("ws01", FAILED)
    launcher.set("ws03", RUNNING)
    status, out, err = await command("logs", "--all", "--lines", "1")
    assert (status, out) == (1, "==> ws02 <==\nws02 line 5\n==> ws03 <==\nws03 line 5\n")
    assert err == "vncgate: ws01: node01 does not answer\n"


@pytest.mark.parametrize("lines", ["0", "-1", "10001", "x"])
def test_numbers_of_lines_that_are_none(capsys, lines):
    with pytest.raises(SystemExit):
        main(["desktop", "logs", "ws01", f"--lines={lines}"])
    assert "argument --lines: write a number from 1 to 10000" in capsys.readouterr().err


async def test_logs_of_one_and_of_several(command, launcher):
    assert await command("logs", "ws01", "--lines", "2") == (0, "ws01 line 4\nws01 line 5\n", "")
    status, out, _ = await command("logs", "ws0[12]", "--lines", "1")
    assert (status, out) == (0, "==> ws01 <==\nws01 line 5\n==> ws02 <==\nws02 line 5\n")
    assert await command("logs", "ws03") == (1, "", "vncgate: node01 does not answer\n")


async def test_logs_that_are_empty(command, launcher, monkeypatch):
    async def nothing(name, lines):
        return ""

    monkeypatch.setattr(launcher, "logs", nothing)
    status, out, err = await command("logs", "--all")
    assert (status, out) == (0, "")
    assert err.splitlines() == [
        "ws01: nothing was written",
        "ws02: nothing was written",
        "ws03: nothing was written; why it failed: image missing",
    ]
