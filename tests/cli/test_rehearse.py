"""`vncgate rehearse`, as a command, against a gate in this process with embedded desktops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import NamedTuple

import pytest

from tests.workshop import Workshop
from vncgate.cli import main, rehearse
from vncgate.demo import desktop as embedded
from vncgate.model import Account, Desktop, Secret

NAMES = ("ws01", "ws02")


class Said(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


def password(name):
    return f"Canary{name[2:]}"


@pytest.fixture
async def workshop(tmp_path, free_port, monkeypatch):
    monkeypatch.delenv("VNCGATE_CONTROL", raising=False)
    made = Workshop(tmp_path, free_port)
    async with contextlib.AsyncExitStack() as stack:
        for name in NAMES:
            account = Account(name, Desktop(unix=str(tmp_path / name)), name, None, Secret(password(name)))
            await stack.enter_async_context(embedded.serve(account, tmp_path / name, 0.6))
        made.write(*(f"{name} unix:{tmp_path / name} path-{name} - - {password(name)}" for name in NAMES))
        (tmp_path / "vncgate.toml").write_text(f'web = "127.0.0.1:{made.web}"\nshared_port = {made.shared}\n')
        async with made.running():
            yield made


@contextlib.asynccontextmanager
async def started(workshop, *args):
    """The command, as a process."""
    argv = [sys.executable, "-m", "vncgate", "rehearse", f"http://127.0.0.1:{workshop.web}/", *map(str, args)]
    argv += ["--config", str(workshop.folder / "vncgate.toml"), "--ramp", "0"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe, env={"PATH": os.environ["PATH"]})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def in_use(status):
    """Everybody is logged in, and has seen something of the desktop."""
    return all(account["bytes_down"] > 10_000 for account in status["accounts"])


async def ended(process):
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return Said(process.returncode, out.decode(), err.decode())


async def rehearsed(workshop, *args):
    async with started(workshop, "--minutes", "0.02", *args) as process:
        return await ended(process)


async def test_a_class_that_will_do(workshop, tmp_path):
    # On the gate's host nothing has to be said but the address: the gate tells where its token file is.
    status, out, err = await rehearsed(
        workshop, "--control", workshop.control, "--participants", 4, "--json", tmp_path / "found.json"
    )
    found = json.loads((tmp_path / "found.json").read_text())
    # How quick a busy machine is is no matter of this test: the status follows the verdict.
    assert (status, err) == (0 if found["verdict"]["grade"] == "good" else 1, "")
    assert out.startswith(f"4 participants at http://127.0.0.1:{workshop.web}/, each with 10 questions a second\n")
    assert f"{found['verdict']['grade'].upper()} for 4 people" in out
    assert "did not get in  none" in out
    assert (found["participants"], found["connected"], found["failed"], found["drops"]) == (4, 4, [], [])
    assert found["latency"]["count"] > 0
    assert found["load"]["gate"] > 0  # it is this process
    assert "Canary" not in out + (tmp_path / "found.json").read_text()


async def test_a_gate_elsewhere_is_not_seen_and_a_wrong_password_is_not_enough(workshop, tmp_path):
    tokens = tmp_path / "mine.tokens"
    tokens.write_text(workshop.tokens.read_text().replace("Canary02", "mistaken"))
    tokens.chmod(0o600)
    status, out, err = await rehearsed(workshop, "--tokens", tokens, "--control", tmp_path / "nowhere")
    assert (status, err) == (1, "")
    assert out.count("not seen (run it on the gate's host to see it)") == 3
    assert "NOT ENOUGH for 2 people." in out
    assert " - 1 of 2 did not get in (ws02): the desktop refused the password" in out
    assert "mistaken" not in out
    assert "Canary" not in out


async def test_the_gate_of_another_workshop_on_this_host_is_not_watched(workshop, tmp_path):
    tokens = tmp_path / "mine.tokens"
    tokens.write_text(workshop.tokens.read_text().replace("ws02 ", "ws07 "))
    tokens.chmod(0o600)
    _, out, _ = await rehearsed(workshop, "--tokens", tokens, "--control", workshop.control)
    assert "gate            not seen" in out


async def test_ctrl_c_ends_it_with_the_report_so_far(workshop):
    async with started(workshop, "--control", workshop.control, "--minutes", "10") as process:
        await workshop.until(in_use)
        process.send_signal(signal.SIGINT)
        status, out, err = await ended(process)
    assert err == ""
    assert status in (0, 1)
    assert "for 2 people" in out


async def test_a_gate_that_dies_is_told_without_a_traceback(workshop):
    async with started(workshop, "--control", workshop.control, "--minutes", "10") as process:
        await workshop.until(in_use)
        workshop.gate.shut_down()
        status, out, err = await ended(process)
    assert (status, err) == (1, "")
    assert "2 of 2 lost the desktop (ws01, ws02): the gate said: the gate is being stopped" in out


async def test_an_address_where_nobody_listens(workshop, free_port):
    workshop.web = free_port()
    (workshop.folder / "vncgate.toml").write_text("")
    status, out, err = await rehearsed(workshop, "--tokens", workshop.tokens)
    assert (status, err) == (1, "")
    assert "2 of 2 did not get in (ws01, ws02): the connection is refused: nobody listens there" in out
    assert "p95" not in out  # there is nothing to show


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["workshop.example.org"], "such as https://workshop.example.org"),
        (["https://x", "--participants", "0"], "must be a number from 1 to 20000"),
        (["https://x", "--minutes", "0"], "must be more than 0"),
        (["https://x", "--ramp", "-1"], "must be a number from 0 on"),
        (["https://x", "--ramp", "nan"], "must be a number from 0 on"),
        (["https://x", "--insecure", "--ca", "x"], "not allowed with"),
    ],
)
def test_what_was_typed_wrong_is_status_2(args, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["rehearse", *args])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--control", "/nonexistent/c"], "no gate on this host tells where its token file is"),
        (["--tokens", "/nonexistent/t"], "/nonexistent/t: cannot be read: No such file or directory"),
        (["--tokens", "{bad}"], ":1:1: error: "),
        (["--tokens", "{good}", "--ca", "/nonexistent/ca"], "--ca: /nonexistent/ca: No such file or directory"),
        (["--tokens", "{good}", "--ca", "{good}"], "there is no certificate in PEM in it"),
        (["--tokens", "{good}", "--config", "{config}"], "account ws01 cannot be reached at http://127.0.0.1:8080: "),
    ],
)
def test_files_that_do_not_do_are_status_2(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("VNCGATE_CONTROL", raising=False)
    files = {"bad": "ws01\n", "good": "ws01 node01 path-ws01 - 5901 Canary01\n", "config": "shared_port = 0\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    args = [arg.format(**{name: tmp_path / name for name in files}) for arg in args]
    assert main(["rehearse", "http://127.0.0.1:8080", *args]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert "Canary" not in said.err + said.out


def test_a_file_for_the_json_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(rehearse.PublishError, match="--json: .*: cannot be written: Is a directory"):
        rehearse._write(tmp_path, {})
