"""A class on a cluster that holds half of it, through the whole gate: what happens to the cluster and to the gate, and
what the participant in the waiting room sees of it.
"""

from __future__ import annotations

import re
import time

import pytest
from playwright.async_api import expect

from tests.real.browser import log_in, says
from tests.real.conftest import need
from tests.real.gate import ME
from tests.real.launching import Gate, kind, section, types
from tests.real.slurm import Cluster

need("Xvnc", "openbox", "xterm", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

CLASS = 30
CORES = 15
LAST = f"ws{CLASS:02}"
"""Who opens the page when all others are asked for, and so is the last in the queue."""
SIZE = 'cores = 1\nmemory = "100M"'


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=3, cpus=CORES // 3) as cluster:
        yield cluster


@pytest.fixture
def gate(cluster, tmp_path_factory):
    settings = section("slurm", cluster.place(user=ME)) + kind("term", "slurm", SIZE)
    others = kind("bare", "slurm", SIZE).replace("xterm -maximized", "sleep infinity").replace("openbox", "")
    names = {f"ws{number:02}": "bare" for number in range(1, CLASS)}
    with Gate(tmp_path_factory.mktemp("d"), settings + others, **names, **{LAST: "term"}) as gate:
        yield gate


def jobs(cluster):
    """The jobs that have not ended, and their states, as squeue says by hand."""
    return dict(line.split() for line in cluster.run("squeue", "--noheader", "--format=%A %T").splitlines())


def are(gate, state):
    return {name for name, its in gate.states().items() if its == state}


def is_silent(gate):
    """Whether the gate knows of no desktop how it is."""
    return all("Slurm cannot be reached" in account["launched"]["reason"] for account in gate.status()["accounts"])


async def test_a_class_on_half_a_cluster(browse, gate, cluster):
    """Its controller goes away, the gate is killed meanwhile, and the controller comes back."""
    began = time.monotonic()
    gate.command("desktop", "start", "--no-wait", *sorted(gate.states().keys() - {LAST}))
    gate.until(lambda: len(are(gate, "RUNNING")) == CORES and len(are(gate, "PENDING")) == CLASS - CORES - 1)
    page = await browse(f"{gate.url}desk/path-{LAST}/")
    await says(page, "Your desktop is in the queue")
    await expect(page.locator("[data-part=detail]")).to_contain_text(
        re.compile("It waits for a free computer|Others are before it")
    )
    await log_in(page, f"pw-{LAST}")
    print(f"{CORES} of {CLASS} desktops run after {time.monotonic() - began:.1f} s, the others are queued")
    first, queue, all_jobs = are(gate, "RUNNING"), are(gate, "PENDING"), jobs(cluster)
    assert (len(first), len(queue), len(all_jobs)) == (CORES, CLASS - CORES, CLASS)
    servers, where = gate.servers(), {name: gate.desktop(name)["desktop"] for name in first}

    cluster.controller.stop()
    try:
        gate.until(lambda: is_silent(gate))
        assert (are(gate, "RUNNING"), are(gate, "PENDING")) == (first, queue)
        await says(page, "Your desktop is in the queue", "do not answer")
        gate.begin_anew()
        gate.until(lambda: is_silent(gate))
        gate.until(lambda: gate.account(min(first))["ready"] == "ready")  # browsers are led to it all the same
        await says(page, "Your desktop", "do not answer")
        assert gate.servers() == servers
    finally:
        cluster.controller.start()
    gate.until(lambda: (are(gate, "RUNNING"), are(gate, "PENDING")) == (first, queue))
    assert jobs(cluster) == all_jobs, "none ended, none twice"
    assert gate.servers() == servers
    assert {name: gate.desktop(name)["desktop"] for name in first} == where
    await says(page, "Your desktop is in the queue")

    gate.command("desktop", "stop", "--no-wait", *first)
    gate.until(lambda: are(gate, "RUNNING") == queue and are(gate, "STOPPED") == first)
    assert jobs(cluster).keys() == all_jobs.keys() - {job for job in all_jobs if all_jobs[job] == "RUNNING"}
    assert {gate.desktop(name)["restarts"] for name in queue} == {0}
    await types(page, gate.home(LAST), "typed")


async def test_a_node_that_fails(browse, gate, cluster):
    page = await browse(f"{gate.url}desk/path-{LAST}/")
    await log_in(page, f"pw-{LAST}")
    await types(page, gate.home(LAST), "before")
    node = gate.desktop(LAST)["host"]
    cluster.nodes[node].kill()
    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        await says(page, "Your desktop is being started again", "The computer that it ran on failed")
        await types(page, gate.home(LAST), "after")
        assert gate.desktop(LAST)["host"] != node
        assert gate.desktop(LAST)["restarts"] == 1
    finally:
        cluster.nodes[node].start()
    gate.until(lambda: len(gate.servers()) == 1)  # the node ends what it ran
