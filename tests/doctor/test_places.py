"""Whether each place could start a desktop: judged from what is found, and found on this host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.doctor.cases import case, told
from vncgate.doctor import places
from vncgate.errors import LaunchError
from vncgate.launchers import lines
from vncgate.model import Account, Roster, Secret
from vncgate.process import Result
from vncgate.settings import load

SH = Path("/bin/sh")


def launching(text, *names, **values):
    """A case with these settings of desktops, and accounts whose desktops the gate starts."""
    settings = load(Path("vncgate.toml"), content=f"[desktops]\n{text}\n".encode())
    roster = Roster(tuple(Account(name, None, name, None, Secret("canary")) for name in names))
    return case(settings=settings, roster=roster, **values)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A function that makes programs the only ones on PATH."""

    def programs(**scripts):
        for name, script in scripts.items():
            file = tmp_path / name
            file.write_text(f"#!{SH.resolve()}\n{script}\n")
            file.chmod(0o755)
        if not (tmp_path / "sh").exists():
            (tmp_path / "sh").symlink_to(SH)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("vncgate.doctor.base.ADMIN_FOLDERS", "/none")

    return programs


async def found(text, *names, **values):
    return told(await places.check(launching(text, *names, **values)))


async def test_without_kinds_there_is_nothing_to_look_at():
    assert await found("") == []


async def test_a_host_with_everything(path):
    path(**dict.fromkeys(("Xtigervnc", "bash", "xprop", "dbus-run-session", "startxfce4"), ""))
    ((result, message),) = await found('kinds.x = {command = "startxfce4"}')
    assert result == "ok"
    assert message == "local: this host: all is there (Xvnc, bash, dbus-run-session, startxfce4)"


async def test_what_a_host_lacks(path):
    path(bash="")
    text = 'kinds.x = {command = "gedit", window_manager = "openbox"}'
    assert await found(text) == [
        ("error", "local: there is no Xvnc on this host"),
        ("warning", "local: there is no dbus-run-session on this host"),
        ("warning", "local: there is no xprop on this host"),
        ("error", "local: there is no openbox on this host"),
        ("error", "local: there is no gedit on this host"),
    ]


async def test_an_image_and_programs_that_the_setup_brings(path, tmp_path):
    path(apptainer="", Xvnc="", bash="", **{"dbus-run-session": ""})
    image = tmp_path / "x.sif"
    text = 'kinds.y = {command = "matlab", setup = "module load matlab"}\n'
    text += f'kinds.x = {{command = "a", wrap = "apptainer", image = "{image}"}}'
    findings = await places.check(launching(text))
    assert told(findings) == [("error", f"local: there is no image {image} on this host")]
    assert findings[0].advice == "vncgate images deploy x"
    image.touch()
    assert [result for result, _ in await found(text)] == ["ok"]


async def test_unix_users_that_are_not_there(path):
    path(bash="", Xvnc="", a="", **{"dbus-run-session": ""})
    text = 'kinds.x.command = "a"\nplaces.local = {type = "local", user = "{account}"}'
    assert (await found(text, "root", "no-such", "nor-this"))[0] == (
        "error",
        "local: 2 Unix users not on this host: no-such, nor-this",
    )


async def test_an_engine_and_its_images(path):
    text = 'kinds.x = {command = "a", place = "d", image = "localhost/x:1"}\n'
    text += 'places.d = {type = "docker", command = "podman"}'
    path()
    assert await found(text) == [("error", "d: there is no podman here")]
    path(podman="echo no cgroups >&2; exit 125")
    assert await found(text) == [("error", "d: podman does not answer: no cgroups")]
    path(podman='test "$1" = ps')
    findings = await places.check(launching(text))
    assert told(findings) == [("error", "d: the image localhost/x:1 is not here")]
    assert findings[0].advice.startswith("podman load --input FILE")
    path(podman="")
    assert await found(text) == [("ok", "d: podman answers, and has the images")]


SLURM = """
kinds.x = {{command = "a", place = "s", sizes.big.partition = "gpu"}}
places.s = {{type = "slurm", folder = "{}", partition = "cpu"}}
"""


async def test_a_cluster_by_its_commands(path, tmp_path):
    text = SLURM.format(tmp_path)
    path(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    ((result, message),) = await found(text)
    assert result == "error"
    assert message.startswith("s: Slurm cannot be reached now")
    path(squeue="", sinfo="echo cpu; echo long; echo cpu")
    assert await found(text) == [("error", "s: there is no partition gpu (kind x); there are cpu, long")]
    path(sinfo="echo cpu; echo gpu")
    assert [result for result, _ in await found(text)] == ["ok"]
    (message,) = [words for result, words in await found(SLURM.format(tmp_path / "none")) if result == "error"]
    assert message.startswith(f"s: the shared folder {tmp_path}/none is not there")


async def test_hosts_are_asked_and_grouped_by_what_they_say(monkeypatch):
    asked = []

    async def run(self, through, argv, *, timeout, stdin, env):
        host, _ = through
        asked.append(through)
        if host in ("n1", "n2"):
            raise LaunchError(f"{host} has another key than the one in /k: somebody may be in between")
        if host == "n3":
            raise TimeoutError
        return Result(0, "done\n" if host == "n4" else "missing Xvnc\ndone\n", "")

    monkeypatch.setattr(lines.Lines, "run", run)
    place = 'type = "ssh", hosts = "n[1-6]", user = "{account}", port = 39023, key = "/k 1", known_hosts = "/h"'
    text = f'kinds.x = {{command = "a", place = "h"}}\nplaces.h = {{{place}}}'
    each = launching(text, "ada")
    another, silent, *_ = await places.check(each)
    assert another.advice == "do as it says, and look again"
    assert silent.advice == "see for yourself: ssh -p 39023 -i '/k 1' -o UserKnownHostsFile=/h ada@n3 true"
    assert "n3 did not say within 20 s what it has" in each.told
    asked.clear()
    assert await found(text, "ada") == [
        ("error", "h: n1, n2, each: HOST has another key than the one in /k: somebody may be in between"),
        ("error", "h: n3 did not say within 20 s what it has"),
        ("error", "h: there is no Xvnc on n5, n6"),
        ("ok", "h: n4: all is there (Xvnc, bash, dbus-run-session, a)"),
    ]
    assert sorted(asked) == [(f"n{n}", "ada") for n in range(1, 7)]


async def test_whoever_asks_as_somebody_else_than_the_gate_is_told(path, monkeypatch):
    path()
    monkeypatch.setattr(places.os, "geteuid", lambda: Path("/proc/self").stat().st_uid + 1)
    status = {"pid": os.getpid(), "accounts": []}
    assert "these were asked as " in (await found('kinds.x.command = "a"', status=status))[-1][1]
    monkeypatch.undo()
    path()
    assert "these were asked as " not in (await found('kinds.x.command = "a"', status=status))[-1][1]
