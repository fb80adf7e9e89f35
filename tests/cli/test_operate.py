"""The operator's commands, as commands, against a daemon in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import NamedTuple

import picows
import pytest

from tests.cli.terminal import Terminal
from tests.engines.desktop import Peer, client
from tests.workshop import Workshop
from vncgate import control
from vncgate.cli import main, operate
from vncgate.demo import desktop as embedded
from vncgate.errors import ControlError
from vncgate.model import Account, Desktop, Secret


class Said(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


@pytest.fixture
def workshop(tmp_path, free_port, monkeypatch):
    monkeypatch.delenv("VNCGATE_CONTROL", raising=False)
    return Workshop(tmp_path, free_port)


@pytest.fixture
def command(workshop, capsys):
    """A function that gives a command to the workshop's daemon, in a thread, and returns what it said."""

    async def give(*args):
        status = await asyncio.to_thread(main, [*map(str, args), "--control", str(workshop.control)])
        return Said(status, *capsys.readouterr())

    return give


def password(name):
    return f"Canary{name[2:]}"


def line(name, port=5901):
    return f"{name} 127.0.0.1 path-{name} - {port} {password(name)}"


def states(gate):
    return {account["name"]: account["state"] for account in gate.status()["accounts"]}


def rows(text):
    """The cells of the table, by heading, and the lines below it."""
    table, below = re.fullmatch(r"\s*(.*?)\n *\n(.*)\n", text, re.DOTALL).groups()
    headings, _, *cells = [re.split(r" {2,}", each.strip()) for each in table.splitlines()]
    return [dict(zip(headings, each, strict=True)) for each in cells], below.splitlines()


@contextlib.asynccontextmanager
async def desktops(folder, *names):
    """Desktops that log in whoever has the password, on unix sockets; the lines for the token file."""
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            account = Account(name, Desktop(unix=str(folder / name)), name, None, Secret(password(name)))
            await stack.enter_async_context(embedded.serve(account, folder / name, 0.6))
        yield {name: f"{name} unix:{folder / name} path-{name} - - {password(name)}" for name in names}


# ---- status


async def test_the_table_has_every_column_and_the_lines_below_it_say_what_is_wrong(workshop, command):
    own, dead = workshop.free_port.many(2)
    async with desktops(workshop.folder, "ws01", "ws02", "ws03") as lines:
        workshop.write(
            lines["ws01"].replace("- -", f"{own} -"),
            lines["ws02"].replace(password("ws02"), "mistaken"),
            lines["ws03"],
            line("ws04", dead),
        )
        async with workshop.running(probe=True) as gate:
            await gate.stop(["ws03"])
            wanted = {"ws01": "ready", "ws02": "wrong password", "ws03": "unknown", "ws04": "offline"}
            await workshop.until(lambda status: {a["name"]: a["ready"] for a in status["accounts"]} == wanted)
            async with client(own) as (transport, heard):
                await heard.until(lambda: heard.data)
                transport.send(picows.WSMsgType.BINARY, b"RFB 003.008\n")
                await heard.until(lambda: len(heard.data) > 12)
                status, out, err = await command("status")
    table, below = rows(out)
    assert (status, err) == (0, "")
    assert [re.fullmatch(r"\d+ s", row.pop("since")) is not None for row in table] == [True] * 4
    headings = ("account", "want", "state", "ready", "browsers", "down", "up", "restarts")
    assert table == [
        dict(zip(headings, cells, strict=True))
        for cells in (
            ("ws01", "up", "RUNNING", "ready", "1", "14 B", "12 B", "0"),
            ("ws02", "up", "RUNNING", "wrong password", "0", "0 B", "0 B", "0"),
            ("ws03", "down", "STOPPED", "unknown", "0", "0 B", "0 B", "0"),
            ("ws04", "up", "RUNNING", "offline", "0", "0 B", "0 B", "0"),
        )
    ]
    assert below == [
        f"ws02: desktop unix:{workshop.folder}/ws02 refused the password",
        f"ws04: desktop 127.0.0.1:{dead} refused the connection",
        "4 accounts, 1 ready, 1 in use, 1 offline, 1 wrong password, 1 not running; 14 B down, 12 B up",
    ]
    assert "Canary" not in out + err


async def test_problems_of_the_token_file_stand_below_the_table(workshop, command):
    workshop.write(line("ws01"))
    async with workshop.running():
        workshop.write(line("ws01"), "ws02 node02")
        await workshop.until(lambda status: status["trouble"])
        status, out, _ = await command("status")
        table, below = rows(out)
        assert status == 0
        assert [row["account"] for row in table] == ["ws01"]
        assert re.match(rf"{re.escape(str(workshop.tokens))}:2:\d+: error: ", below[0])
        assert below[1] == f"{workshop.tokens} has 1 error; the last good roster stays"
        assert below[2].startswith("1 account")


async def test_both_halves_of_an_account_whose_desktop_the_gate_starts(workshop, command):
    kinds = {"term": {"command": "xterm", "policy": "manual", "sizes": {"small": {}}}}
    local = {"type": "local", "user": "nobody"}
    flags = {
        "desktops.kinds": kinds,
        "desktops.places": {"local": local},
        "desktops.folder": str(workshop.folder / "d"),
    }
    workshop.write(f"ws01 - ws01 - - {password('ws01')} size=small", line("ws02"))
    async with workshop.running(**flags):
        status, out, err = await command("status")
        everything = json.loads((await command("status", "--json")).out)
    table, below = rows(out)
    assert (status, err) == (0, "")
    assert [[row[heading] for heading in ("account", "state", "desktop", "kind", "where")] for row in table] == [
        ["ws01", "RUNNING", "STOPPED", "term small", "local"],
        ["ws02", "RUNNING", "-", "-", "-"],
    ]
    assert below[-2:] == [
        "1 desktop of the gate's own: 1 STOPPED",
        "2 accounts, 0 ready, 0 in use; 0 B down, 0 B up",
    ]
    first, second = everything["accounts"]
    assert (first["launched"]["size"], first["launched"]["want"], second["launched"]) == ("small", "down", None)


async def test_everything_as_json(workshop, command):
    workshop.write(line("ws01"))
    async with workshop.running() as gate:
        status, out, err = await command("status", "--json")
        assert (status, err) == (0, "")
        assert json.loads(out) == gate.status()
        assert json.loads(out)["accounts"][0]["name"] == "ws01"
        assert "Canary" not in out + err


# ---- status --watch, on a terminal


async def test_watching_on_a_terminal_follows_and_ends_by_ctrl_c(workshop, command):
    workshop.write(line("ws01"))
    async with workshop.running():
        terminal = Terminal("status", "--watch", "--control", workshop.control)
        first = await terminal.shows("RUNNING")
        assert "\x1b[?1049h" in first, "the alternate screen keeps what was on the terminal"
        await command("stop", "ws01")
        await terminal.shows("STOPPED")
        assert await terminal.end(signal.SIGINT) == 130
        assert "\x1b[?1049l" in terminal.said
        assert "Traceback" not in terminal.said


async def test_watching_ends_with_the_daemon(workshop):
    workshop.write(line("ws01"))
    async with workshop.running():
        terminal = Terminal("status", "--watch", "--control", workshop.control)
        await terminal.shows("RUNNING")
    assert await terminal.end() == 1
    assert terminal.said.rpartition("\x1b[?1049l")[2].endswith(
        f"vncgate: no vncgate answers at {workshop.control} (there is no such socket); is it running?\r\n"
    )


async def test_watching_as_json_gives_a_line_each_time(workshop, monkeypatch, command):
    workshop.write(line("ws01"))
    looks = []

    def look_thrice(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("vncgate.cli.operate.time.sleep", look_thrice)
    async with workshop.running():
        status, out, err = await command("status", "--json", "--watch")
    assert (status, err, looks) == (130, "", [1.0] * 3)
    assert [json.loads(each)["totals"]["accounts"] for each in out.splitlines()] == [1] * 3


# ---- start, stop, restart


async def test_accounts_are_stopped_started_and_restarted(workshop, command):
    async with Peer() as peer:
        workshop.write(line("ws01", peer.port), line("ws02", peer.port))
        async with workshop.running() as gate, client(workshop.shared, "/ws/path-ws02") as (_, stays):
            await stays.until(lambda: stays.data)
            async with client(workshop.shared, "/ws/path-ws01") as (_, heard):
                await heard.until(lambda: heard.data)
                assert await command("stop", "ws01") == (0, "stopped: ws01\n", "")
                assert heard.closed == (1008, "stopped by the organizers")
            assert states(gate) == {"ws01": "STOPPED", "ws02": "RUNNING"}
            assert await command("start", "ws01") == (0, "started: ws01\n", "")
            assert states(gate) == {"ws01": "RUNNING", "ws02": "RUNNING"}
            async with client(workshop.shared, "/ws/path-ws01") as (_, heard):
                await heard.until(lambda: heard.data)
                assert stays.closed is None
                assert await command("restart", "ws01", "ws02") == (0, "restarted: ws01, ws02\n", "")
                assert heard.closed == stays.closed == (1012, "restarted by the organizers")
            assert states(gate) == {"ws01": "RUNNING", "ws02": "RUNNING"}


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
async def test_an_unknown_account_is_told_and_the_others_stay_as_they_are(verb, workshop, command):
    workshop.write(line("ws01"), line("ws02"))
    async with workshop.running() as gate:
        await gate.stop(["ws02"])
        assert await command(verb, "ws01", "ws98", "ws02", "ws99") == (1, "", "vncgate: no such account: ws98, ws99\n")
        assert states(gate) == {"ws01": "RUNNING", "ws02": "STOPPED"}


# ---- reload


async def test_reload_says_what_changed_or_what_is_wrong(workshop, command):
    workshop.write(line("ws01"))
    async with workshop.running(watch="poll", poll_interval=3600.0) as gate:
        workshop.write(line("ws01"), line("ws02"))
        assert await command("reload") == (0, "1 added (ws02), 1 unchanged\n", "")
        workshop.write(line("ws01"), "ws02 node02", "ws03")
        status, out, err = await command("reload")
        assert (status, out) == (1, "")
        first, second, last = err.splitlines()
        assert first.startswith(f"vncgate: {workshop.tokens}:2:")
        assert second.startswith(f"{workshop.tokens}:3:")
        assert last == f"{workshop.tokens} has 2 errors; the last good roster stays"
        assert list(states(gate)) == ["ws01", "ws02"]


async def test_a_token_file_that_is_handed_over(workshop, command, tmp_path):
    workshop.write(line("ws01"))
    handed = tmp_path / "handed.tokens"
    async with workshop.running() as gate:
        handed.write_text(line("ws01") + "\n" + line("ws05") + "\n")
        handed.chmod(0o600)
        assert await command("reload", "--tokens", handed) == (0, "1 added (ws05), 1 unchanged\n", "")
        assert list(states(gate)) == ["ws01", "ws05"]
        for content, wrong in {
            b"ws01\n": f"vncgate: {handed}:1:",
            b"\xff\xfe": f"vncgate: {handed}:1:",
            b"": f"vncgate: {handed}: warning: there is no account",
        }.items():
            handed.write_bytes(content)
            status, out, err = await command("reload", "--tokens", handed)
            assert (status, out) == (1, "")
            assert err.startswith(wrong)
            assert err.endswith("the last good roster stays\n")
        for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
            status, out, err = await command("reload", "--tokens", path)
            assert (status, out) == (1, "")
            assert err.startswith(f"vncgate: {path}: cannot be read: {why}")
            assert len(err.splitlines()) == 1
        assert list(states(gate)) == ["ws01", "ws05"]


# ---- no daemon, or somebody else


COMMANDS = [
    ["status"],
    ["status", "--json"],
    ["status", "--watch"],
    ["start", "ws01"],
    ["stop", "ws01"],
    ["restart", "ws01"],
    ["reload"],
]


def refused(capsys, path, *args):
    """The one line on stderr of a command that finds no daemon at `path`."""
    assert main([*args, "--control", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    start, end = f"vncgate: no vncgate answers at {path} (", "); is it running?\n"
    assert err.startswith(start)
    assert err.endswith(end)
    return err.removeprefix(start).removesuffix(end)


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_nobody_is_there(args, tmp_path, capsys):
    path = tmp_path / "control"
    assert refused(capsys, path, *args) == "there is no such socket"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    assert refused(capsys, path, *args) == "nobody listens"


def test_a_path_that_cannot_be_a_socket(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert refused(capsys, tmp_path / "file", "status") == "nobody listens"
    assert refused(capsys, tmp_path / ("x" * 200), "status") == "AF_UNIX path too long"


def test_a_socket_that_one_may_not_open(tmp_path):
    path = tmp_path / "control"
    # It is all imported before: that other user may not be able to read this Python.
    become = "from vncgate.cli import main, parser; parser(); os.getuid() or os.setuid(65534)"
    program = f"import os, sys; {become}; sys.exit(main())"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        argv = [sys.executable, "-c", program, "stop", "ws01", "--control", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"vncgate: no vncgate answers at {path} (you may not open it; use the daemon's user, or root); is it running?\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 mail.example ESMTP",
        b"HTTP/1.0 404 Not Found\r\n\r\n<html>",
        b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.0 500 No\r\n\r\n7",
        None,
    ],
    ids=["nothing", "mail", "web page", "half", "object", "list", "number", "silence"],
)
@pytest.mark.parametrize("args", [["status"], ["stop", "ws01"], ["reload"]], ids=" ".join)
def test_somebody_else_answers(args, answer, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(control, "REPLY_TIMEOUT", 0.2)
    monkeypatch.setattr(operate, "UPGRADE_TIMEOUT", 0.2)
    path = tmp_path / "control"
    ended = threading.Event()

    def serve():
        with listener.accept()[0] as sock:
            sock.recv(65536)
            if answer is None:
                ended.wait()
            else:
                sock.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert main([*args, "--control", str(path)]) == 1
        finally:
            ended.set()
            thread.join()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vncgate: ")
    assert err.count("\n") == 1


# ---- where the socket is


def test_a_question_that_is_lost_while_the_daemon_starts_anew_is_asked_again(monkeypatch, capsys, tmp_path):
    gone = ControlError("vncgate at control went away before it answered")
    old = {"since": 1.0, "started": True}
    new = {"since": 2.0, "started": True, "version": "9.9", "workers": [{"state": "draining", "connections": 3}]}
    monkeypatch.setattr(operate, "UPGRADE_INTERVAL", 0)

    def upgrade(*answers):
        answers = iter([old, *answers])

        def call(*_):
            if isinstance(answer := next(answers), ControlError):
                raise answer
            return answer

        monkeypatch.setattr(control, "call", call)
        return main(["upgrade", "--control", str(tmp_path / "control")])

    assert upgrade(old, gone, {**new, "started": False}, new) == 0
    assert "3 connections go on in older workers" in capsys.readouterr().out
    assert upgrade(old, gone, gone) == 1
    assert "went away" in capsys.readouterr().err


async def test_the_variable_names_the_socket_and_the_flag_beats_it(workshop, command, monkeypatch, capsys, tmp_path):
    workshop.write(line("ws01"))
    async with workshop.running():
        monkeypatch.setenv("VNCGATE_CONTROL", str(tmp_path / "none"))
        assert (await command("status")).status == 0
        assert await asyncio.to_thread(main, ["status"]) == 1
        assert f"answers at {tmp_path / 'none'} " in capsys.readouterr().err
        monkeypatch.setenv("VNCGATE_CONTROL", str(workshop.control))
        assert await asyncio.to_thread(main, ["status"]) == 0


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_an_account_must_be_named(verb, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([verb])
    assert "the following arguments are required: ACCOUNT" in capsys.readouterr().err
