"""Desktops of a real Slurm cluster that the gate reaches by ssh alone: its nodes, and its commands."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from tests.launchers.places import Site, log_in
from tests.real.conftest import need
from tests.real.slurm import Cluster
from tests.real.sshd import Sshd
from vncgate.errors import DesktopError, LaunchError, SilentError
from vncgate.launchers import lines
from vncgate.launchers.base import Seen
from vncgate.launchers.scripts import Scripts
from vncgate.launchers.slurm import Slurm

pytestmark = pytest.mark.real

need("Xvnc", "slurmctld", "slurmd", "sbatch", "squeue", "munged", "sshd")
HOSTILE = 'o\'neil "the" $(touch pwned) %j #  ü'


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def sshd(cluster):
    with Sshd(Path(tempfile.mkdtemp(prefix="vg-", dir=cluster.root))) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def server(sshd):
    """It is there before a test is: what it is made of is not counted as left behind."""


@pytest_asyncio.fixture
async def make_site(cluster, sshd):
    homes = Path(tempfile.mkdtemp(prefix="vg-"))
    made = []

    def make(**settings):
        its = sshd.place()
        place = cluster.place(**{"port": its.port, "key": its.key, "known_hosts": its.known_hosts} | settings)
        made.append(Site(lambda: Slurm("hpc", place, homes / "gate", Scripts(None)), place.folder, homes))
        return made[-1]

    yield make
    for site in made:
        await site.aclose()
    assert list((homes / "gate").glob("*")) == [], "no socket is left"
    shutil.rmtree(homes)


def listening(port: int) -> set[str]:
    """The addresses, as the kernel writes them, on which somebody listens at `port` (proc(5), /proc/net/tcp)."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:] + Path("/proc/net/tcp6").read_text().splitlines()[1:]
    states = [(row.split()[1].split(":"), row.split()[3]) for row in rows]
    return {address for (address, its), state in states if state == "0A" and int(its, 16) == port}


LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


@pytest.mark.parametrize("login", ["", "{me}@127.0.0.1"])
async def test_a_desktop_is_reached_through_ssh(cluster, make_site, sshd, login, monkeypatch):
    monkeypatch.setattr(lines, "REST", 0.2)
    site = make_site(reach="ssh", login=login.format(me=getpass.getuser()))
    spec, handle, seen = await site.start()
    assert Path(seen.desktop.unix).parent.stat().st_mode & 0o777 == 0o700
    assert (await log_in(seen)).name == spec.account
    port = int((site.root / handle.nonce / "report").read_text().split()[-1])
    assert bool(listening(port) - LOOPBACK) == bool(login), "through the node itself nobody else gets there"

    sshd.cut()
    with pytest.raises(DesktopError):
        await log_in(seen)
    assert site.left(spec.nonce), "a lost connection ends nothing"
    again = await site.until(handle, lambda seen: seen.seen is Seen.RUNNING and seen.desktop)
    await log_in(again)

    await site.place.cancel(handle)
    assert not Path(seen.desktop.unix).exists()
    assert site.left(spec.nonce) == []


async def test_several_desktops_of_a_node_share_a_connection_and_are_apart(make_site, sshd):
    site = make_site(reach="ssh")
    specs = [site.spec(account=f"ws{number}", cores=1, memory="100M") for number in range(4)]
    before = sshd.log.count("Accepted publickey")
    handles = await asyncio.gather(*map(site.submit, specs))
    seen = await asyncio.gather(*map(site.serving, handles))
    assert [(await log_in(one)).name for one in seen] == [spec.account for spec in specs]
    assert sshd.log.count("Accepted publickey") - before == 1


async def test_without_commands_of_its_own(cluster, make_site, sshd, monkeypatch):
    """The gate's host has none; a folder with a hostile name is shared."""
    monkeypatch.setenv("PATH", "/nonexistent")
    site = make_site(submit_host="127.0.0.1", reach="ssh", folder=cluster.shared / HOSTILE)
    calls = cluster.calls("squeue")
    spec, handle, seen = await site.start("sh", "-c", "echo hello; exec sleep 1000", account=HOSTILE)
    assert (await log_in(seen)).name == HOSTILE
    assert cluster.calls("squeue") > calls
    with pytest.raises(LaunchError) as error:
        await site.submit(site.spec(partition="no such"))
    assert str(error.value) == "Slurm refused the job: there is no such partition"

    # The daemon was killed before it heard the job's number: it is found by who submitted it there.
    await site.place.aclose()
    site.place = site.make()
    unfinished = type(handle)("hpc", handle.account, handle.nonce, user=handle.user)
    assert (await site.serving(unfinished)).seen is Seen.RUNNING

    await site.place.cancel(handle)
    assert site.left(spec.nonce) == []
    assert not list(cluster.root.rglob("pwned"))


async def test_a_submit_host_without_them_or_that_is_down(cluster, make_site, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "REST", 0.0)
    site = make_site(submit_host="127.0.0.1", commands=cluster.root / "nonesuch")
    with pytest.raises(LaunchError, match=r"sbatch cannot be run on 127\.0\.0\.1: set `commands` to its folder there"):
        await site.submit(site.spec())
    with Sshd(tmp_path) as sshd:
        site = make_site(submit_host="127.0.0.1", port=sshd.port, key=sshd.key, known_hosts=sshd.known_hosts)
        handle = await site.submit(site.spec())
        sshd.cut()
        sshd.stop()
        lost = await site.until(handle, lambda seen: seen.reason.startswith("no ssh connection to 127.0.0.1"))
        assert lost.seen is Seen.UNKNOWN
        with pytest.raises(SilentError):
            await site.submit(site.spec())
        sshd.start()
        await site.serving(handle)
        await site.place.cancel(handle)


async def test_who_runs_the_command_there_is_asked_of_the_host(make_site):
    site = make_site(submit_host="127.0.0.1")
    assert await site.place._transport.whoami() == getpass.getuser()
