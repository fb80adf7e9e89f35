"""Images brought to hosts: what is meant, on a real sshd, and what is left when it does not come to its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.real.sshd import Sshd
from vncgate import images
from vncgate.cli import main
from vncgate.errors import LaunchError
from vncgate.images import Delivery
from vncgate.kinds import DesktopsSettings


@pytest.fixture(scope="module")
def sshd():
    folder = Path(tempfile.mkdtemp(prefix="vg-"))
    with Sshd(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def delivery(tmp_path):
    source = tmp_path / "xfce.sif"
    source.write_bytes(os.urandom(3 << 20))
    source.chmod(0o640)
    return Delivery(source, str(tmp_path / "far 'side'/im$ages/xfce.sif"), "lab", source.stat().st_size)


async def bring(delivery, place):
    seen, words = {}, {}
    failed = await images.deploy(delivery, place, progress=seen.__setitem__, done=words.__setitem__)
    return failed, words, seen


@pytest.mark.real
async def test_an_image_comes_whole_and_only_where_it_is_not(sshd, delivery):
    host = "127.0.0.1"
    target = Path(delivery.path)
    assert await bring(delivery, sshd.place()) == ({}, {host: "copied"}, {host: delivery.size})
    assert target.read_bytes() == delivery.source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o640
    inode = target.stat().st_ino
    assert await bring(delivery, sshd.place()) == ({}, {host: "has it already"}, {host: delivery.size})
    assert target.stat().st_ino == inode
    delivery.source.write_bytes(b"another")
    assert (await bring(delivery, sshd.place()))[1] == {host: "copied"}
    assert target.read_bytes() == b"another"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.real
async def test_each_host_says_what_is_wrong_with_it(sshd, delivery):
    failed, words, _ = await bring(delivery, sshd.place(hosts="127.0.0.[1-2]"))
    assert words == {"127.0.0.1": "copied"}
    assert list(failed) == ["127.0.0.2"]
    assert "no ssh connection to 127.0.0.2" in failed["127.0.0.2"]
    blocked = Delivery(delivery.source, f"{delivery.source}/xfce.sif", "lab", delivery.size)
    failed, _, _ = await bring(blocked, sshd.place())
    assert f"{delivery.source}" in failed["127.0.0.1"], "what mkdir says"


@pytest.mark.real
@pytest.mark.parametrize("how", ["the connection is lost", "we are interrupted"])
async def test_what_did_not_come_to_its_end_leaves_no_half_file(sshd, delivery, how):
    old = Path(delivery.path)
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    delivery.source.write_bytes(bytes(64 << 20))
    begun = asyncio.Event()
    work = asyncio.create_task(
        images.deploy(delivery, sshd.place(), progress=lambda host, count: begun.set(), done=lambda host, words: None)
    )
    await begun.wait()
    if how == "we are interrupted":
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    else:
        sshd.cut()
        assert "lost" in (await work)["127.0.0.1"]
    async with asyncio.timeout(20):
        while len(list(old.parent.iterdir())) > 1:
            await asyncio.sleep(0.05)
    assert old.read_bytes() == b"old"


@pytest.mark.real
async def test_a_source_that_cannot_be_read_is_named(sshd, delivery, monkeypatch):
    unreadable = Delivery(Path("/proc/self/mem"), delivery.path, "lab", 0)
    with pytest.raises(LaunchError, match="^/proc/self/mem: Input/output error$"):
        await bring(unreadable, sshd.place())
    monkeypatch.setattr(images, "_digest", lambda path: "0" * 64)  # it could be read until then
    failed, _, _ = await bring(unreadable, sshd.place())
    assert failed == {"127.0.0.1": "/proc/self/mem: Input/output error"}


def settings(tmp_path, **more):
    return DesktopsSettings(
        kinds={
            "xfce": {"command": "x", "wrap": "apptainer", "image": str(tmp_path / "opt/xfce.sif"), "place": "lab"},
            "other": {"command": "x", "wrap": "apptainer", "image": "/opt/other.sif", "place": "lab"},
            "plain": {"command": "x", "place": "lab"},
            "boxed": {"command": "x", "image": "xfce:1", "place": "engine"},
        },
        places={
            "lab": {"type": "ssh", "hosts": "n[1-2]"},
            "share": {"type": "slurm", "folder": "/scratch"},
            "engine": {"type": "docker"},
        },
        **more,
    )


def test_a_kind_or_a_file_with_the_name_of_its_image(tmp_path):
    path = tmp_path / "opt/xfce.sif"
    path.parent.mkdir()
    path.write_bytes(b"image")
    assert images.plan(settings(tmp_path), "xfce", "") == Delivery(path, str(path), "lab", 5)
    assert images.plan(settings(tmp_path), "xfce", "share").place == "share"
    fresh = tmp_path / "xfce.sif"
    fresh.write_bytes(b"newer one")
    assert images.plan(settings(tmp_path), str(fresh), "") == Delivery(fresh, str(path), "lab", 9)


@pytest.mark.parametrize(
    ("wanted", "place", "words"),
    [
        ("xfce", "", "opt/xfce.sif is not there"),
        ("nonesuch", "", "which kind's image is it"),
        ("folder/xfce.sif", "", "is a folder; `apptainer build` makes"),
        ("other.sif", "nowhere", "there is no place 'nowhere'"),
        ("nosuch/other.sif", "", "nosuch/other.sif is not there"),
        ("plain", "", 'kind plain: it has no wrap = "apptainer", so there is no image to bring'),
        ("boxed", "", "place engine: it has images of its own; `podman pull` brings them"),
        ("xfce", "engine", "place engine: it has images of its own"),
    ],
)
def test_what_cannot_be_meant(tmp_path, monkeypatch, wanted, place, words):
    monkeypatch.chdir(tmp_path)
    Path("folder/xfce.sif").mkdir(parents=True)
    Path("other.sif").touch()
    with pytest.raises(LaunchError, match=words):
        images.plan(settings(tmp_path), wanted, place)


@pytest.mark.real
def test_the_command(sshd, delivery, tmp_path, capsys):
    place = sshd.place()
    config = tmp_path / "vncgate.toml"
    config.write_text(f"""
[desktops.kinds.xfce]
command = "startxfce4"
wrap = "apptainer"
image = '''{delivery.path}'''
place = "lab"
[desktops.places.lab]
type = "ssh"
hosts = "{place.hosts}"
port = {place.port}
key = "{place.key}"
known_hosts = "{place.known_hosts}"
[desktops.places.shared]
type = "slurm"
folder = "{tmp_path}"
""")
    argv = ["images", "deploy", str(delivery.source), "--config", str(config)]
    assert main(argv) == 0
    assert capsys.readouterr().out == "127.0.0.1: copied\n"
    assert main([*argv, "--place", "shared"]) == 0
    assert capsys.readouterr().out == f"{delivery.path}: has it already\n"
    Path(delivery.path).write_bytes(b"old")
    assert main([*argv, "--place", "shared"]) == 0
    assert Path(delivery.path).read_bytes() == delivery.source.read_bytes()
    place.known_hosts.rename(f"{place.known_hosts}.away")
    try:
        assert main(argv) == 1
    finally:
        Path(f"{place.known_hosts}.away").rename(place.known_hosts)
    assert "127.0.0.1: the key of 127.0.0.1 is not in" in capsys.readouterr().err
