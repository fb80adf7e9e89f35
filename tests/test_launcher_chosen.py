"""Kind and size that a portal chose for one session, in the place of what the token file says."""

from __future__ import annotations

import pytest

from tests.fakeplace import World, ready_in_pool, roster, settings
from vncgate.errors import ControlError
from vncgate.model import DesktopState

pytestmark = pytest.mark.virtual_time
STOPPED, FAILED = DesktopState.STOPPED, DesktopState.FAILED

SIZES = {"small": {"cores": 1}, "large": {"cores": 8}}
KINDS = {
    "xfce": {"command": "startxfce4", "sizes": SIZES, "size": "small"},
    "matlab": {"command": "matlab", "idle_timeout": 600.0},
}


def configured(**xfce):
    kinds = {**KINDS, "xfce": {**KINDS["xfce"], **xfce}}
    return settings(kinds=kinds, general={"kind": "xfce"})


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.launcher.aclose()


def what(world, name="ws01"):
    status = world.status(name)
    return status.kind, status.size


def ran(world):
    """The command and the cores of what runs."""
    (desktop,) = world.place.running.values()
    return desktop.spec.kind.command[0], desktop.spec.kind.cores


async def comes_again(world):
    await world.until(lambda: world.state() is not DesktopState.RUNNING)
    await world.running()


async def test_it_is_what_was_chosen_until_it_ends(world):
    await world.start(configured(), roster("ws01"))
    await world.launcher.start_as("ws01", "matlab", "")
    await world.running()
    assert (what(world), ran(world)) == (("matlab", ""), ("matlab", None))
    assert world.status().reason == ""  # it is no surprise that it is not what the line says
    world.place.die("ws01")
    await comes_again(world)
    assert ran(world) == ("matlab", None)
    await world.launcher.restart_desktops(["ws01"])
    await comes_again(world)
    assert ran(world) == ("matlab", None)
    await world.launcher.stop_desktops(["ws01"])
    await world.until(lambda: world.state() is STOPPED)
    assert what(world) == ("xfce", "small")
    world.launcher.visit("ws01")
    await world.running()
    assert ran(world) == ("startxfce4", 1)


@pytest.mark.parametrize("policy", ["on_demand", "eager"])
async def test_the_next_daemon_knows_what_was_chosen(world, policy):
    await world.start(configured(policy=policy), roster())
    world.roster = roster("ws01")
    if policy == "eager":
        world.roster = roster("ws01", kind="matlab")  # what its line says by now
    world.launcher.apply(world.roster)
    await world.launcher.start_as("ws01", "xfce", "large")
    await world.running()
    for _ in range(2):
        await world.restart()
        assert what(world) == ("xfce", "large")
        await world.running()
        assert world.status().reason == ""
        world.place.die("ws01")
        await comes_again(world)
        assert ran(world) == ("startxfce4", 8)


async def test_who_waits_in_line_is_remembered_with_what_was_chosen(world):
    kinds = {**KINDS, "xfce": {**KINDS["xfce"], "policy": "eager"}}
    many = settings({"local": {"type": "local", "most": 1}}, kinds=kinds, general={"kind": "xfce"})
    await world.start(many, roster("ws00", kind="matlab"))
    await world.launcher.start_desktops(["ws00"])
    await world.running("ws00")
    world.roster = roster("ws00", "ws01", kind="matlab")
    world.launcher.apply(world.roster)
    await world.launcher.start_as("ws01", "xfce", "large")
    await world.until(lambda: len(world.store.files) == 2)
    await world.restart()
    await world.launcher.stop_desktops(["ws00"])
    await world.running("ws01")
    assert ran(world) == ("startxfce4", 8)


async def test_what_is_there_stays_what_it_is(world):
    await world.start(configured(), roster("ws01"))
    await world.launcher.start_as("ws01", "xfce", "large")
    await world.running()
    await world.launcher.start_as("ws01", "xfce", "large")
    await world.launcher.start_desktops(["ws01"])
    with pytest.raises(ControlError, match=r"ws01 has a session of kind xfce \(large\): end it first"):
        await world.launcher.start_as("ws01", "matlab", "")
    assert world.place.started == ["ws01"]
    await world.launcher.stop_desktops(["ws01"])
    await world.launcher.start_as("ws01", "matlab", "")  # while the other is being ended
    await comes_again(world)
    assert ran(world) == ("matlab", None)


async def test_one_that_failed_can_be_tried_as_another(world):
    await world.start(configured(), roster("ws01"))
    world.place.refuse = "there is no such image"
    await world.launcher.start_as("ws01", "matlab", "")
    await world.until(lambda: world.state() is FAILED)
    assert what(world) == ("matlab", "")
    await world.restart()
    assert (world.state(), what(world)) == (FAILED, ("matlab", ""))
    world.configured = configured(command="startplasma")  # what failed is something else
    await world.restart()
    assert world.state() is FAILED
    world.configured = settings(kinds={"xfce": KINDS["xfce"]})
    await world.restart()
    assert (world.state(), what(world)) == (STOPPED, ("xfce", "small"))
    world.place.refuse = None
    await world.launcher.start_as("ws01", "xfce", "small")
    await world.running()
    assert ran(world) == ("startxfce4", 1)


async def test_one_of_a_pool_of_another_kind_is_given_out(world):
    pool = {**KINDS, "matlab": {"command": "matlab", "policy": "pool", "pool": 1}}
    await world.start(settings(kinds=pool, general={"kind": "xfce"}), roster("ws01"))
    await ready_in_pool(world, 1)
    await world.launcher.start_as("ws01", "matlab", "")
    await world.running()
    assert what(world) == ("matlab", "")
    await world.restart()
    await world.running()
    assert what(world) == ("matlab", "")
    assert world.status().reason == ""
