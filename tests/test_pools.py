"""Desktops that are started beforehand and given out."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakeplace import POOL, account, ready_in_pool, roster, settings
from vncgate.desktop_life import START_TRIES
from vncgate.errors import ControlError, LaunchError
from vncgate.launchers.base import Seen, Sighting
from vncgate.model import DesktopState, Roster, Want

pytestmark = pytest.mark.virtual_time

STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


async def test_who_comes_gets_one_of_the_pool_at_once(world):
    names = [f"ws{number:02}" for number in range(1, 11)]
    await world.start(settings(**POOL, idle_timeout=60.0), roster(*names))
    await ready_in_pool(world)
    await asyncio.sleep(300)
    assert len(world.place.started) == 3  # nobody is to use them yet
    assert world.states() == {STOPPED}
    assert all(desktop.password.startswith("random") for desktop in world.place.running.values())
    there = set(world.place.running)
    world.launcher.visit("ws01")
    await asyncio.sleep(0.1)
    assert world.state() is RUNNING
    nonce = world.launcher.located()["ws01"].unix.removeprefix("/")
    assert nonce in there
    assert world.place.running[nonce].password == "secret"
    assert '"account": "ws01"' in world.store.files[nonce]
    await asyncio.sleep(5)
    assert len(world.place.running) == 4  # refilled
    for name in names:
        world.launcher.visit(name)
    await world.until(lambda: world.states() == {RUNNING})
    await asyncio.sleep(5)
    assert len(world.launcher.located()) == 10
    assert len(set(world.launcher.located().values())) == 10
    assert len(world.place.running) == len(world.store.files) == 13
    assert not any(name.startswith("pool") for names in world.told for name in names)


async def test_a_daemon_that_is_killed_finds_pool_and_given_out_ones(world):
    await world.start(settings(**POOL), roster("ws01", "ws02"))
    await ready_in_pool(world)
    world.launcher.visit("ws01")
    await world.running()
    await ready_in_pool(world, 4)
    mine, before = world.launcher.located()["ws01"], set(world.place.running)
    await world.restart()
    await world.running()
    assert world.launcher.located() == {"ws01": mine}
    await asyncio.sleep(5)
    assert set(world.place.running) == before
    world.launcher.visit("ws02")
    await asyncio.sleep(0.1)
    assert world.state("ws02") is RUNNING


async def test_a_daemon_that_is_killed_as_one_is_given_out_gives_it_to_nobody_else(world):
    for moment in range(30):
        await world.start(settings(policy="pool", pool=1), roster("ws01", "ws02"))
        await ready_in_pool(world, 1)
        world.launcher.visit("ws01")
        await asyncio.sleep(moment / 1000)
        await world.restart()
        for name in ("ws01", "ws02"):
            world.launcher.visit(name)
        await world.running("ws01", "ws02")
        located = world.launcher.located()
        assert located["ws01"] != located["ws02"]
        await asyncio.sleep(5)
        assert len(world.place.running) == len(world.store.files) == 3, moment
        world.launcher.apply(Roster())
        await asyncio.sleep(1)
        for nonce in list(world.place.running):
            del world.place.running[nonce]
        await world.launcher.aclose()
        world.store.files.clear()
    await world.start()


async def test_a_daemon_that_is_killed_as_somebody_in_line_is_given_one_finds_that(world):
    places = {"local": {"type": "local", "starts_at_once": 1}}
    for moment in range(30):
        await world.start(settings(places, policy="pool", pool=1), roster("ws01"))
        await asyncio.sleep(0.5)
        world.launcher.visit("ws01")
        await world.until(lambda: world.state() is STARTING, step=0.001)
        (given,) = world.place.running
        await asyncio.sleep(moment / 1000)
        await world.launcher.aclose()
        is_given = '"account": "ws01"' in world.store.files[given]
        await world.start()
        await world.running()
        if is_given:
            assert world.launcher.located()["ws01"].unix == f"/{given}", moment
        await asyncio.sleep(15)
        assert len(world.place.running) == len(world.store.files) == 2, moment
        world.launcher.apply(Roster())
        await world.launcher.aclose()
        world.place.running.clear()
        world.store.files.clear()
    await world.start()


async def test_nobody_gets_one_of_the_pool_that_the_next_daemon_would_give_to_another(world, caplog):
    await world.start(settings(**POOL), roster("ws01"))
    await ready_in_pool(world)
    world.store.broken = OSError(28, "No space left on device")
    world.launcher.visit("ws01")
    await asyncio.sleep(10)
    assert world.state() is STARTING
    assert caplog.text.count("/memory cannot be written: No space left on device") == 1
    world.store.broken = None
    await world.running()


async def test_one_of_the_pool_that_cannot_be_given_away_is_replaced(world):
    await world.start(settings(**POOL), roster("ws01"))
    await ready_in_pool(world)

    async def refusing(handle, password):
        raise LaunchError("its folder is gone")

    world.place.rekey = refusing
    world.launcher.visit("ws01")
    await asyncio.sleep(119)
    assert world.state() is STARTING
    await world.running(limit=10)
    assert world.place.of("ws01").password == "secret"


async def test_a_full_disk_ends_no_desktop_that_is_started_already(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.until(lambda: world.place.running)
    world.store.broken = OSError(28, "No space left on device")
    await world.running()
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(1)
    assert (world.state(), world.place.running) == (STOPPED, {})


async def test_where_none_is_ready_an_ordinary_one_is_started(world):
    world.place.boot = 20
    await world.start(settings(**POOL), roster("ws01"))
    await asyncio.sleep(1)
    world.launcher.visit("ws01")
    await world.running()
    assert len([name for name in world.place.started if name == "ws01"]) == 1


async def test_who_waits_in_line_goes_before_the_pool_and_takes_what_is_ready_there(world):
    names = [f"ws{number:02}" for number in range(12)]
    places = {"local": {"type": "local", "starts_at_once": 2}}
    await world.start(settings(places, **POOL), roster(*names))
    await ready_in_pool(world)
    for name in names:
        world.launcher.visit(name)
    await world.running(*names[:3], limit=0.2)
    assert [world.status(name).reason for name in names[5:8]] == ["1st in line", "2nd in line", "3rd in line"]
    await world.until(lambda: world.states() == {RUNNING})
    # Nobody waited for the pool to be full again: it was refilled last.
    assert [name[:2] for name in world.place.started[:11]] == ["po"] * 3 + ["ws"] * 8
    await asyncio.sleep(5)
    assert len(world.place.running) == len(world.store.files) == 15


async def test_who_came_while_the_pool_was_filled_takes_one_of_it(world):
    places = {"local": {"type": "local", "starts_at_once": 3}}
    await world.start(settings(places, **POOL), roster("ws01", "ws02", "ws03", "ws04"))
    await asyncio.sleep(0.5)
    await world.launcher.start_desktops(["*"])
    assert world.status("ws01").reason in ("", "1st in line")
    await world.running("ws01", "ws02", "ws03", limit=1.2)
    assert not {"ws01", "ws02", "ws03"} & set(world.place.started)
    await world.running("ws04")
    await asyncio.sleep(5)
    assert len(world.place.running) == len(world.store.files) == 7
    await world.restart()
    await world.running("ws01", "ws02", "ws03", "ws04")
    assert len(world.place.running) == 7


async def test_a_pool_desktop_that_dies_is_replaced_and_a_size_of_its_own_is_not_in_the_pool(world):
    sizes = {"sizes": {"small": {"cores": 1}, "large": {"cores": 8}}, "size": "small"}
    await world.start(settings(**POOL, **sizes), roster("ws01", "ws02", size="large"))
    await ready_in_pool(world)
    nonce = next(iter(world.place.running))
    del world.place.running[nonce]
    await asyncio.sleep(10)
    assert len(world.place.running) == 3
    next(iter(world.place.running.values())).sighting = Sighting(Seen.GONE, exit_status=0)
    await asyncio.sleep(10)
    assert len(world.place.running) == 3
    world.launcher.visit("ws01")
    await world.running()
    assert world.place.of("ws01").spec.kind.cores == 8


async def test_a_pool_that_failed_is_tried_again_when_somebody_comes(world):
    world.place.refuse = "no such image"
    await world.start(settings(**POOL), roster("ws01"))
    await asyncio.sleep(600)
    assert world.place.calls["submit"] == 3 * START_TRIES
    world.place.refuse = None
    world.launcher.visit("ws01")
    await world.running()
    await ready_in_pool(world, 4)


async def test_a_pool_that_cannot_be_anybodys_is_not_kept(world):
    await world.start(settings(**POOL, home="/scratch/{account}"), roster("ws01"))
    await asyncio.sleep(10)
    assert world.place.started == []
    world.launcher.visit("ws01")
    await world.running()


# What operators do with pools


def spares(world):
    return {spare.account: (spare.state, spare.want) for spare in world.launcher.spares()}


async def test_operators_see_what_is_in_a_pool_and_nobody_else_does(world):
    await world.start(settings(**POOL), roster("ws01"))
    await ready_in_pool(world)
    assert spares(world) == {f"pool:xfce:{number}": (RUNNING, Want.UP) for number in (1, 2, 3)}
    assert [status.account for status in world.launcher.statuses()] == ["ws01"]
    assert world.launcher.status("pool:xfce:1") is None
    assert world.launcher.located() == {}
    world.place.log_text = "line 1\nline 2\n"
    assert await world.launcher.logs("pool:xfce:1", 1) == world.place.log_text
    world.launcher.visit("pool:xfce:1")
    world.launcher.retry("pool:xfce:1")
    world.launcher.visit("ws01")
    await ready_in_pool(world, 4)
    assert spares(world).keys() == {"pool:xfce:2", "pool:xfce:3", "pool:xfce:4"}, "the first is somebody's now"
    with pytest.raises(ControlError, match="pool:xfce:1"):
        await world.launcher.stop_desktops(["pool:xfce:1"])


async def test_who_stops_everything_stops_everything(world):
    await world.start(settings(**POOL), roster("ws01", "ws02"))
    await ready_in_pool(world)
    world.launcher.visit("ws01")
    await ready_in_pool(world, 4)
    meant = await world.launcher.stop_desktops(["*"])
    assert meant == ["ws01", "ws02", "pool:xfce:2", "pool:xfce:3", "pool:xfce:4"]
    await asyncio.sleep(3600)
    world.launcher.apply(roster("ws01", "ws02", "ws03"))  # a changed token file asks for none
    await asyncio.sleep(3600)
    assert (world.place.running, world.store.files) == ({}, {})
    assert set(spares(world).values()) == {(STOPPED, Want.DOWN)}
    words = "stopped by the organizers: its pool is filled again when somebody asks for a desktop of this kind"
    assert {spare.reason for spare in world.launcher.spares()} == {words}
    # Somebody comes: there is one for them, and then a pool again.
    world.launcher.visit("ws02")
    await world.running("ws02")
    await ready_in_pool(world, 4)
    assert set(spares(world).values()) == {(RUNNING, Want.UP)}


async def test_one_of_a_pool_is_started_and_restarted_by_its_name(world):
    await world.start(settings(**POOL), roster("ws01"))
    await ready_in_pool(world)
    await world.launcher.stop_desktops(["pool:*"])
    await asyncio.sleep(10)
    await world.launcher.start_desktops(["pool:xfce:2"])
    await asyncio.sleep(10)
    assert len(world.place.running) == 1
    (before,) = world.place.running
    await world.launcher.restart_desktops(["pool:xfce:2"])
    await asyncio.sleep(10)
    assert len(world.place.running) == 1
    assert before not in world.place.running


async def test_another_kind_that_is_asked_for_fills_no_pool_that_was_stopped(world):
    kinds = {"xfce": {"command": "startxfce4", **POOL}, "gedit": {"command": "gedit"}}
    accounts = Roster((account("ws01", kind="gedit"), account("ws02", kind="xfce")))
    await world.start(settings(kinds=kinds), accounts)
    await ready_in_pool(world)
    await world.launcher.stop_desktops(["*"])
    await asyncio.sleep(10)
    world.launcher.visit("ws01")
    await world.running("ws01")
    assert len(world.place.running) == 1


async def test_what_is_given_out_by_a_command_is_not_started_a_second_time(world):
    await world.start(settings(**POOL), roster("ws01", "ws02", "ws03"))
    await ready_in_pool(world)
    there = set(world.place.running)
    await world.launcher.restart_desktops(["*"])
    await world.running("ws01", "ws02", "ws03")
    assert {desktop.unix[1:] for desktop in world.launcher.located().values()} == there
    await ready_in_pool(world, 6)


async def test_the_next_daemon_ends_what_was_being_stopped_and_fills_the_pool(world):
    await world.start(settings(**POOL), roster("ws01"))
    await ready_in_pool(world)
    world.place.silent = True
    await world.launcher.stop_desktops(["*"])
    await asyncio.sleep(10)
    before = set(world.place.running)
    world.place.silent = False
    await world.restart()
    await ready_in_pool(world)
    assert not before & set(world.place.running)
    assert len(world.store.files) == 3
