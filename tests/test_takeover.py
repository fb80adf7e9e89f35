"""The daemon is killed and started again: desktops are found, none is started twice, none is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakeplace import World, roster, settings
from vncgate.launcher import GRACE, Launcher
from vncgate.launchers.base import Seen, Sighting
from vncgate.model import DesktopState, Want
from vncgate.store import Store

STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


@pytest.mark.virtual_time
@pytest.mark.parametrize("lag", [0.0, 1.0])
@pytest.mark.parametrize("policy", ["manual", "on_demand", "eager"])
async def test_a_daemon_that_is_killed_at_any_moment_of_a_start_starts_none_twice(world, policy, lag):
    """Whatever the moment: afterwards there is one desktop at most, the new daemon knows it, and it runs."""
    world.place.lag = lag
    for moment in [*range(0, 60, 1), *range(60, 2700, 40)]:
        world.place.started.clear()
        await world.start(settings(policy=policy), roster("ws01"))
        if policy != "eager":
            await world.launcher.start_desktops(["ws01"])
        await asyncio.sleep(moment / 1000)
        await world.launcher.aclose()
        there, known = list(world.place.running), list(world.store.files)
        assert set(there) <= set(known), moment
        await world.start()
        if known or policy == "eager":
            await world.running()
        assert len(world.place.running) == len(world.store.files) <= 1, moment
        assert not there or list(world.place.running) == there, moment
        assert world.place.started.count("ws01") <= 1, moment
        await world.launcher.stop_desktops(["ws01"])
        await asyncio.sleep(1)
        assert (world.place.running, world.store.files) == ({}, {}), moment
        await world.launcher.aclose()
    await world.start()


@pytest.mark.virtual_time
async def test_the_next_daemon_leads_browsers_to_where_they_were(world):
    """From its first moment, and while the place says nothing: else those who are connected would be sent away."""
    await world.start(settings(), roster("ws01", "ws02"))
    await world.launcher.start_desktops(["ws01", "ws02"])
    await world.running("ws01", "ws02")
    where = world.launcher.located()
    assert where.keys() == {"ws01", "ws02"}
    world.place.silent = True
    await world.restart()
    assert world.launcher.located() == where
    await asyncio.sleep(60)
    assert world.launcher.located() == where
    world.place.die("ws02")
    world.place.silent = False
    await world.until(lambda: "ws02" not in world.launcher.located())
    await world.running("ws01")
    assert world.launcher.located()["ws01"] == where["ws01"]


@pytest.mark.virtual_time
async def test_a_desktop_that_ran_is_not_ended_because_the_next_daemon_cannot_log_in(world):
    """Its server may be busy; but its place says that it is there, and so is somebody's work."""
    await world.start(settings({"local": {"type": "local", "start_timeout": 5.0}}), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    world.place.refuses_logins = True
    await world.restart()
    await asyncio.sleep(600)
    assert world.state() is STARTING
    assert "refused the connection" in world.status().reason
    assert world.launcher.located().keys() == {"ws01"}
    world.place.refuses_logins = False
    await world.running()
    assert (world.place.started, world.place.calls["cancel"]) == (["ws01"], 0)


@pytest.mark.virtual_time
async def test_who_is_not_seen_is_not_taken_for_idle(world):
    """The daemon before was killed, and people are connected through workers of its that nobody hears of any more."""
    await world.start(settings(idle_timeout=60.0), roster("ws01", "ws02"))
    await world.launcher.start_desktops(["ws01", "ws02"])
    await world.running("ws01", "ws02")
    world.is_blind = True
    await world.restart()
    await world.running("ws01", "ws02")
    world.launcher.used("ws01", asyncio.get_running_loop().time())  # who is seen once can be idle again
    await asyncio.sleep(600)
    assert (world.state("ws01"), world.state("ws02")) == (STOPPED, RUNNING)
    assert world.status("ws02").idle_end is None


@pytest.mark.virtual_time
@pytest.mark.parametrize(("policy", "tries"), [("on_demand", 3), ("eager", 3), ("manual", 1)])
async def test_a_session_that_ends_at_once_is_no_desktop(world, policy, tries):
    """A command that does not exist, say: a login may come before its end."""
    await world.start(settings(policy=policy), roster("ws01"))
    await world.launcher.start_desktops(["ws01"])
    for _ in range(tries):
        await world.until(lambda: world.state() in (RUNNING, FAILED), limit=120)
        if world.state() is RUNNING:
            world.place.of("ws01").sighting = Sighting(Seen.GONE, exit_status=127)
            await world.until(lambda: world.state() is not RUNNING)
    await world.until(lambda: world.state() is FAILED)
    assert len(world.place.started) == tries


@pytest.mark.virtual_time
async def test_who_waits_in_line_is_not_forgotten_by_the_next_daemon(world):
    names = [f"ws{number:02}" for number in range(20)]
    await world.start(settings({"local": {"type": "local", "starts_at_once": 1}}), roster(*names, "other"))
    for name in reversed(names):
        world.launcher.visit(name)
        await asyncio.sleep(0.001)
    await asyncio.sleep(3)
    await world.launcher.stop_desktops(["ws05"])
    await asyncio.sleep(1)
    for _ in range(3):
        await world.restart()
        await asyncio.sleep(2)
    await world.running(*(set(names) - {"ws05"}))
    assert world.place.started == [name for name in reversed(names) if name != "ws05"]
    assert (world.state("ws05"), world.state("other")) == (STOPPED, STOPPED)
    assert len(world.store.files) == 19


@pytest.mark.virtual_time
async def test_who_waits_for_another_try_is_not_forgotten_by_the_next_daemon(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    world.place.die("ws01")
    await world.until(lambda: world.state() is REQUESTED)
    await asyncio.sleep(0.1)
    await world.restart()
    await world.running()
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(1)
    await world.restart()
    await asyncio.sleep(60)
    assert (world.state(), world.store.files) == (STOPPED, {})


@pytest.mark.virtual_time
async def test_a_daemon_that_is_killed_while_it_ends_a_desktop_ends_it(world):
    for moment in range(25):
        await world.start(settings(), roster("ws01"))
        world.launcher.visit("ws01")
        await world.running()
        await world.launcher.stop_desktops(["ws01"])
        await asyncio.sleep(moment / 1000)
        await world.launcher.aclose()
        was_kept = '"want": "up"' in str(world.store.files)
        await world.start()
        await asyncio.sleep(2)
        if was_kept:  # the wish was not on disk yet
            assert world.state() is RUNNING
            await world.launcher.stop_desktops(["ws01"])
            await asyncio.sleep(1)
        assert (world.state(), world.place.running, world.store.files) == (STOPPED, {}, {}), moment
        await world.launcher.aclose()
    await world.start()


@pytest.mark.virtual_time
@pytest.mark.parametrize(("policy", "after"), [("manual", FAILED), ("on_demand", RUNNING), ("eager", RUNNING)])
async def test_what_died_while_no_daemon_ran_goes_by_its_policy(world, policy, after):
    await world.start(settings(policy=policy), roster("ws01"))
    await world.launcher.start_desktops(["ws01"])
    await world.running()
    await world.launcher.aclose()
    world.place.die("ws01")
    await world.start()
    await asyncio.sleep(30)
    assert world.state() is after


@pytest.mark.virtual_time
async def test_desktops_of_accounts_that_left_meanwhile_are_ended(world):
    await world.start(settings(), roster("ws01", "ws02"))
    await world.launcher.start_desktops(["*"])
    await world.running("ws01", "ws02")
    await world.launcher.aclose()
    await world.start(accounts=roster("ws02"))
    await world.running("ws02")
    await asyncio.sleep(GRACE - 10)
    assert len(world.place.running) == 2
    await asyncio.sleep(12)
    assert [desktop.spec.account for desktop in world.place.running.values()] == ["ws02"]
    assert len(world.store.files) == 1


@pytest.mark.virtual_time
async def test_an_account_that_is_back_under_the_next_daemon_has_its_desktop(world):
    await world.start(settings(), roster("ws01", "ws02"))
    await world.launcher.start_desktops(["*"])
    await world.running("ws01", "ws02")
    before = world.place.of("ws01")
    world.launcher.apply(roster("ws02"))
    await world.launcher.aclose()
    await world.start()
    world.launcher.apply(roster("ws02"))
    await asyncio.sleep(GRACE - 10)
    world.launcher.apply(roster("ws01", "ws02"))
    await world.running("ws01")
    await asyncio.sleep(GRACE)
    assert (world.place.of("ws01"), before.password, len(world.place.started)) == (before, "secret", 2)


@pytest.mark.virtual_time
async def test_nothing_is_ended_before_the_roster_is_known(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await world.launcher.aclose()
    launcher = Launcher(
        world.configured, world.places, store=world.store, login=world.place.login, changed=world.told.append
    )
    await launcher.start()
    await asyncio.sleep(600)
    await launcher.aclose()
    assert len(world.place.running) == 1


@pytest.mark.virtual_time
async def test_a_place_that_is_not_in_the_settings_any_more_keeps_its_desktops(world, caplog):
    world.places["far"] = world.place
    await world.start(settings({"far": {"type": "docker"}}, place="far", image="x"), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    for name in world.store.files:
        world.store.files[name] = world.store.files[name].replace('"local"', '"far"')
    await world.launcher.aclose()
    del world.places["far"]
    await world.start(settings(), roster("ws01"))
    await asyncio.sleep(600)
    assert (world.state(), world.status().reason) == (REQUESTED, "its place far is not in the settings")
    assert "its place far is not in the settings" in caplog.text
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(600)
    assert (len(world.place.running), len(world.store.files)) == (1, 1)
    assert world.state() is STOPPING


# Why there is none any more


@pytest.mark.virtual_time
@pytest.mark.parametrize(("policy", "after"), [("manual", FAILED), ("on_demand", FAILED), ("eager", RUNNING)])
async def test_why_one_has_failed_is_known_to_the_next_daemon(world, policy, after):
    world.place.refuse = "no such image: xfce.sif"
    await world.start(settings(policy=policy), roster("ws01", "ws02"))
    await world.launcher.start_desktops(["ws01"])
    await world.until(lambda: world.state() is FAILED)
    since = world.status().since
    world.place.refuse = None
    for _ in range(2):
        await world.restart()
        await asyncio.sleep(60)
        assert world.state() is after  # with every daemon an eager one is tried anew
    if after is FAILED:
        status = world.status()
        assert (status.reason, status.want) == ("no such image: xfce.sif", Want.UP)
        assert status.since == pytest.approx(since, abs=1)
        world.launcher.visit("ws01")
        await asyncio.sleep(10)
        assert world.state() is FAILED, "somebody must ask for it in so many words"
        await world.launcher.start_desktops(["ws01"])
        await world.running()
        await world.restart()
        await world.running()
        assert world.status().reason == ""


@pytest.mark.virtual_time
async def test_a_failure_says_nothing_of_what_is_not_the_same_any_more(world):
    world.place.refuse = "no such image: xfce.sif"
    await world.start(settings(), roster("ws01"))
    await world.launcher.start_desktops(["ws01"])
    await world.until(lambda: world.state() is FAILED)
    await world.launcher.aclose()
    await world.start(settings(command="startplasma"))
    assert (world.state(), world.status().reason) == (STOPPED, "")


@pytest.mark.virtual_time
async def test_why_one_was_ended_is_known_to_the_next_daemon(world):
    await world.start(settings(idle_timeout=600.0), roster("ws01", "ws02", "ws03"))
    await world.launcher.start_desktops(["*"])
    await world.running("ws01", "ws02", "ws03")
    await world.launcher.stop_desktops(["ws02"])
    await asyncio.sleep(700)
    await world.restart()
    reasons = [status.reason for status in world.launcher.statuses()]
    assert reasons == ["nobody used it for 10 min", "stopped by the organizers", "nobody used it for 10 min"]
    assert world.states() == {STOPPED}
    # What somebody stops that has failed has not failed any more.
    world.place.refuse = "no such image"
    await world.launcher.start_desktops(["ws03"])
    await world.until(lambda: world.state("ws03") is FAILED)
    await world.launcher.stop_desktops(["ws03"])
    await asyncio.sleep(1)
    world.launcher.apply(roster("ws02", "ws03"))
    await world.launcher.aclose()
    await world.start(accounts=roster("ws02", "ws03"))
    assert world.states() == {STOPPED}
    await asyncio.sleep(1)
    assert world.store.ended.keys() == {"ws02", "ws03"}, "nothing is kept of an account that is gone"


@pytest.mark.virtual_time
async def test_a_daemon_that_is_killed_while_it_ends_one_leaves_the_reason(world):
    await world.start(settings(idle_timeout=600.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await asyncio.sleep(590)
    await world.until(lambda: world.state() is STOPPING)
    world.place.silent = True
    await asyncio.sleep(5)
    await world.restart()
    world.place.silent = False
    await world.until(lambda: world.state() is STOPPED)
    assert world.status().reason == "nobody used it for 10 min"


@pytest.mark.virtual_time
async def test_an_end_that_cannot_be_written_is_an_end(world, caplog):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    world.store.broken = OSError(28, "No space left on device")
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(1)
    assert (world.state(), world.place.running) == (STOPPED, {})
    assert "/memory cannot be written: No space left on device" in caplog.text
    assert world.status().reason == "stopped by the organizers"


@pytest.mark.virtual_time
async def test_an_end_that_the_next_daemon_does_not_know_of_is_told(world, caplog):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    world.store.broken = world.store.stuck = OSError(30, "Read-only file system")
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(1)
    words = "the gate starts it again when it is itself started anew"
    assert (world.state(), world.place.running) == (STOPPED, {})
    assert world.status().reason.startswith(f"stopped by the organizers; but {words}, for it cannot forget it: /memory")
    assert world.status().told == "stopped by the organizers"
    assert words in caplog.text


async def test_a_daemon_is_killed_and_the_next_finds_all_and_leaves_no_file_behind(tmp_path):
    world = World()
    world.store = Store(tmp_path / "desktops")
    world.place.boot = 0.01
    names = [f"ws{number}" for number in range(10)]
    await world.start(settings(policy="on_demand"), roster(*names))
    for name in names:
        world.launcher.visit(name)
    await world.running(*names)
    assert len(list(world.store.folder.iterdir())) == 10
    await world.restart()
    await world.running(*names)
    assert len(world.place.started) == 10
    world.place.die("ws1")
    await world.launcher.restart_desktops(["ws2"])
    await world.launcher.stop_desktops(["ws3"])
    await asyncio.sleep(0.1)
    await world.running(*(set(names) - {"ws3"}))
    await world.launcher.stop_desktops(["*"])
    await world.until(lambda: world.states() == {DesktopState.STOPPED})
    assert {path.name for path in world.store.folder.iterdir()} == {f"{name}.ended" for name in names}
    await world.launcher.aclose()
