"""Policies, the end of the workshop, what is told: on a fake place and in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from datetime import UTC, datetime

import pytest

from tests.fakeplace import EPOCH, account, ready_in_pool, roster, settings
from vncgate.errors import ControlError
from vncgate.launcher import CLOCK_LOOK, GRACE
from vncgate.launchers.base import Seen, Sighting
from vncgate.model import Desktop, DesktopState, Roster, Want

pytestmark = pytest.mark.virtual_time

STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


# Policies


async def test_manual_waits_for_an_operator(world):
    await world.start(settings(policy="manual"), roster("ws01"))
    world.launcher.visit("ws01")
    await asyncio.sleep(60)
    assert (world.state(), world.status().want, world.place.started) == (STOPPED, Want.DOWN, [])
    assert await world.launcher.start_desktops(["ws*"]) == ["ws01"]
    await world.running()
    status = world.status()
    where = Desktop(unix=f"/{world.place.of('ws01').handle.nonce}")
    assert (status.desktop, status.kind, status.place, status.want) == (where, "xfce", "local", Want.UP)
    assert world.launcher.located() == {"ws01": where}
    assert await world.launcher.stop_desktops(["ws01"]) == ["ws01"]
    assert (world.state(), world.launcher.located()) == (STOPPING, {})
    await asyncio.sleep(1)
    assert (world.state(), world.status().reason) == (STOPPED, "stopped by the organizers")
    assert (world.place.running, world.store.files) == ({}, {})


async def test_eager_starts_with_the_daemon(world):
    await world.start(settings(policy="eager"), roster("ws01", "ws02"))
    await world.running("ws01", "ws02")
    assert world.place.started == ["ws01", "ws02"]


async def test_on_demand_starts_when_the_page_is_opened(world):
    await world.start(settings(), roster("ws01", "ws02"))
    await asyncio.sleep(10)
    assert world.states() == {STOPPED}
    for _ in range(3):
        world.launcher.visit("ws01")
    await world.running()
    world.launcher.visit("ws01")
    world.launcher.visit("nobody")
    await asyncio.sleep(10)
    assert world.place.started == ["ws01"]
    assert world.state("ws02") is STOPPED


async def test_an_account_s_own_policy_goes_before_its_kind_s(world):
    known, (manual,) = settings(policy="eager"), roster("ws02", policy="manual").accounts
    await world.start(known, Roster((account("ws01"), manual)))
    await world.running("ws01")
    world.launcher.visit("ws02")
    await asyncio.sleep(60)
    assert world.state("ws02") is STOPPED
    world.launcher.apply(roster("ws01", "ws02"))
    await world.running("ws02")


@pytest.mark.parametrize(("policy", "after"), [("manual", STOPPED), ("on_demand", RUNNING), ("eager", RUNNING)])
async def test_a_participant_who_asks_again_gets_one_where_that_is_theirs_to_ask(world, policy, after):
    await world.start(settings(policy=policy), roster("ws01"))
    await world.running() if policy == "eager" else None
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(1)
    world.launcher.retry("nobody")
    world.launcher.retry("ws01")
    await asyncio.sleep(5)
    assert world.state() is after
    await world.launcher.restart_desktops(["ws01"])
    world.place.refuse = "no such image"
    await asyncio.sleep(10)
    assert world.state() is FAILED
    world.place.refuse = None
    world.launcher.retry("ws01")  # what failed, everybody may try again
    await world.running()


async def test_running_is_what_can_be_logged_in_to(world):
    await world.start(settings(), roster("ws01"))
    right = world.place.login
    logged_in = asyncio.Event()

    async def login(account):
        assert account.desktop is not None
        await logged_in.wait()
        await right(account)

    world.place.login = login
    await world.restart()
    world.launcher.visit("ws01")
    await asyncio.sleep(30)
    assert (world.state(), world.launcher.located()) == (STARTING, {})
    logged_in.set()
    await asyncio.sleep(1)
    assert world.state() is RUNNING


async def test_an_account_with_a_desktop_of_its_own_is_none_of_ours(world):
    fixed = dataclasses.replace(account("ws02"), desktop=Desktop("node01", 5901))
    await world.start(settings(policy="eager"), Roster((account("ws01"), fixed)))
    await world.running()
    assert [status.account for status in world.launcher.statuses()] == ["ws01"]
    assert world.status("ws02") is None
    assert world.launcher.password("ws02") is None
    with pytest.raises(ControlError, match="no desktop is started for: ws02, ws09"):
        await world.launcher.start_desktops(["ws01", "ws02", "ws09"])
    # It gets one of its own: that of ours ends.
    world.launcher.apply(Roster((dataclasses.replace(fixed, name="ws01"),)))
    await asyncio.sleep(1)
    assert (world.launcher.statuses(), world.place.running, world.store.files) == ([], {}, {})


async def test_a_desktop_that_is_elsewhere_is_logged_in_to_there(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    logins, elsewhere = world.place.calls["login"], Desktop(unix="/elsewhere")
    desktop = world.place.of("ws01")
    desktop.sighting = Sighting(Seen.RUNNING, elsewhere)
    world.place.running["elsewhere"] = desktop
    await world.until(lambda: world.launcher.located() == {"ws01": elsewhere})
    assert world.place.calls["login"] == logins + 1
    del world.place.running["elsewhere"]


# The end of the workshop


async def test_the_workshop_ends_when_a_clock_says_so_that_was_set_meanwhile(world):
    await world.start(settings(general={"end": datetime.fromtimestamp(EPOCH + 7200, UTC).isoformat()}), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    loop = asyncio.get_running_loop()
    world.launcher._all = dataclasses.replace(world.launcher._all, wall_clock=lambda: EPOCH + 3600 + loop.time())
    await asyncio.sleep(3600 + CLOCK_LOOK)
    assert (world.state(), world.status().reason) == (STOPPED, "the workshop is over")


async def test_the_workshop_ends(world):
    end = datetime.fromtimestamp(EPOCH + 7200, UTC)
    names = ("ws01", "ws02")
    await world.start(settings(general={"end": end.isoformat()}, policy="eager"), roster(*names))
    await world.running(*names)
    await asyncio.sleep(6800)
    assert (world.status().ends, world.status().is_ending) == (EPOCH + 7200, False)
    await asyncio.sleep(200)
    assert (world.status().ends, world.status().is_ending) == (EPOCH + 7200, True)
    await asyncio.sleep(210)
    assert world.states() == {STOPPED}
    assert world.status().reason == "the workshop is over"
    assert (world.place.running, world.store.files) == ({}, {})
    with pytest.raises(ControlError, match="the workshop is over"):
        await world.launcher.start_desktops(["ws01"])
    world.launcher.visit("ws01")
    world.launcher.retry("ws01")
    await asyncio.sleep(10)
    assert len(world.place.started) == 2
    world.launcher.apply(roster(*names, "ws03"))
    await world.restart()
    await asyncio.sleep(60)
    assert world.states() == {STOPPED}
    assert len(world.place.started) == 2


async def test_pools_end_with_the_workshop(world):
    end = datetime.fromtimestamp(EPOCH + 600, UTC)
    await world.start(settings(general={"end": end.isoformat()}, policy="pool", pool=2), roster("ws01"))
    await asyncio.sleep(500)
    world.launcher.visit("ws01")
    await asyncio.sleep(50)
    assert len(world.place.running) == 3
    await asyncio.sleep(60)
    world.launcher.visit("ws01")
    await asyncio.sleep(10)
    world.launcher.apply(roster("ws01", "ws02"))
    await asyncio.sleep(60)
    assert (world.place.running, world.store.files, len(world.place.started)) == ({}, {}, 3)


async def test_a_daemon_that_starts_after_the_workshop_ends_what_is_left(world):
    await world.start(settings(policy="eager"), roster("ws01"))
    await world.running()
    await world.launcher.aclose()
    await asyncio.sleep(10)
    await world.start(settings(general={"end": datetime.fromtimestamp(EPOCH, UTC).isoformat()}, policy="eager"))
    await asyncio.sleep(1)
    assert (world.state(), world.place.running) == (STOPPED, {})


# What is told, and who is not troubled


async def test_a_defect_of_a_place_fails_that_desktop_alone(world, caplog):
    await world.start(settings(), roster("ws01", "ws02"))
    submit = world.place.submit

    async def broken(spec):
        if spec.account == "ws01":
            raise ZeroDivisionError("a defect")
        return await submit(spec)

    world.place.submit = broken
    await world.launcher.start_desktops(["*"])
    await world.running("ws02")
    await asyncio.sleep(60)
    assert (world.state(), world.state("ws02")) == (FAILED, RUNNING)
    assert world.status().reason == "the desktop could not start; the gate's log says why"
    assert "ZeroDivisionError" in caplog.text
    assert len(world.store.files) == 1


async def test_a_place_that_hangs_for_one_delays_no_other(world):
    await world.start(settings(), roster("ws01", "ws02"))
    await world.launcher.start_desktops(["*"])
    await world.running("ws01", "ws02")
    query, stuck = world.place.query, world.place.of("ws01").handle.nonce

    async def hanging(handle):
        if handle.nonce == stuck:
            await asyncio.sleep(100_000)
        return await query(handle)

    world.place.query = hanging
    await asyncio.sleep(10)
    world.place.die("ws02")
    await asyncio.sleep(10)
    assert len(world.place.started) == 3
    assert world.state("ws02") is RUNNING


async def test_news_are_told_once_a_turn_and_only_when_something_is_new(world):
    await world.start(settings(), roster("ws01", "ws02"))
    await asyncio.sleep(1)
    world.told.clear()
    await world.launcher.start_desktops(["*"])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.told == [{"ws01", "ws02"}]
    await world.running("ws01", "ws02")
    await asyncio.sleep(1)
    world.told.clear()
    await asyncio.sleep(3600)
    assert world.told == []


async def test_no_password_is_told_or_kept(world, caplog):
    caplog.set_level("DEBUG")
    await world.start(settings(policy="pool", pool=1), roster("ws01", password="hunter22"))
    await ready_in_pool(world, 1)
    world.launcher.visit("ws01")
    await world.running()
    world.launcher.apply(roster("ws01", password="hunter33"))
    await asyncio.sleep(5)
    everything = f"{caplog.text} {world.store.files} {world.launcher.statuses()} {world.told}"
    assert "hunter" not in everything
    assert "random" not in everything


async def test_nothing_is_done_any_more_once_it_is_closed(world):
    await world.start(settings(policy="eager"), roster("ws01"))
    await world.running()
    await world.launcher.aclose()
    assert world.place.calls["aclose"] == 1
    queries = world.place.calls["query"]
    await asyncio.sleep(600)
    assert world.place.calls["query"] == queries
    assert len(world.place.running) == 1
    with pytest.raises(ControlError, match="the gate is being stopped"):
        await world.launcher.stop_desktops(["ws01"])


async def test_a_place_that_does_not_let_go_holds_up_no_end(world, caplog):
    await world.start(settings(), roster("ws01"))

    async def hanging():
        await asyncio.sleep(100_000)

    world.place.aclose = hanging
    await asyncio.wait_for(world.launcher.aclose(), 5)
    assert "a place did not let go within 1 s" in caplog.text


async def test_commands_that_race_with_changes_of_the_roster_leave_nothing_behind(world):
    await world.start(settings(policy="eager"), roster("ws01", "ws02"))
    for delay in (0.0, 0.005, 0.02, 0.03, 0.5, 1.0, 1.2):
        world.launcher.apply(roster("ws01", "ws02"))
        await world.launcher.restart_desktops(["ws01"])
        await asyncio.sleep(delay)
        world.launcher.apply(roster("ws02"))
        with contextlib.suppress(ControlError):
            await world.launcher.start_desktops(["ws01"])
        await asyncio.sleep(GRACE + 5)
        assert [desktop.spec.account for desktop in world.place.running.values()] == ["ws02"]
        assert len(world.store.files) == 1


# Accounts that go and come


async def test_an_account_that_is_back_in_time_has_lost_nothing(world, caplog):
    await world.start(settings(policy="eager"), roster("ws01", "ws02"))
    await world.running("ws01", "ws02")
    before = world.place.of("ws01")
    world.launcher.apply(roster("ws02"))
    assert (world.status("ws01"), list(world.launcher.located())) == (None, ["ws02"])
    assert "the account is not in the token file any more: its desktop is ended within 60 s" in caplog.text
    (left,) = world.launcher.spares()
    assert (left.account, left.state, left.reason) == ("ws01", RUNNING, caplog.messages[-1])
    await asyncio.sleep(GRACE - 1)
    world.launcher.apply(roster("ws01", "ws02", password="better"))
    assert list(world.launcher.located()) == ["ws01", "ws02"]
    await asyncio.sleep(2 * GRACE)
    assert (world.place.of("ws01"), before.password, world.status().reason) == (before, "better", "")
    assert (len(world.place.started), world.launcher.spares()) == (2, [])


async def test_an_account_that_stays_away_loses_its_desktop(world):
    await world.start(settings(policy="eager"), roster("ws01", "ws02", "ws03"))
    await world.running("ws01", "ws02", "ws03")
    world.launcher.apply(roster("ws03"))
    await asyncio.sleep(1)
    assert await world.launcher.stop_desktops(["ws02"]) == ["ws02"]  # who knows better need not wait
    await asyncio.sleep(1)
    assert [status.account for status in world.launcher.spares()] == ["ws01"]
    await asyncio.sleep(GRACE)
    assert ([each.spec.account for each in world.place.running.values()], world.launcher.spares()) == (["ws03"], [])
    assert len(world.store.files) == 1


async def test_one_that_dies_while_its_account_is_away_is_not_started_again(world):
    await world.start(settings(policy="eager"), roster("ws01", "ws02"))
    await world.running("ws01", "ws02")
    world.launcher.apply(roster("ws02"))
    world.place.die("ws01")
    await asyncio.sleep(30)
    assert (world.place.started, world.launcher.spares()) == (["ws01", "ws02"], [])


@pytest.mark.parametrize("moment", [0.0, 0.005, 1.0, 5.0])
async def test_an_account_never_has_two_desktops_at_the_same_time(world, moment):
    await world.start(settings(policy="eager"), roster("ws01", "ws02"))
    await world.running("ws01", "ws02")
    right = world.place.cancel

    async def slow(handle):
        await asyncio.sleep(8)  # its session does not want to end
        await right(handle)

    world.place.cancel = slow
    world.launcher.apply(roster("ws02"))
    await asyncio.sleep(GRACE + moment)
    world.launcher.apply(roster("ws01", "ws02"))
    await asyncio.sleep(5)
    world.place.of("ws01")  # no more than one
    await world.until(lambda: world.place.started == ["ws01", "ws02", "ws01"])
    await world.running("ws01")
    assert len(world.place.running) == len(world.store.files) == 2


async def test_what_is_under_way_at_a_place_holds_up_no_end(world, caplog):
    await world.start(settings(), roster("ws01"))
    hangs = asyncio.Event()

    async def hanging(spec):
        try:
            await asyncio.sleep(100_000)
        finally:
            await hangs.wait()

    world.place.submit = hanging
    world.launcher.visit("ws01")
    await asyncio.sleep(1)
    await asyncio.wait_for(world.launcher.aclose(), 3)
    assert "what was asked of a place did not end within 1 s" in caplog.text
    hangs.set()


# A workshop that is not open


async def test_while_it_is_shut_only_an_operator_starts_desktops(world):
    await world.start(settings(policy="eager"), roster())
    world.launcher.shut(on=True)
    world.launcher.apply(roster("ws01", "ws02"))
    world.launcher.visit("ws01")
    world.launcher.retry("ws01")
    await asyncio.sleep(10)
    assert world.states() == {STOPPED}
    await world.launcher.start_desktops(["ws02"])
    await world.running("ws02")
    assert world.place.started == ["ws02"]
    world.launcher.shut(on=False)
    await world.running("ws01", "ws02")


async def test_while_it_is_shut_nobody_starts_one_by_opening_its_page_and_no_pool_is_filled(world):
    await world.start(settings(policy="pool", pool=2), roster())
    world.launcher.shut(on=True)
    world.launcher.apply(roster("ws01"))
    world.launcher.visit("ws01")
    await asyncio.sleep(60)
    assert len(world.place.started) == 2, "which it has"
    await world.launcher.stop_desktops(["pool:*"])
    await asyncio.sleep(60)
    world.launcher.visit("ws01")
    await asyncio.sleep(60)
    assert world.state() is STOPPED
    world.launcher.shut(on=False)
    world.launcher.visit("ws01")
    await world.running("ws01")


async def test_those_that_are_there_stay_and_are_told_why_they_end(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running("ws01")
    world.launcher.shut(on=True)
    await asyncio.sleep(60)
    assert world.state() is RUNNING
    await world.launcher.stop_desktops(["ws01"], "the workshop is over")
    await asyncio.sleep(5)
    assert (world.state(), world.status().told) == (STOPPED, "the workshop is over")
