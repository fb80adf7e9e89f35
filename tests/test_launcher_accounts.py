"""One start: its password, its user, its kind and size."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakeplace import roster, settings
from vncgate.errors import LaunchError
from vncgate.model import DesktopState, Secret

pytestmark = pytest.mark.virtual_time

STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


async def test_a_changed_password_is_set_without_a_restart(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    before, located = world.place.of("ws01"), world.launcher.located()
    assert before.password == "secret"
    world.place.silent = True
    world.launcher.apply(roster("ws01", password="better"))
    await asyncio.sleep(60)
    world.place.silent = False
    assert world.launcher.located() == located
    await asyncio.sleep(4)
    assert world.place.of("ws01") is before
    assert (before.password, world.state()) == ("better", RUNNING)
    assert world.launcher.password("ws01") == Secret("better")


async def test_nobody_logs_in_before_the_password_is_known(world, caplog):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    rekey = world.place.rekey

    async def refusing(handle, password):
        raise LaunchError("no space left on node7")

    world.place.rekey = refusing
    await world.restart()
    await asyncio.sleep(20)
    assert world.state() is STARTING
    assert caplog.text.count("its password could not be set: no space left on node7") == 1
    assert not any(record.levelname == "ERROR" for record in caplog.records)
    world.place.rekey = rekey
    await world.running()


async def test_a_password_that_its_server_does_not_know_is_set_again(world):
    world.place.boot = 5
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await asyncio.sleep(1)
    world.place.of("ws01").password = "somebody changed it"
    await world.running()
    assert world.place.of("ws01").password == "secret"


async def test_a_password_that_changes_during_a_login_is_set_before_it_runs(world):
    await world.start(settings(), roster("ws01"))
    login, begun, goes_on = world.place.login, asyncio.Event(), asyncio.Event()

    async def slow(account):
        begun.set()
        await goes_on.wait()
        await login(account)

    world.place.login = slow
    await world.restart()
    world.launcher.visit("ws01")
    await begun.wait()
    world.launcher.apply(roster("ws01", password="better"))
    goes_on.set()
    await world.running()
    assert world.place.of("ws01").password == "better"


async def test_an_account_without_a_password_gets_a_random_one(world):
    await world.start(settings(), roster("ws01", password=""))
    world.launcher.visit("ws01")
    await world.running()
    first = world.place.of("ws01").password
    assert first.startswith("random")
    assert world.launcher.password("ws01") == Secret(first)
    # It is kept nowhere, so that a new daemon sets another.
    assert first not in str(world.store.files)
    await world.restart()
    await world.running()
    assert world.place.of("ws01").password == world.launcher.password("ws01").reveal() != first
    assert world.place.started == ["ws01"]


async def test_a_password_that_changed_while_no_daemon_ran_is_set(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await world.launcher.aclose()
    await world.start(accounts=roster("ws01", password="better"))
    await world.running()
    assert world.place.of("ws01").password == "better"


async def test_another_kind_or_size_comes_with_the_next_start(world):
    kinds = {
        "xfce": {"command": "startxfce4", "sizes": {"small": {"cores": 1}, "large": {"cores": 8}}, "size": "small"},
        "gedit": {"command": "gedit", "policy": "manual"},
    }
    await world.start(settings(kinds=kinds), roster("ws01", kind="xfce"))
    world.launcher.visit("ws01")
    await world.running()
    assert world.place.of("ws01").spec.kind.cores == 1
    world.launcher.apply(roster("ws01", kind="xfce", size="large"))
    await asyncio.sleep(10)
    status = world.status()
    assert (status.state, status.size, status.reason) == (RUNNING, "small", "xfce (large) from its next start on")
    await world.launcher.restart_desktops(["ws01"])
    await world.running()
    assert world.place.of("ws01").spec.kind.cores == 8
    assert (world.status().size, world.status().reason) == ("large", "")
    world.launcher.apply(roster("ws01", kind="gedit"))
    assert (world.status().kind, world.status().reason) == ("xfce", "gedit from its next start on")
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(1)
    assert world.status().kind == "gedit"


async def test_users_and_homes_are_the_accounts(world):
    places = {"local": {"type": "local", "user": "u-{account}"}}
    await world.start(settings(places, home="/scratch/{account}"), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    spec = world.place.of("ws01").spec
    assert (spec.user, spec.home, spec.account) == ("u-ws01", "/scratch/ws01", "ws01")
    assert world.place.of("ws01").handle.user == "u-ws01"
