"""Tests of vncgate.launchers.apptainer: commands from commands, and what becomes of them."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest

from tests.launchers.places import log_in
from vncgate.kinds import Kind
from vncgate.launchers.apptainer import commands

HOSTILE = 'o\'neil, "the" $(touch pwned) `touch pwned` \\ \n; touch pwned # *'
SESSION = ["bash", "/run/vg/n/desktop.sh"]


def kind(**more) -> Kind:
    return Kind(**{"command": "xterm", "wrap": "apptainer", "image": "/opt/xfce.sif", **more})


def arguments(command: list[str]) -> list[str]:
    """What a shell program is given."""
    assert command[:2] == ["sh", "-c"]
    return command[4:]


def test_the_plain_one():
    check, work, start = commands(SESSION, kind(), "/run/vg/n", "", "ws01")
    assert arguments(check) == ["/opt/xfce.sif"]
    assert work == ["mkdir", "-p", "--", "/run/vg/n/work"]
    assert arguments(start) == [
        *("--containall", "--workdir", "/run/vg/n/work"),
        *("--mount", "type=bind,src=/run/vg/n,dst=/run/vg/n"),
        *("/opt/xfce.sif", *SESSION),
    ]
    assert "--home" in start[2], "the user's own"


def test_all_that_a_kind_can_say():
    full = kind(binds=["/data:/data:ro", "/s/{account}"], overlay="/s/{account}.img", nvidia=True, contain=False)
    _, home, overlay, start = commands(SESSION, full, "/f", "/scratch/ws01", "ws01")
    assert home == ["mkdir", "-p", "--", "/scratch/ws01"]
    assert arguments(overlay) == ["/s/ws01.img", "1024"]
    assert arguments(start) == [
        *("--nv", "--overlay", "/s/ws01.img"),
        *("--mount", "type=bind,src=/f,dst=/f"),
        *("--mount", "type=bind,src=/data,dst=/data,ro"),
        *("--mount", "type=bind,src=/s/ws01,dst=/s/ws01"),
        *("--mount", "type=bind,src=/scratch/ws01,dst=/scratch/ws01"),
        *("/opt/xfce.sif", *SESSION),
    ]
    assert "--home" not in start[2]


def test_hostile_values_are_arguments_and_never_in_the_programs():
    hostile = kind(image=f"/i/{HOSTILE}", overlay="/o/{account}", binds=["/b/{account}:/c"])
    made = commands(SESSION, hostile, f"/f/{HOSTILE}", f"/h/{HOSTILE}", HOSTILE)
    for command in made:
        if command[0] == "sh":
            assert HOSTILE not in command[2]
    words = arguments(made[-1])
    assert words[-3:] == [f"/i/{HOSTILE}", *SESSION]
    mounts = [words[at + 1] for at, word in enumerate(words) if word == "--mount"]
    assert [next(csv.reader(mount.splitlines(keepends=True), strict=True)) for mount in mounts] == [
        ["type=bind", f"src=/{source}/{HOSTILE}", f"dst={target}"]
        for source, target in (("f", f"/f/{HOSTILE}"), ("b", "/c"), ("h", f"/h/{HOSTILE}"))
    ]


# With a real Apptainer


@pytest.mark.real
async def test_an_image_that_is_missing_is_named(apptainer_site):
    handle = await apptainer_site.submit(apptainer_site.spec(image="/nonesuch/x.sif"))
    seen = await apptainer_site.gone(handle)
    assert f"The image /nonesuch/x.sif is missing on {os.uname().nodename}" in seen.said


@pytest.mark.real
async def test_a_host_without_apptainer_says_so(local_site, desktop_tree):
    if any(os.access(f"{folder}/apptainer", os.X_OK) for folder in os.environ["PATH"].split(":")):
        pytest.skip("this host has Apptainer")
    handle = await local_site.submit(local_site.spec(wrap="apptainer", image=str(desktop_tree)))
    assert "There is no apptainer on" in (await local_site.gone(handle)).said


@pytest.mark.real
@pytest.mark.parametrize("contain", [True, False])
async def test_inside_is_the_image_and_what_is_bound(apptainer_site, short_folder, contain):
    (short_folder / "data").mkdir()
    (short_folder / "data/file").write_text("seen\n")
    script = "cat /data/file; touch /data/new || echo may not; ls -d /usr/lib/apt 2>&1; echo end"
    spec, handle, seen = await apptainer_site.start(
        "sh", "-c", f"({script}) >seen; exec sleep 1000", contain=contain, binds=[f"{short_folder}/data:/data:ro"]
    )
    await log_in(seen)
    path = apptainer_site.homes / spec.home / "seen"
    await apptainer_site.until(handle, lambda _: path.exists() and "end" in path.read_text())
    lines = path.read_text().splitlines()
    assert lines[:2] == ["seen", "may not"]
    assert not (short_folder / "data/new").exists()


@pytest.mark.real
async def test_an_overlay_is_made_when_it_is_missing_and_kept(apptainer_site, apptainer_path, short_folder):
    path = short_folder / "ws01.img"
    more = {"overlay": f"{short_folder}/{{account}}.img", "overlay_size": 64}
    probe = ["apptainer", "exec", "--overlay", path, apptainer_site.extra["image"], "true"]
    handle = await apptainer_site.submit(apptainer_site.spec(**more))
    await apptainer_site.until(handle, lambda seen: seen.desktop or seen.seen == "gone")
    assert path.stat().st_size == 64 << 20
    assert path.stat().st_blocks * 512 < 16 << 20, "sparse"
    assert [each.name for each in short_folder.glob("*.img*")] == ["ws01.img"]
    made = path.stat().st_ino
    usable = subprocess.run(probe, capture_output=True, text=True, env=dict(os.environ))
    await apptainer_site.place.cancel(handle)
    if usable.returncode:
        return  # not every machine for tests may mount it
    _, handle, _ = await apptainer_site.start(**more)
    assert path.stat().st_ino == made


@pytest.fixture(scope="module")
def parts(apptainer_path, slurm_cluster, sshd):
    """What outlives a test, set up before any of them."""


@pytest.fixture(params=["slurm", "ssh"])
def elsewhere(parts, request):
    """A place of other hosts."""
    return request.getfixturevalue(f"apptainer_{request.param}_site")


@pytest.mark.real
async def test_on_other_hosts(elsewhere, short_folder):
    site = elsewhere
    command = ["sh", "-c", "echo $APPTAINER_NAME >seen; exec xterm"]
    spec, handle, seen = await site.start(*command, window_manager="openbox", binds=[f"{short_folder}:/data"])
    await log_in(seen)
    path = short_folder / spec.home / "seen"
    await site.until(handle, lambda _: path.exists() and path.read_text())
    assert path.read_text() == f"{Path(site.extra['image']).name}\n"
    await site.place.cancel(handle)
    assert site.left(spec.nonce) == []
    handle = await site.submit(site.spec(image="/nonesuch/x.sif"))
    await site.gone(handle)
    assert "The image /nonesuch/x.sif is missing on" in await site.place.logs(handle)
    await site.place.cancel(handle)
    assert site.left(handle.nonce) == []
