"""Every place as its contract's suite (test_contract.py) needs it. A new one is a fixture here, and a line in PLACES.

A fixture gives a Site: a place for real, in a folder of the test's own, and what the suite must know about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from tests.once import once, shared_folder
from tests.real import apptainer, image
from tests.real.conftest import need
from tests.real.gate import ME
from tests.real.podman import IMAGE, Podman
from tests.real.slurm import Cluster
from tests.real.sshd import Sshd
from vncgate import probe
from vncgate.kinds import Kind, LocalPlace
from vncgate.launchers import docker
from vncgate.launchers.base import Handle, Place, Seen, Sighting, Spec
from vncgate.launchers.docker import Docker
from vncgate.launchers.local import Local
from vncgate.launchers.scripts import Scripts
from vncgate.launchers.slurm import Slurm
from vncgate.launchers.ssh import Ssh
from vncgate.model import Secret

PLACES = {
    "local_site": None,
    "ssh_site": "sshd",
    "ssh_direct_site": "sshd",
    "slurm_site": "slurm_cluster",
    "slurm_rest_site": "slurm_cluster",
    "docker_site": "podman",
    "apptainer_site": "apptainer_path",
}
"""The fixture of each Site, and the one of a wider scope that it takes what it runs on from."""

PASSWORD = Secret(f"'\"$(\\%{secrets.token_hex(1)}")
"""Hostile, and not that of tests that run beside these: one of theirs may get a port that ours has left."""
PATIENCE = 30.0
"""Seconds until what does not happen fails a test."""


@dataclass
class Site:
    """A place under test.

    `make` gives another object for the same place, as a restarted daemon makes it. `root` is where its sessions'
    folders are, `homes` where homes can be made; `extra` is what a kind of this place needs beside its command.
    """

    make: Callable[[], Place]
    root: Path
    homes: Path
    host: str = ""
    extra: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.place = self.make()
        self.handles: list[Handle] = []
        self._number = 0
        self._displays: dict[str, dict[Path, tuple[int, int] | None]] = {}

    def spec(self, *command: str, account: str = "ws01", home: str | None = None, **more) -> Spec:
        """A desktop with `command` as its session, or one that only stays."""
        self._number += 1
        nonce = f"{os.urandom(6).hex()}{self._number:04d}"
        kind = Kind(**{"command": command or ("sleep", "1000"), **self.extra, **more})
        home = str(self.homes / f"home{self._number}") if home is None else home
        return Spec(account, nonce, self.host, kind, PASSWORD, user=ME, home=home)

    async def submit(self, spec: Spec) -> Handle:
        handle = await self.place.submit(spec)
        self.handles.append(handle)
        return handle

    async def until(self, handle: Handle, condition: Callable[[Sighting], object]) -> Sighting:
        """Ask until what is seen is as it should be."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = await self.place.query(handle)
            if condition(seen):
                return seen
            assert time.monotonic() < deadline, f"waited in vain: {seen}\n{await self.place.logs(handle)}"
            await asyncio.sleep(0.05)

    async def serving(self, handle: Handle) -> Sighting:
        """Wait until it serves."""
        seen = await self.until(handle, lambda seen: seen.desktop or seen.seen is Seen.GONE)
        assert seen.seen is Seen.RUNNING, f"{seen}\n{await self.place.logs(handle)}"
        for folder in temporary(handle.nonce):
            number = (folder / "number").read_text().strip()
            files = Path(f"/tmp/.X11-unix/X{number}"), Path(f"/tmp/.X{number}-lock")
            self._displays[handle.nonce] = {path: identity(path) for path in files}
        return seen

    async def gone(self, handle: Handle) -> Sighting:
        """Wait until it is gone."""
        return await self.until(handle, lambda seen: seen.seen is Seen.GONE)

    async def start(self, *command: str, **more) -> tuple[Spec, Handle, Sighting]:
        """A desktop that serves."""
        return await self.start_of(self.spec(*command, **more))

    async def start_of(self, spec: Spec) -> tuple[Spec, Handle, Sighting]:
        """That desktop, serving."""
        handle = await self.submit(spec)
        return spec, handle, await self.serving(handle)

    def fall(self, nonce: str) -> None:
        """The host of this desktop falls and comes back, with the files that were on its disk."""
        deadline = time.monotonic() + PATIENCE
        while there := processes(f"VNCGATE_DESKTOP={nonce}"):
            assert time.monotonic() < deadline, f"they do not end: {there}"
            for pid, _ in there:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        (self.root / nonce / "process").write_text(f"{os.getpid()} 1 another-boot\n")

    def left(self, nonce: str) -> list[str]:
        """What is there of a desktop: processes with its mark, and files; of one that served, its display's too."""
        found = [f"{pid}: {words}" for pid, words in processes(f"VNCGATE_DESKTOP={nonce}")]
        found += map(str, [*(path for path in [self.root / nonce] if path.exists()), *temporary(nonce)])
        display = self._displays.get(nonce, {})  # another desktop may have it by now
        return found + [str(path) for path, its in display.items() if its and identity(path) == its]

    async def aclose(self) -> None:
        await asyncio.gather(*map(self.place.cancel, self.handles))
        await self.place.aclose()


def processes(mark: str) -> list[tuple[int, str]]:
    """Processes that have `mark` in their environment, with their command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")))
    return found


def temporary(nonce: str) -> list[Path]:
    """The folders in /tmp that say that they are this desktop's."""
    found = []
    for path in Path("/tmp").glob("vncgate-*/desktop"):
        with contextlib.suppress(OSError):
            if path.read_text() == f"{nonce}\n":
                found.append(path.parent)
    return found


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one of the same name; None: there is none."""
    try:
        its = path.lstat()
    except FileNotFoundError:
        return None
    return its.st_ino, its.st_ctime_ns


async def log_in(seen: Sighting, password: Secret = PASSWORD):
    return await probe.login(seen.desktop, password, connect_timeout=10, timeout=10)


@pytest.fixture
def short_folder():
    """A folder with a short path: those of unix sockets must not be long."""
    path = Path(tempfile.mkdtemp(prefix="vg-"))
    yield path
    shutil.rmtree(path)


@pytest_asyncio.fixture
async def local_site(short_folder):
    need("Xvnc")
    root = short_folder / "local"
    site = Site(lambda: Local("local", LocalPlace(user=ME), root, Scripts(None)), root / ME, short_folder)
    yield site
    await site.aclose()


@pytest.fixture(scope="module")
def sshd():
    folder = Path(tempfile.mkdtemp(prefix="vg-"))
    with Sshd(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest_asyncio.fixture
async def ssh_site(sshd, short_folder):
    site = site_on(sshd, short_folder)
    yield site
    await site.aclose()


def site_on(server: Sshd, folder: Path) -> Site:
    """Desktops in the home folder of the user of `server`."""
    need("Xvnc")
    place = server.place()
    root = server.home / place.folder
    return Site(lambda: Ssh("ssh", place, folder / "gate", Scripts(None)), root, folder, "127.0.0.1")


@pytest_asyncio.fixture
async def ssh_direct_site(sshd, short_folder):
    need("Xvnc")
    root = short_folder / "sessions"
    place = sshd.place(reach="direct", folder=str(root))
    site = Site(lambda: Ssh("ssh", place, short_folder / "gate", Scripts(None)), root, short_folder, "127.0.0.1")
    yield site
    await site.aclose()


@pytest.fixture(scope="module")
def slurm_cluster():
    with Cluster() as cluster:
        cluster.start_rest()
        yield cluster


@pytest_asyncio.fixture
async def slurm_site(slurm_cluster, short_folder):
    need("Xvnc")
    place = slurm_cluster.place(user=ME)
    site = Site(lambda: Slurm("hpc", place, short_folder / "gate", Scripts(None)), slurm_cluster.shared, short_folder)
    yield site
    await site.aclose()


@pytest_asyncio.fixture
async def slurm_rest_site(slurm_cluster, short_folder):
    need("Xvnc")
    place = slurm_cluster.place("rest", user=ME)
    site = Site(lambda: Slurm("hpc", place, short_folder / "gate", Scripts(None)), slurm_cluster.shared, short_folder)
    yield site
    await site.aclose()


@pytest.fixture(scope="session")
def desktop_tree(tmp_path_factory):
    """A desktop's programs, as containers see them."""
    return once(shared_folder(tmp_path_factory) / "image", image.build)


@pytest.fixture(scope="session")
def podman(desktop_tree):
    folder = Path(tempfile.mkdtemp(prefix="vg-podman-"))
    engine = Podman(folder).start(desktop_tree)
    yield engine
    engine.stop()


class DockerSite(Site):
    """Of which a container may be left, too."""

    def left(self, nonce: str) -> list[str]:
        return (
            super().left(nonce) + self.podman.run("ps", "-a", "--filter=name=" + nonce, "--format={{.Names}}").split()
        )


@pytest_asyncio.fixture
async def docker_site(podman, short_folder, monkeypatch):
    monkeypatch.setattr(docker, "INTERVAL", 0.2)
    root = short_folder / "containers"
    site = DockerSite(
        lambda: Docker("docker", podman.place(), root, Scripts(None)), root, short_folder, extra={"image": IMAGE}
    )
    site.podman = podman
    yield site
    await site.aclose()


@pytest.fixture(scope="session")
def apptainer_path(desktop_tree, tmp_path_factory):
    """The folder of a program `apptainer`."""
    return apptainer.install(tmp_path_factory.mktemp("apptainer"))


@pytest_asyncio.fixture
async def apptainer_site(apptainer_path, desktop_tree, short_folder, monkeypatch):
    monkeypatch.setenv("PATH", str(apptainer_path), prepend=os.pathsep)
    root = short_folder / "local"
    extra = {"wrap": "apptainer", "image": str(desktop_tree)}
    site = Site(lambda: Local("local", LocalPlace(user=ME), root, Scripts(None)), root / ME, short_folder, extra=extra)
    yield site
    await site.aclose()


@pytest_asyncio.fixture
async def apptainer_slurm_site(apptainer_path, slurm_cluster, desktop_tree, short_folder, monkeypatch):
    monkeypatch.setenv("PATH", str(apptainer_path), prepend=os.pathsep)
    extra = {"wrap": "apptainer", "image": str(desktop_tree)}
    place = slurm_cluster.place(user=ME)
    make = lambda: Slurm("hpc", place, short_folder / "gate", Scripts(None))  # noqa: E731
    site = Site(make, slurm_cluster.shared, short_folder, extra=extra)
    yield site
    await site.aclose()


@pytest_asyncio.fixture
async def apptainer_ssh_site(apptainer_path, sshd, desktop_tree, short_folder):
    site = site_on(sshd, short_folder)
    site.extra = {"wrap": "apptainer", "image": str(desktop_tree)}
    (sshd.home / "bin").mkdir(exist_ok=True)
    (sshd.home / "bin" / "apptainer").symlink_to(apptainer_path / "apptainer")
    yield site
    (sshd.home / "bin" / "apptainer").unlink()
    await site.aclose()
