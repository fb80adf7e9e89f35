"""Desktops on a real Slurm cluster: a full one, a silent controller, dead nodes, other users, more than one cluster.

The contract of places is tested on it too: tests/launchers/test_contract.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pwd
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
import pytest_asyncio

from tests.launchers.places import Site, log_in, processes, temporary
from tests.real.conftest import need
from tests.real.slurm import Cluster
from vncgate.errors import LaunchError
from vncgate.launchers import slurm_jobs
from vncgate.launchers.base import Handle, Seen
from vncgate.launchers.scripts import Scripts
from vncgate.launchers.slurm import Slurm

pytestmark = pytest.mark.real

need("Xvnc", "slurmctld", "slurmd", "sbatch", "squeue", "munged", "slurmrestd")
NOBODY = pwd.getpwuid(65534)
HOSTILE = 'o\'neil "the" $(touch pwned) %j #  ü'


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=3, cpus=5) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def rest(cluster):
    cluster.start_rest()


@pytest.fixture(params=["commands", "rest"])
def transport(request, cluster):
    if request.param == "rest":
        request.getfixturevalue("rest")
    return request.param


@pytest_asyncio.fixture
async def make_site(cluster):
    homes = Path(tempfile.mkdtemp(prefix="vg-"))
    homes.chmod(0o777)
    made = []

    def make(its=cluster, **settings):
        place = its.place(**settings)
        made.append(Site(lambda: Slurm("hpc", place, homes / "gate", Scripts(None)), place.folder, homes))
        return made[-1]

    yield make
    for site in made:
        await site.aclose()
    shutil.rmtree(homes)


def jobs(cluster, *more):
    """The numbers of jobs that have not ended, as squeue says by hand."""
    return sorted(cluster.run("squeue", "--noheader", "--format=%A", *more).split(), key=int)


async def all_seen(site, handles):
    return await asyncio.gather(*map(site.place.query, handles))


async def until(site, handles, condition):
    """Ask for all until what is seen is as it should be."""
    deadline = time.monotonic() + 60
    while True:
        seen = await all_seen(site, handles)
        if condition(seen):
            return seen
        assert time.monotonic() < deadline, f"waited in vain: {seen}"
        await asyncio.sleep(0.1)


def served(seen):
    return [one for one in seen if one.desktop]


async def test_thirty_desktops_on_a_cluster_that_holds_fifteen(cluster, make_site):
    site = make_site()
    began, calls = time.monotonic(), cluster.calls("squeue")
    specs = [site.spec(account=f"ws{number:02d}", cores=1, memory="100M") for number in range(30)]
    handles = await asyncio.gather(*map(site.submit, specs))
    assert len({handle.job for handle in handles}) == 30

    seen = await until(site, handles, lambda seen: len(served(seen)) == 15)
    waiting = [one for one in seen if one.seen is Seen.PENDING]
    assert len(waiting) == 15
    assert {one.reason for one in waiting} <= {"it waits for free nodes", "other jobs are before it"}
    assert {one.host for one in served(seen)} == {"n1", "n2", "n3"}
    for spec, one in zip(specs, seen, strict=True):
        if one.desktop:
            assert (await log_in(one)).name == spec.account
    made, passed = cluster.calls("squeue") - calls, time.monotonic() - began
    assert made <= passed / site.place._settings.poll_interval + 1, "one question for all of them"

    cluster.controller.stop()
    silent = await until(site, handles, lambda seen: all(one.seen is Seen.UNKNOWN for one in seen))
    assert {one.reason.partition(":")[0] for one in silent} == {"Slurm cannot be reached now"}
    with pytest.raises(LaunchError, match="cannot be reached now"):
        await site.submit(site.spec())
    with pytest.raises(LaunchError, match="cannot be reached now"):
        await site.place.cancel(handles[0])
    await asyncio.gather(*(log_in(one) for one in served(seen)))
    cluster.controller.start()
    again = await until(site, handles, lambda seen: not any(one.seen is Seen.UNKNOWN for one in seen))
    assert [one.desktop for one in again] == [one.desktop for one in seen]
    assert jobs(cluster) == sorted((handle.job for handle in handles), key=int)

    first = [handle for handle, one in zip(handles, again, strict=True) if one.desktop]
    others = [handle for handle in handles if handle not in first]
    await asyncio.gather(*map(site.place.cancel, first))
    seen = await until(site, others, lambda seen: len(served(seen)) == 15)
    await asyncio.gather(*map(log_in, seen))
    await asyncio.gather(*map(site.place.cancel, others))
    assert [left for handle in handles for left in site.left(handle.nonce)] == []
    assert jobs(cluster) == []


async def test_a_job_that_was_taken_without_an_answer_is_found(cluster, make_site):
    site = make_site()
    spec = site.spec()
    with cluster.controller.frozen():
        submitting = asyncio.ensure_future(site.submit(spec))
        try:
            await asyncio.wait([submitting], timeout=7)  # Slurm's own patience, MessageTimeout, is 5 s
            assert not submitting.done(), submitting
        except BaseException:
            submitting.cancel()
            raise
    handle = await submitting
    assert jobs(cluster) == [handle.job]
    await log_in(await site.serving(handle))


async def test_a_job_that_nobody_knew_of_is_ended(cluster, make_site):
    """The daemon was killed while sbatch ran, and the next one does not want the desktop any more."""
    site = make_site()
    handle = dataclasses.replace(await site.submit(site.spec()), job="")
    assert (await site.place.query(handle)).seen in (Seen.PENDING, Seen.RUNNING)
    await site.place.cancel(handle)
    assert jobs(cluster) == []


async def test_a_job_whose_folder_is_gone_ends_at_once(cluster, make_site):
    """One that was taken after all, after it was given up."""
    site = make_site()
    cluster.run("scontrol", "update", "PartitionName=desktop", "State=DOWN")
    try:
        handle = await site.submit(site.spec())
        shutil.rmtree(site.root / handle.nonce)
        seen = await site.until(handle, lambda seen: seen.reason == "its partition is down")
        assert seen.seen is Seen.PENDING
    finally:
        cluster.run("scontrol", "update", "PartitionName=desktop", "State=UP")
    assert "could not open its folder" in (await site.gone(handle)).reason
    assert site.left(handle.nonce) == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"partition": "nosuch"}, "there is no such partition"),
        ({"memory": "900G"}, "no node has as many cores, as much memory"),
        ({"extra": ["--constraint=quantum"]}, "no node has this feature"),
        ({"extra": ["--nosuch"]}, "option"),
        ({"extra": ["--partition"]}, "option"),
    ],
)
async def test_what_the_cluster_does_not_have_is_said_in_words(cluster, make_site, transport, kind, words):
    site = make_site(transport=transport)
    with pytest.raises(LaunchError) as error:
        await site.submit(site.spec(**kind))
    assert words in str(error.value)
    assert list(site.root.iterdir()) == []
    assert jobs(cluster) == []


async def test_no_such_reservation_and_more_time_than_there_is(cluster, make_site):
    site = make_site(reservation="nosuch")
    with pytest.raises(LaunchError, match="there is no such reservation"):
        await site.submit(site.spec())
    site = make_site(partition="short")
    handle = await site.submit(site.spec(time="2:00:00"))
    # Slurm first says PartitionTimeLimit, later PartitionConfig: which of them a look finds is chance.
    seen = await site.until(handle, lambda seen: "its partition allows" in seen.reason)
    assert seen.seen is Seen.PENDING
    assert "so it never starts: ask for less" in seen.reason


async def test_every_end_has_its_words(cluster, make_site, transport):
    site = make_site(transport=transport)
    kinds = [{}, {"command": ["sh", "-c", "exit 7"]}, {"command": ["startnonesuch"]}]
    cancelled, _, missing = handles = await asyncio.gather(*(site.submit(site.spec(**kind)) for kind in kinds))
    await site.serving(cancelled)
    cluster.run("scancel", cancelled.job)
    seen = await until(site, handles, lambda seen: all(one.seen is Seen.GONE for one in seen))
    assert [(one.reason, one.exit_status) for one in seen] == [
        ("the job was cancelled", 0),
        ("the job ended with exit status 7", 7),
        ("the job ended with exit status 127", 127),
    ]
    assert "startnonesuch: command not found" in await site.place.logs(missing)
    await asyncio.gather(*map(site.place.cancel, handles))
    assert [left for handle in handles for left in site.left(handle.nonce)] == []


async def test_the_time_limit(cluster, make_site):
    site = make_site(partition="short")
    _, handle, seen = await site.start(time="1")
    assert 0 < seen.ends - time.time() <= 60
    cluster.run("scontrol", "update", f"JobId={handle.job}", "EndTime=now")
    seen = await until(site, [handle], lambda seen: seen[0].seen is Seen.GONE)  # Slurm looks every 30 s
    assert seen[0].reason == "the job reached its time limit"


async def test_a_dead_node(cluster, make_site, transport):
    site = make_site(transport=transport)
    _, handle, seen = await site.start()
    cluster.nodes[seen.host].kill()
    cluster.run("scontrol", "update", f"NodeName={seen.host}", "State=DOWN", "Reason=test")
    lost = await site.until(handle, lambda seen: seen.seen is not Seen.RUNNING)
    words = f"the node {seen.host} failed" if transport == "commands" else slurm_jobs.PUT_BACK
    assert (lost.seen, lost.reason, lost.exit_status) == (Seen.GONE, words, None)
    await site.place.cancel(handle)
    # The node itself ends what it ran, once it is back.
    cluster.nodes[seen.host].start()
    cluster.until(lambda: site.left(handle.nonce) == [], "the end of the job on its node")


async def test_what_a_dead_node_left_is_removed_by_the_next_desktop_there(cluster, make_site):
    """Nothing there had time to end: neither the session's script nor Slurm's own."""
    site = make_site()
    spec, handle, _ = await site.start(extra=["--nodelist=n1"])
    (folder,) = temporary(spec.nonce)
    cluster.nodes["n1"].kill()
    for pid, _ in processes(f"VNCGATE_DESKTOP={spec.nonce}"):
        os.kill(pid, signal.SIGKILL)
    cluster.run("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=test")
    await site.gone(handle)
    await site.place.cancel(handle)
    left = site.left(spec.nonce)
    assert str(folder) in left, "nobody can remove what a node has that is away"
    assert str(site.root / spec.nonce) not in left, "what is shared is removed at once"
    cluster.nodes["n1"].start()
    os.utime(folder, (0, 0))  # what is younger than a minute might be another's that begins
    await site.start(extra=["--nodelist=n1"])
    assert site.left(spec.nonce) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts desktops as other users")
async def test_a_desktop_of_another_user(cluster, make_site, transport):
    site = make_site(transport=transport, user="{account}")
    script = "id -u; id -g; umask; env | grep -c GET_USER_ENV; exec sleep 1000"
    spec = site.spec("sh", "-c", script, account=NOBODY.pw_name)
    handle = await site.submit(dataclasses.replace(spec, user=NOBODY.pw_name))
    await log_in(await site.serving(handle))
    folder = site.root / handle.nonce
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (NOBODY.pw_uid, 0o700)
    assert (folder / "passwd").stat().st_mode & 0o777 == 0o600
    said: list[str] = []
    async with asyncio.timeout(20):
        while "0022" not in said[:-1]:
            said = (await site.place.logs(handle)).split()
            await asyncio.sleep(0.05)
    assert said[-4:] == [str(NOBODY.pw_uid), str(NOBODY.pw_gid), "0022", "0"], "no login shell was asked"
    await site.place.cancel(handle)
    assert site.left(handle.nonce) == []


async def test_a_hostile_folder_is_a_folder(cluster, make_site, transport):
    folder = cluster.shared / HOSTILE
    site = make_site(transport=transport, folder=folder)
    _, handle, seen = await site.start("sh", "-c", "echo hello; exec sleep 1000", account=HOSTILE)
    assert (await log_in(seen)).name == HOSTILE
    async with asyncio.timeout(20):
        while "hello" not in await site.place.logs(handle):
            await asyncio.sleep(0.05)
    await site.place.cancel(handle)
    assert list(folder.iterdir()) == []
    folder.rmdir()
    assert not list(cluster.root.rglob("pwned"))


async def test_a_silent_slurmrestd_or_controller_ends_nothing(cluster, rest, make_site):
    site = make_site(transport="rest")
    _, handle, seen = await site.start()
    for part in (cluster.rest, cluster.controller):
        part.stop()
        unknown = await site.until(handle, lambda seen: seen.seen is not Seen.RUNNING)
        assert unknown.seen is Seen.UNKNOWN, unknown
        part.start()
        assert await site.serving(handle) == seen


async def test_two_clusters(cluster, make_site):
    """Both begin to count their jobs with 1."""
    with Cluster(nodes=1) as other:
        here, there = make_site(), make_site(other)
        await asyncio.gather(*(here.submit(here.spec()) for _ in range(2)))
        away = await there.submit(there.spec())
        assert away.job == "1"
        await there.serving(away)
        assert (await here.place.query(away)).seen is Seen.GONE, "its number is another's here"
        await there.place.cancel(away)
        assert len(jobs(cluster)) == 2
        assert (await there.place.query(Handle("hpc", "ws01", away.nonce))).seen is Seen.GONE
        await there.aclose()
        there.handles.clear()
