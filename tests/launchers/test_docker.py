"""Tests of vncgate.launchers.docker; what every place promises is in test_contract.py."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import threading
from pathlib import Path

import pytest

from tests.launchers.places import log_in
from vncgate.errors import LaunchError, SilentError
from vncgate.kinds import DockerPlace, Kind
from vncgate.launchers import docker, share
from vncgate.launchers.base import Handle, Seen, Spec
from vncgate.launchers.container import Person
from vncgate.launchers.docker import Docker, End, as_engine
from vncgate.launchers.scripts import Scripts
from vncgate.model import Secret

SPEC = Spec("ws01", "0123456789abcdef", "", Kind(command=["xterm"], image="desktop:1"), Secret("secret01"))
OWN = Person("gate", 990, 991, (5,))


@pytest.fixture(autouse=True)
def short_interval(monkeypatch):
    monkeypatch.setattr(docker, "INTERVAL", 0.02)


@pytest.mark.parametrize(
    ("info", "person"),
    [
        ({"host": {"security": {"rootless": True}}}, Person("gate", 990, 991, (), "keep-id")),
        ({"host": {"security": {"rootless": False}}}, OWN),
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}, Person("root", 0, 0)),
        ({"SecurityOptions": ["name=apparmor"]}, OWN),
        ({}, OWN),
    ],
)
def test_whom_an_engine_knows_us_as(info, person):
    assert as_engine(OWN, info) == person


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End(137, True, ""), "more memory than its limit"),
        (End(137, False, ""), "killed from outside"),
        (End(127, False, "no such file"), "no such file"),
        (End(1, False, ""), ""),
        (End(0, True, ""), ""),
    ],
)
def test_why_a_container_ended(end, words):
    assert words in end.words
    assert bool(end.words) == bool(words)  # else its session has the word


async def test_an_engine_that_is_not_there_is_named(tmp_path):
    place = Docker("c", DockerPlace(type="docker", command=["nonesuch-engine"]), tmp_path / "s", Scripts(None))
    seen = await place.query(Handle("c", "ws01", "0123456789abcdef"))
    assert (seen.seen, seen.reason) == (
        Seen.UNKNOWN,
        "nonesuch-engine: No such file or directory; is Docker or Podman installed?",
    )
    with pytest.raises(LaunchError, match="nonesuch-engine"):
        await place.cancel(Handle("c", "ws01", "0123456789abcdef"))
    await place.aclose()


def engine(tmp_path: Path, script: str) -> DockerPlace:
    """A command that notes each call, and does what `script` says."""
    path = tmp_path / "engine"
    path.write_text(f'#!/bin/bash\nprintf "%q " "$@" >>{tmp_path}/calls; echo >>{tmp_path}/calls\n{script}\n')
    path.chmod(0o755)
    return DockerPlace(type="docker", command=[str(path)], user="root" if os.geteuid() == 0 else "")


def calls(tmp_path: Path) -> list[str]:
    return [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]


async def test_a_home_that_hangs_is_in_nobody_else_s_way(tmp_path, monkeypatch):
    alive = threading.Event()

    def make_home(home, owner):
        if home.name == "dead":
            alive.wait()

    monkeypatch.setattr(docker, "make_home", make_home)
    monkeypatch.setattr(share, "TIMEOUT", 0.1)
    place = Docker("c", engine(tmp_path, "echo '{}'"), tmp_path / "s", Scripts(None))
    try:
        for number in range(2 * share.THREADS):
            spec = dataclasses.replace(SPEC, nonce=f"{number:016d}", home=str(tmp_path / "dead"))
            with pytest.raises(SilentError, match="/dead does not answer within"):
                await place.submit(spec)
        monkeypatch.setattr(share, "TIMEOUT", 20.0)
        handle = await place.submit(dataclasses.replace(SPEC, home=str(tmp_path / "home")))
        assert (handle.account, place._share._free._value) == ("ws01", share.THREADS)
    finally:
        alive.set()
        await place.aclose()


async def test_one_question_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(docker, "INTERVAL", 1000.0)
    said = "echo vncgate-0000000000000001 running; echo vncgate-0000000000000002 Up 3 minutes"
    place = Docker("c", engine(tmp_path, said), tmp_path / "s", Scripts(None))
    handles = [Handle("c", "ws", f"{number:016d}", job="x") for number in range(1, 41)]
    for _ in range(3):
        seen = await asyncio.gather(*map(place.query, handles))
        assert [one.seen for one in seen] == [Seen.RUNNING] * 2 + [Seen.GONE] * 38
    assert calls(tmp_path) == ["ps"]
    await place.aclose()


async def test_a_class_that_has_ended_is_asked_for_at_once_and_once(tmp_path):
    said = """if [ $1 = ps ]; then for n in 1 2 3; do echo vncgate-000000000000000$n Exited; done; else
    echo "/vncgate-0000000000000001 0 false "; echo "vncgate-0000000000000002 137 true it was"; echo gone >&2; exit 1
    fi"""
    place = Docker("c", engine(tmp_path, said), tmp_path / "s", Scripts(None))
    place._survey._interval = 0.0
    handles = [Handle("c", "ws", f"{number:016d}", job="x") for number in (1, 2)]  # the third is another gate's
    for _ in range(2):
        one, two = await asyncio.gather(*map(place.query, handles))
        assert (one.seen, one.exit_status) == (Seen.GONE, 0)
        assert (two.exit_status, two.reason) == (137, End(137, True, "").words)
    assert calls(tmp_path) == ["ps", "container", "ps"]
    assert "vncgate-0000000000000003" not in (tmp_path / "calls").read_text()
    await place.aclose()


@pytest.mark.parametrize("fault", ["echo readlink overlay: no such file >&2; exit 125", "exec sleep 100"])
async def test_a_container_that_cannot_be_looked_up_is_in_nobodys_way(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(docker, "PATIENCE", 0.5)
    running, damaged, killed = (f"{number:016d}" for number in (1, 2, 3))
    said = f"""case $1 in
    ps) [ -e {tmp_path}/removed ] || echo vncgate-{running} running
        echo vncgate-{damaged} exited; echo vncgate-{killed} exited;;
    rm) touch {tmp_path}/removed;;
    container) case "$*" in *{damaged}*) {fault};; esac; echo vncgate-{killed} 137 false "";;
    esac"""
    place = Docker("c", engine(tmp_path, said), tmp_path / "s", Scripts(None))
    handles = [Handle("c", "ws", nonce, job="x") for nonce in (running, damaged, killed)]
    for _ in range(2):
        seen = await asyncio.gather(*map(place.query, handles))
        assert [(one.seen, one.exit_status) for one in seen] == [
            (Seen.RUNNING, None),
            (Seen.GONE, None),
            (Seen.GONE, 137),
        ]
        assert seen[1].reason.startswith("its container has ended, and ")
        place._survey._interval = 0.0
    assert calls(tmp_path).count("container") == 3, "together, and then each by itself, once"
    await place.cancel(handles[0])
    await place.aclose()


async def test_what_engine_it_is_may_change(tmp_path, monkeypatch):
    own = Person("gate", 12345, 12345)
    monkeypatch.setattr(docker.os, "geteuid", lambda: own.uid)
    monkeypatch.setattr(docker, "_person", lambda user, may_be_root: own)
    monkeypatch.setattr(docker, "ENGINE_INTERVAL", 0.0)
    info = tmp_path / "info"
    place = Docker("c", engine(tmp_path, f"[ $1 != info ] || cat {info}"), tmp_path / "s", Scripts(None))

    async def namespaces(nonce, said):
        info.write_text(said)
        await place.submit(dataclasses.replace(SPEC, nonce=nonce))
        return "--userns=keep-id" in (tmp_path / "calls").read_text().splitlines()[-1]

    for nonsense in ("Emulate Docker CLI using podman.", "[]"):
        with pytest.raises(LaunchError, match="engine info: this is no JSON object: .*; is it Docker or Podman"):
            await namespaces("0" * 16, nonsense)
    assert await namespaces("1" * 16, '{"host": {"security": {"rootless": true}}}')
    assert not await namespaces("2" * 16, '{"SecurityOptions": []}')
    await place.aclose()


async def test_a_start_that_a_gate_did_not_wait_for_is_the_next_ones(tmp_path):
    there = tmp_path / "there"
    said = (
        f"case $1 in run) touch {there}; exec sleep 100;; ps) [ ! -e {there} ] || echo vncgate-{SPEC.nonce} running;;"
    )
    settings = engine(tmp_path, f"{said} rm) rm {there}; esac")
    place = Docker("c", settings, tmp_path / "s", Scripts(None))
    starting = asyncio.create_task(place.submit(SPEC))
    async with asyncio.timeout(20):
        while not there.exists():
            await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await place.aclose()
    assert calls(tmp_path) == ["run"], "a gate that ends does not wait for an engine"
    place = Docker("c", settings, tmp_path / "s", Scripts(None))
    handle = Handle("c", SPEC.account, SPEC.nonce)
    assert (await place.query(handle)).seen is Seen.RUNNING
    await place.cancel(handle)
    assert list((tmp_path / "s").iterdir()) == []
    await place.aclose()


async def test_an_engine_does_not_speak_to_systemd_for_the_gate(tmp_path, monkeypatch):
    """Podman tells NOTIFY_SOCKET that a container's process is the service's (podman-run(1): --sdnotify)."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("CONTAINER_HOST", "unix:///run/engine.sock")
    place = Docker("c", engine(tmp_path, f"env >>{tmp_path}/seen"), tmp_path / "s", Scripts(None))
    await place.submit(SPEC)
    seen = (tmp_path / "seen").read_text()
    assert "CONTAINER_HOST=unix:///run/engine.sock" in seen, "what engines read of themselves stays"
    assert "NOTIFY_SOCKET" not in seen
    await place.aclose()


async def test_an_engine_that_talks_without_end_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr("vncgate.process.LONGEST_OUTPUT", 1000)
    monkeypatch.setattr("vncgate.process.MEASURE", 0.02)
    place = Docker("c", engine(tmp_path, "exec yes"), tmp_path / "s", Scripts(None))
    seen = await place.query(Handle("c", "ws01", "0123456789abcdef", job="x"))
    assert seen.seen is Seen.UNKNOWN
    assert "ps: it answers with more than" in seen.reason
    await place.aclose()


async def test_a_container_that_was_just_started_is_not_looked_for_in_an_old_answer(tmp_path, monkeypatch):
    there = tmp_path / "there"
    said = f"case $1 in run) touch {there};; ps) [ ! -e {there} ] || echo vncgate-{SPEC.nonce} running; esac"
    place = Docker("c", engine(tmp_path, said), tmp_path / "s", Scripts(None))
    assert (await place.query(Handle("c", "ws02", "f" * 16, job="x"))).seen is Seen.GONE
    place._survey._interval = 2.0
    assert (await place.query(await place.submit(SPEC))).seen is Seen.RUNNING
    await place.aclose()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("desktop:1", ": `ENGINE pull desktop:1` brings it, or `ENGINE load --input FILE`"),
        ("localhost/desktop:1", ": build it there, or bring it with `ENGINE load --input FILE`"),
    ],
)
async def test_an_image_that_is_missing_is_named_with_what_brings_it(tmp_path, image, words):
    settings = engine(tmp_path, "case $1 in run) exit 125;; image) exit 1; esac")
    spec = dataclasses.replace(SPEC, kind=SPEC.kind.model_copy(update={"image": image}))
    place = Docker("c", settings, tmp_path / "s", Scripts(None))
    with pytest.raises(LaunchError) as error:
        await place.submit(spec)
    assert str(error.value) == f"the image {image} is not on this host" + words.replace("ENGINE", settings.command[0])
    assert list((tmp_path / "s").iterdir()) == []
    await place.aclose()


async def test_nobodys_desktop_is_roots_unless_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for user in ("", "root"):
        place = Docker("c", DockerPlace(type="docker", user="{account}"), tmp_path / "s", Scripts(None))
        with pytest.raises(LaunchError, match="desktops do not run as root"):
            await place.submit(dataclasses.replace(SPEC, user=user))
    assert not (tmp_path / "s").exists()


async def test_the_list_of_users_is_where_its_user_cannot_put_another_file(tmp_path, monkeypatch):
    other = Person("ws01", 12345, 12345)

    async def persons(user):
        return other, None

    place = Docker("c", engine(tmp_path, ""), tmp_path / "s", Scripts(None))
    monkeypatch.setattr(place, "_persons", persons)
    handle = await place.submit(SPEC)
    listed = tmp_path / "s" / f"{SPEC.nonce}.users"
    assert f"source={listed},target=/etc/passwd,readonly" in (tmp_path / "calls").read_text().replace("\\", "")
    assert "ws01:x:12345:12345:" in listed.read_text()
    await place.cancel(handle)
    assert list((tmp_path / "s").iterdir()) == []
    await place.aclose()


async def test_an_engine_that_fails_or_hangs_ends_nothing(tmp_path, monkeypatch):
    handle = Handle("c", "ws01", "0123456789abcdef", job="x")
    place = Docker("c", engine(tmp_path, "echo cannot connect >&2; exit 1"), tmp_path / "s", Scripts(None))
    seen = await place.query(handle)
    assert seen.seen is Seen.UNKNOWN
    assert seen.reason.endswith("ps ended with exit status 1: cannot connect")
    monkeypatch.setattr(docker, "PATIENCE", 0.2)
    engine(tmp_path, "exec sleep 100")
    place._survey._interval = 0.0
    seen = await place.query(handle)
    assert seen.seen is Seen.UNKNOWN
    assert seen.reason.endswith("ps does not answer within 0.2 s")
    await place.aclose()


async def test_an_engine_that_hangs_at_a_start_may_have_made_it(tmp_path, monkeypatch):
    monkeypatch.setattr(docker, "WORK_TIMEOUT", 0.3)
    place = Docker("c", engine(tmp_path, "[ $1 != run ] || exec sleep 100"), tmp_path / "s", Scripts(None))
    handle = await place.submit(SPEC)
    assert handle.job == ""
    assert (await place.query(handle)).seen is Seen.RUNNING
    await place.cancel(handle)
    assert (await place.query(handle)).seen is Seen.GONE
    await place.aclose()


async def test_an_engine_that_cannot_be_reached_leaves_no_files(tmp_path):
    place = Docker("c", engine(tmp_path, "echo cannot connect >&2; exit 125"), tmp_path / "s", Scripts(None))
    with pytest.raises(SilentError, match="cannot connect"):
        await place.submit(SPEC)
    assert list((tmp_path / "s").iterdir()) == []
    await place.aclose()


async def test_a_container_that_does_not_go_is_told(tmp_path):
    said = "case $1 in ps) echo vncgate-0123456789abcdef running;; rm) echo busy >&2; exit 1;; esac"
    place = Docker("c", engine(tmp_path, said), tmp_path / "s", Scripts(None))
    with pytest.raises(LaunchError, match="does not remove vncgate-0123456789abcdef: busy"):
        await place.cancel(Handle("c", "ws01", "0123456789abcdef"))
    await place.aclose()


async def test_another_that_goes_between_two_questions_keeps_none_from_being_ended(tmp_path):
    """It is listed, and then the engine knows nothing of it."""
    said = "case $1 in ps) echo vncgate-0000000000000001 exited;; container) echo no such container >&2; exit 125; esac"
    place = Docker("c", engine(tmp_path, said), tmp_path / "s", Scripts(None))
    await place.cancel(Handle("c", "ws01", "0123456789abcdef"))
    seen = await place.query(Handle("c", "ws02", "0000000000000001", job="x"))
    assert (seen.seen, seen.exit_status) == (Seen.GONE, None)
    assert seen.reason.endswith("engine does not tell how")
    await place.aclose()


async def test_one_that_may_be_about_to_be_is_not_started_twice(tmp_path, monkeypatch):
    place = Docker("c", engine(tmp_path, ""), tmp_path / "s", Scripts(None))
    handle = Handle("c", "ws01", "0123456789abcdef")
    (tmp_path / "s" / handle.nonce).mkdir(parents=True)
    assert (await place.query(handle)).seen is Seen.RUNNING, "its daemon may have been killed before it knew"
    known = await place.query(dataclasses.replace(handle, job="42"))
    assert (known.seen, known.reason) == (Seen.GONE, "its container was removed from outside")
    monkeypatch.setattr(docker, "ABOUT_TO_BE", -1.0)
    assert (await place.query(handle)).seen is Seen.GONE
    await place.aclose()


async def test_a_talkative_session_does_not_fill_the_disk(tmp_path):
    place = Docker("c", engine(tmp_path, "echo vncgate-0123456789abcdef running"), tmp_path / "s", Scripts(None))
    handle = Handle("c", "ws01", "0123456789abcdef")
    folder = tmp_path / "s" / handle.nonce
    folder.mkdir(parents=True)
    (folder / "log").write_bytes(b"first\n" + bytes(3 << 20) + b"\nlast\n")
    await place.query(handle)
    assert (folder / "log").stat().st_size < 1 << 20
    assert await place.logs(handle, 1) == "last\n"
    (folder / "log").unlink()
    (tmp_path / "another").write_bytes(bytes(3 << 20))
    (folder / "log").symlink_to(tmp_path / "another")
    await place.query(handle)
    assert (tmp_path / "another").stat().st_size == 3 << 20
    await place.aclose()


# On a real engine


@pytest.mark.real
async def test_one_that_is_killed_from_outside_is_gone_with_words(docker_site, podman):
    _, handle, _ = await docker_site.start()
    podman.run("kill", f"vncgate-{handle.nonce}")
    seen = await docker_site.gone(handle)
    assert (seen.reason, seen.exit_status) == ("its container was killed from outside (SIGKILL)", 137)
    podman.run("rm", f"vncgate-{handle.nonce}")
    await docker_site.until(handle, lambda seen: seen.reason == "its container was removed from outside")


@pytest.mark.real
async def test_an_image_that_is_missing_is_named_and_leaves_nothing(docker_site, podman):
    spec = docker_site.spec(image="nonesuch:1")
    with pytest.raises(LaunchError) as error:
        await docker_site.submit(spec)
    assert f"the image nonesuch:1 is not on this host: `{podman.command} pull nonesuch:1` brings it" in str(error.value)
    assert docker_site.left(spec.nonce) == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("kind", "words"), [({"binds": ["/nonesuch"]}, "nonesuch"), ({"extra": ["--nonesuch"]}, "unknown flag: --nonesuch")]
)
async def test_what_an_engine_refuses_is_told_in_its_words_and_leaves_nothing(docker_site, kind, words):
    spec = docker_site.spec(**kind)
    with pytest.raises(LaunchError, match=words):
        await docker_site.submit(spec)
    assert docker_site.left(spec.nonce) == []


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start desktops as others")
async def test_as_another_user_with_a_home_folder_that_is_made(docker_site, podman, short_folder):
    short_folder.chmod(0o755)
    home = short_folder / "homes" / "ws01"
    command = ["sh", "-c", "id -un >who; echo $HOME >>who; exec xterm"]
    spec = docker_site.spec(*command, home=str(home), window_manager="openbox")
    _, handle, seen = await docker_site.start_of(dataclasses.replace(spec, user="nobody"))
    await log_in(seen)
    async with asyncio.timeout(20):
        while not (home / "who").exists() or (home / "who").read_text().count("\n") < 2:
            await asyncio.sleep(0.05)
    assert (home / "who").read_text() == f"nobody\n{home}\n"
    assert home.stat().st_mode & 0o777 == 0o700
    assert home.owner() == "nobody"
    about = json.loads(podman.run("inspect", f"vncgate-{handle.nonce}"))[0]
    assert about["Config"]["Labels"] == {"vncgate.account": "ws01", "vncgate.nonce": handle.nonce}
    assert spec.password.reveal() not in json.dumps(about)


@pytest.mark.real
async def test_without_a_home_it_has_one_that_goes_with_it(docker_site):
    spec, handle, _ = await docker_site.start("sh", "-c", "pwd >&2; exec sleep 1000", home="")
    async with asyncio.timeout(20):
        while "home" not in await docker_site.place.logs(handle):
            await asyncio.sleep(0.05)
    assert (docker_site.root / spec.nonce / "home").is_dir()
    await docker_site.place.cancel(handle)
    assert docker_site.left(spec.nonce) == []


@pytest.mark.real
async def test_several_at_once_are_apart(docker_site):
    started = await asyncio.gather(*(docker_site.start() for _ in range(3)))
    assert len({seen.desktop.unix for _, _, seen in started}) == 3
    await asyncio.gather(*(log_in(seen) for _, _, seen in started))
