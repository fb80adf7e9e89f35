"""Desktops whose nodes a real Slurm cluster needs for something else: jobs of a partition of higher priority.

Slurm ends them (PreemptMode=CANCEL), or puts them back in its queue (REQUEUE) where it may.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from tests.launchers.places import Site, log_in
from tests.real.conftest import need
from tests.real.gate import ME
from tests.real.launching import Gate, kind, section
from tests.real.slurm import Cluster
from vncgate.launchers import slurm_jobs
from vncgate.launchers.base import Seen
from vncgate.launchers.scripts import Scripts
from vncgate.launchers.slurm import Slurm

pytestmark = pytest.mark.real

need("Xvnc", "slurmctld", "slurmd", "sbatch", "squeue", "munged", "slurmrestd")


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=1) as cluster:
        cluster.start_rest()
        yield cluster


@pytest_asyncio.fixture
async def make_site(cluster):
    homes = Path(tempfile.mkdtemp(prefix="vg-"))
    made = []

    def make(transport, **settings):
        place = cluster.place(transport, **settings)
        made.append(Site(lambda: Slurm("hpc", place, homes / "gate", Scripts(None)), place.folder, homes))
        return made[-1]

    yield make
    for site in made:
        await site.aclose()
    shutil.rmtree(homes)


def state(cluster, job):
    return cluster.run("scontrol", "show", "job", job).partition("JobState=")[2].split()[0]


@pytest.mark.parametrize("transport", ["commands", "rest"])
@pytest.mark.parametrize("partition", ["desktop", "again"])
async def test_a_job_of_higher_priority_takes_its_place(cluster, make_site, transport, partition):
    site = make_site(transport, partition=partition)
    spec, handle, seen = await site.start()
    await log_in(seen)
    urgent = cluster.outrank()
    lost = await site.gone(handle)
    assert "higher priority" in lost.reason
    assert lost.exit_status is None, "an accident, after which its policy has it started again"
    # The next one waits for its turn.
    await site.place.cancel(handle)
    assert site.left(spec.nonce) == []
    again = await site.submit(site.spec())
    assert (await site.place.query(again)).seen is Seen.PENDING
    cluster.run("scancel", urgent)
    await log_in(await site.serving(again))


async def test_a_desktop_that_is_put_back_in_the_queue_never_begins_again(cluster, make_site):
    """No daemon looks meanwhile. Slurm starts the job a second time, which ends at once."""
    site = make_site("rest")
    spec, handle, _ = await site.start("sh", "-c", "echo begun; exec sleep 1000")
    cluster.run("scontrol", "requeue", handle.job)
    cluster.until(lambda: state(cluster, handle.job) == "PENDING", "the job's way back to the queue")
    # Else in two minutes. In the second in which it was ended its node takes the new start for the old one.
    cluster.run("scontrol", "update", f"JobId={handle.job}", "StartTime=now+2")
    cluster.until(lambda: state(cluster, handle.job) == "FAILED", "the end of its second start")
    lost = await site.gone(handle)
    assert (lost.reason, lost.exit_status) == (slurm_jobs.PUT_BACK, None)
    async with asyncio.timeout(20):
        while "Slurm started this job a second time" not in (log := await site.place.logs(handle)):
            await asyncio.sleep(0.05)
    assert log.count("begun") == 1
    await site.place.cancel(handle)
    assert site.left(spec.nonce) == []


async def test_a_desktop_in_the_queue_can_be_ended_after_it_was_put_back(cluster, make_site):
    site = make_site("rest")
    spec, handle, _ = await site.start()
    cluster.run("scontrol", "requeue", handle.job)
    await site.gone(handle)
    await asyncio.gather(site.place.cancel(handle), site.place.cancel(handle))
    assert state(cluster, handle.job) == "CANCELLED"
    assert site.left(spec.nonce) == []


def test_what_the_gate_does_and_says(cluster, tmp_path_factory):
    """Two places at once, which are one cluster asked in two ways; who waits for a desktop gets another."""
    size = 'cores = 1\nmemory = "100M"\n'
    settings = section("slurm", cluster.place(user=ME)) + section("rest", cluster.place("rest", user=ME))
    settings += kind("ended", "slurm", size) + kind("manual", "slurm", f'{size}policy = "manual"')
    settings += kind("requeued", "rest", f'{size}partition = "again"')
    names = ("ended", "manual", "requeued")
    with Gate(tmp_path_factory.mktemp("d"), settings, **{name: name for name in names}) as gate:
        gate.command("desktop", "start", "--no-wait", "--all")
        gate.until(lambda: set(gate.states().values()) == {"RUNNING"})
        urgent = cluster.outrank()
        try:
            gate.until(lambda: gate.states() == {"ended": "PENDING", "manual": "FAILED", "requeued": "PENDING"})
            assert gate.servers() == {}
            assert "higher priority" in gate.desktop("manual")["reason"]
            assert gate.log.count("a job of higher priority took its place (preemption)") == 2
            assert slurm_jobs.PUT_BACK in gate.log
        finally:
            cluster.run("scancel", urgent)
        gate.until(lambda: [gate.states()[name] for name in ("ended", "requeued")] == ["RUNNING"] * 2)
        assert {gate.desktop(name)["restarts"] for name in ("ended", "requeued")} == {1}
