"""Agents as the gate has them: as whom they run, how long they may be silent, and that none is left."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.real.gate import ME
from vncgate.errors import FilesError
from vncgate.model import Account, Secret
from vncgate.settings import Settings
from vncgate.takeaway import agents as module
from vncgate.takeaway.agents import Agents
from vncgate.takeaway.hands import Hands


def account(name="ws01"):
    return Account(name, None, f"path-{name}", None, Secret("secret01"))


def agents(root, user=ME, **files):
    settings = Settings(files={"root": str(root), "user": user, **files})
    return Agents(Hands(settings, lambda _: None), lambda each: str(root).replace("{account}", each.name))


async def everything(asked):
    data = b""
    while piece := await asked.read():
        data += piece
    return data


async def test_an_archive(tmp_path):
    (tmp_path / "a").write_bytes(os.urandom(3_000_000))
    async with agents(tmp_path).ask(account(), do="pack", paths=[], name="ws01", format="tar") as asked:
        data = await everything(asked)
    assert (tmp_path / "a").read_bytes() in data


async def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FilesError, match="the files of ws01: there is no such file or folder") as caught:
        await agents(tmp_path / "gone").do(account(), do="list", path="")
    assert caught.value.kind == "missing"


async def test_a_user_who_is_not_there(tmp_path):
    with pytest.raises(FilesError, match="no agent can be started: there is no user 'nonesuch'") as caught:
        await agents(tmp_path, "nonesuch").do(account(), do="list", path="")
    assert caught.value.kind == "away"


async def test_an_account_without_a_place(tmp_path):
    with pytest.raises(FilesError, match="ws01 has no desktop of ours"):
        await agents(tmp_path, through="place").do(account(), do="list", path="")


async def test_an_agent_that_is_not_read_on_is_ended(tmp_path):
    (tmp_path / "a").write_bytes(bytes(30_000_000))
    async with agents(tmp_path).ask(account(), do="pack", paths=[], name="ws01", format="tar") as asked:
        assert await asked.read()
    # conftest's no_leaks sees to it that no process is left


async def test_who_asks_and_goes_leaves_no_agent(tmp_path):
    (tmp_path / "a").write_bytes(bytes(30_000_000))
    begun = asyncio.Event()

    async def one():
        async with agents(tmp_path).ask(account(), do="pack", paths=[], name="ws01", format="tar") as asked:
            await asked.read()
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(one())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import time; time.sleep(1000)", "the agent said nothing for 0.5 s"),
        ("raise SystemExit(3)", "the agent did not answer: ended with exit status 3|the agent went away: "),
        ("import sys; sys.stdin.buffer.readline(); raise SystemExit(3)", "ended with exit status 3|went away: "),
        ("print('hello')", "did not answer: ended with exit status 0|went away: "),
        ("print('vncgate agent'); print('{')", "answers what cannot be understood|went away: "),
        (
            "import sys; sys.stdin.buffer.read(); print('vncgate agent'); print('{}'); print('x'); raise SystemExit(3)",
            "the agent ended in the middle",
        ),
    ],
)
async def test_agents_that_are_none(tmp_path, monkeypatch, program, words):
    monkeypatch.setattr(module, "LOADER", program)
    if "sleep" in program:
        monkeypatch.setattr(module, "ANSWER_TIMEOUT", 0.5)
    with pytest.raises(FilesError, match=words) as caught:
        async with agents(tmp_path).ask(account(), do="list", path="") as asked:
            await everything(asked)
    assert caught.value.kind == "away"


async def test_words_before_the_agents_own_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOADER", "print('Welcome to node01!', flush=True)\n" + module.LOADER)
    assert (await agents(tmp_path).do(account(), do="list", path=""))["entries"] == []


async def test_only_so_many_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TURN_TIMEOUT", 0.2)
    all_of_them = agents(tmp_path)
    (tmp_path / "a").write_bytes(bytes(30_000_000))
    order = {"do": "pack", "paths": [], "name": "ws01", "format": "tar"}
    async with asyncio.TaskGroup() as group:
        turns, enough = [], asyncio.Event()

        async def hold():
            async with all_of_them.ask(account(), **order):
                turns.append(1)
                await enough.wait()

        for _ in range(module.AT_ONCE_EACH):
            group.create_task(hold())
        while len(turns) < module.AT_ONCE_EACH:
            await asyncio.sleep(0.01)
        with pytest.raises(FilesError, match="too many agents are at work") as caught:
            await all_of_them.do(account(), do="list", path="")
        assert caught.value.kind == "busy"
        assert "entries" in await all_of_them.do(account("ws02"), do="list", path="")
        enough.set()


@pytest.mark.skipif(os.geteuid() != 0, reason="runs agents as two other users, which only root can become")
async def test_everybody_as_themselves():
    """Two accounts, each its user: neither reads or writes the other's, whatever is asked."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # where other users can go
    folder.chmod(0o711)
    try:
        for name in ("nobody", "daemon"):
            person = pwd.getpwnam(name)
            (folder / name).mkdir(mode=0o700)
            (folder / name / "secret").write_text(name)
            (folder / name / "secret").chmod(0o600)
            for path in (folder / name, folder / name / "secret"):
                os.chown(path, person.pw_uid, person.pw_gid)
        own = agents(folder / "{account}", "{account}")
        crossed = agents(folder / "nobody", "{account}")
        for name in ("nobody", "daemon"):
            order = {"do": "read", "path": "secret", "start": None, "stop": None, "tag": ""}
            async with own.ask(account(name), **order) as asked:
                assert await everything(asked) == name.encode()
            new = {"do": "create", "name": "new", "path": "", "clash": "ask", "size": 0, "quota": 0}
            await own.do(account(name), **new)
            status = (folder / name / "new").stat()
            assert (status.st_uid, status.st_gid) == pwd.getpwnam(name)[2:4]
        for each in (order, new, {"do": "list", "path": ""}):
            with pytest.raises(FilesError) as caught:
                await crossed.do(account("daemon"), **each)
            assert caught.value.kind == "denied"
    finally:
        shutil.rmtree(folder)
