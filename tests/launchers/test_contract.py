"""What every place promises (launchers/base.py), on real parts: one suite for all of them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import time

import pytest

from tests.launchers.places import PLACES, log_in
from vncgate.errors import DesktopError, LaunchError, SilentError
from vncgate.kinds import DockerPlace, SlurmPlace, SshPlace
from vncgate.launchers.base import Handle, Seen
from vncgate.launchers.docker import Docker
from vncgate.launchers.scripts import Scripts
from vncgate.launchers.slurm import Slurm
from vncgate.launchers.ssh import Ssh
from vncgate.model import Readiness, Secret

pytestmark = pytest.mark.real

HOSTILE = 'o\'neil "the" $(touch pwned) `touch pwned` \\ \n; touch pwned # \u202e*'

ELSEWHERE = [name for name in PLACES if name not in ("local_site", "apptainer_site")]
"""Places that may be silent; the gate's own host answers for as long as there is a gate."""


@pytest.fixture(params=PLACES, scope="module")
def place_name(request):
    """Set up first what tests share: what is there before a test is not counted as left behind by it."""
    if PLACES[request.param]:
        request.getfixturevalue(PLACES[request.param])
    return request.param


@pytest.fixture
def site(place_name, request):
    return request.getfixturevalue(place_name)


async def test_a_desktop_reports_where_it_is_and_lets_its_password_in(site):
    spec, handle, seen = await site.start()
    assert (handle.account, handle.nonce) == (spec.account, spec.nonce)
    assert (await log_in(seen)).name == spec.account
    with pytest.raises(DesktopError) as error:
        await log_in(seen, Secret("not this"))
    assert error.value.readiness is Readiness.WRONG_PASSWORD


async def test_what_was_never_started_is_gone_and_is_ended_without_a_word(site):
    handle = Handle(site.place._name, "ws01", os.urandom(8).hex(), site.host)
    assert (await site.place.query(handle)).seen is Seen.GONE
    await site.place.cancel(handle)
    assert await site.place.logs(handle) == ""


async def test_ending_leaves_no_process_and_no_file(site):
    hostile = """trap "" TERM; (setsid sh -c 'trap : TERM; sleep 1000; sleep 1000' &); sleep 1000; sleep 1000"""
    spec, handle, seen = await site.start("sh", "-c", hostile)
    await log_in(seen)
    assert site.left(spec.nonce), "it sees what there is"
    await site.place.cancel(handle)
    assert site.left(spec.nonce) == []
    assert (await site.place.query(handle)).seen is Seen.GONE
    await site.place.cancel(handle)
    with pytest.raises(DesktopError):
        await log_in(seen)


async def test_a_restarted_daemon_finds_its_desktops_again(site):
    spec, handle, _ = await site.start()
    await site.place.aclose()
    site.place = site.make()
    found = Handle.from_json(handle.to_json())
    await log_in(await site.serving(found))
    # One that was killed before submit() returned has nothing but the nonce.
    unfinished = dataclasses.replace(found, job="")
    await log_in(await site.serving(unfinished))
    await site.place.cancel(unfinished)
    assert site.left(spec.nonce) == []


async def test_many_are_asked_for_at_once(site):
    _, handle, _ = await site.start()
    others = [dataclasses.replace(handle, nonce=f"{number:016d}") for number in range(20)]
    seen = await asyncio.gather(*map(site.place.query, [handle, *others]))
    assert [one.seen for one in seen] == [Seen.RUNNING] + [Seen.GONE] * 20


async def test_what_the_session_writes_can_be_read(site):
    talk = 'for i in 1 2 3 4; do printf "line %s \\033[1m\\n" $i; done; sleep 1000'
    _, handle, _ = await site.start("sh", "-c", talk)
    seen = ""
    async for seen in _asking(lambda: site.place.logs(handle)):
        if "line 4" in seen:
            break
    said = [line for line in seen.splitlines() if line.startswith("line")]  # D-Bus may have a word, too
    assert said == [f"line {number} \\x1b[1m" for number in (1, 2, 3, 4)]
    assert len((await site.place.logs(handle, lines=2)).splitlines()) == 2


async def test_the_password_can_be_changed(site):
    _, handle, seen = await site.start()
    await site.place.rekey(handle, Secret("another1"))
    await log_in(seen, Secret("another1"))
    with pytest.raises(DesktopError, match="refused the password"):
        await log_in(seen)


async def test_a_session_that_ends_ends_the_desktop_and_leaves_its_log(site):
    spec, handle, _ = await site.start("sh", "-c", "echo what I said; until [ -e end ]; do sleep 0.1; done; exit 3")
    (site.homes / spec.home / "end").touch()
    seen = await site.gone(handle)
    assert seen.exit_status == 3
    assert "what I said" in await site.place.logs(handle)
    await site.place.cancel(handle)
    assert site.left(spec.nonce) == []


async def test_a_command_that_is_not_there_is_named(site):
    handle = await site.submit(site.spec("startnonesuch"))
    seen = await site.gone(handle)
    assert "startnonesuch: command not found" in seen.reason + await site.place.logs(handle)


async def test_hostile_names_are_names_and_nothing_else(site):
    home = str(site.homes / f"h {HOSTILE}")
    command = ["sh", "-c", 'printf "%s|%s" "$1" "$GREETING" >seen; exec sleep 1000', "sh", HOSTILE]
    spec, _, seen = await site.start(*command, account=HOSTILE, home=home, environment={"GREETING": HOSTILE})
    assert (await log_in(seen)).name.startswith('o\'neil "the" $(touch pwned)')
    async for _ in _asking(_nothing):
        if (site.homes / spec.home / "seen").exists() and (site.homes / spec.home / "seen").stat().st_size:
            break
    assert (site.homes / spec.home / "seen").read_text() == f"{HOSTILE}|{HOSTILE}"
    for folder in (site.root, site.homes):
        assert not list(folder.rglob("pwned"))


@pytest.mark.parametrize("place_name", ELSEWHERE, indirect=True, scope="module")
async def test_a_place_that_does_not_answer_refuses_nothing_and_starts_nothing(site, short_folder, free_port):
    place = _away(site.place._settings, short_folder, free_port())
    spec = site.spec()
    with pytest.raises(SilentError):
        await place.submit(spec)
    handle = Handle(place._name, spec.account, spec.nonce, spec.host, spec.user)
    assert (await place.query(handle)).seen is Seen.UNKNOWN
    with pytest.raises(LaunchError):
        await place.cancel(handle)
    await place.aclose()
    assert site.left(spec.nonce) == []
    assert (await site.place.query(handle)).seen is Seen.GONE


def _away(settings, folder, port):
    """The same place where nobody answers."""
    match settings:
        case SshPlace():
            return Ssh("ssh", settings.model_copy(update={"port": port}), folder / "away", Scripts(None))
        case DockerPlace(command=command):
            command = (command[0], "--remote", f"--url=unix://{folder}/nobody.sock")
            return Docker("docker", settings.model_copy(update={"command": command}), folder / "away", Scripts(None))
        case SlurmPlace(transport="rest"):
            settings = settings.model_copy(update={"rest": f"http://127.0.0.1:{port}"})
        case SlurmPlace(conf=conf):
            text = re.sub(r"(?m)^SlurmctldPort=.*$", f"SlurmctldPort={port}", conf.read_text())
            (folder / "slurm.conf").write_text(text)
            settings = settings.model_copy(update={"conf": folder / "slurm.conf"})
    return Slurm("hpc", settings, folder / "away", Scripts(None))


async def _nothing():
    return None


async def _asking(question):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        yield await question()
        await asyncio.sleep(0.05)
