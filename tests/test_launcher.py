"""Policies, restarts and ends of desktops, on a fake place and in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from datetime import UTC, datetime

import pytest

from tests.fakeplace import EPOCH, World, account, roster, settings
from vncgate.desktop_life import START_TRIES
from vncgate.errors import ControlError, LaunchError
from vncgate.kinds import DesktopsSettings
from vncgate.launcher import Launcher
from vncgate.launchers.base import Seen, Sighting
from vncgate.model import Desktop, DesktopState, Roster, Secret, Want

pytestmark = pytest.mark.virtual_time

STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.launcher.aclose()


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


# Starts: bounded, in line, failed


async def test_a_storm_is_served_first_come_first_served_and_bounded(world):
    names = [f"ws{number:03}" for number in range(200)]
    await world.start(settings({"local": {"type": "local", "starts_at_once": 5}}), roster(*names))
    late_first = names[100:] + names[:100]
    for name in late_first:
        world.launcher.visit(name)
    await asyncio.sleep(0.5)
    in_line = [world.status(name) for name in late_first[5:]]
    assert [each.reason for each in in_line[:4]] == ["1st in line", "2nd in line", "3rd in line", "4th in line"]
    assert {each.state for each in in_line} == {REQUESTED}
    await world.until(lambda: world.states() == {RUNNING}, 120, step=1.0)
    moved = [abs(late_first.index(name) - index) for index, name in enumerate(world.place.started)]
    assert max(moved) < 5  # those whose turn it is at the same time race
    assert len(moved) == 200
    assert world.place.peak == 5
    assert world.place.calls["submit"] == 200
    # One that starts is asked twice a second, one that runs every 3 s: never more than that.
    assert world.place.calls["query"] < 200 * (4 + 60 / 3)
    assert len(world.told) < asyncio.get_running_loop().time() * 100


async def test_positions_move_and_whoever_waits_is_told(world):
    await world.start(settings({"local": {"type": "local", "starts_at_once": 1}}), roster("ws01", "ws02", "ws03"))
    await world.launcher.start_desktops(["*"])
    await asyncio.sleep(0.1)
    assert world.status("ws03").reason == "2nd in line"
    world.told.clear()
    await world.running("ws01")
    await asyncio.sleep(0.1)
    assert world.status("ws03").reason == "1st in line"
    assert any("ws03" in names for names in world.told)
    await world.launcher.stop_desktops(["ws03"])
    await asyncio.sleep(20)
    assert world.place.started == ["ws01", "ws02"]
    assert world.state("ws03") is STOPPED


async def test_no_more_are_there_at_the_same_time_than_may_be(world):
    await world.start(settings({"local": {"type": "local", "most": 2}}, policy="eager"), roster("ws01", "ws02", "ws03"))
    await world.running("ws01", "ws02")
    await asyncio.sleep(10)
    assert world.status("ws03").reason == "1st in line: 2 desktops are there, and no more may be"
    await world.launcher.stop_desktops(["ws01"])
    await world.running("ws03")
    assert len(world.place.running) == 2
    await world.restart()
    await asyncio.sleep(10)
    assert (len(world.place.running), len(world.place.started)) == (2, 3)


async def test_jobs_in_a_places_own_queue_hold_up_nobody(world):
    world.places["cluster"] = world.place
    world.place.hold = True
    places = {"cluster": {"type": "slurm", "folder": "/shared", "starts_at_once": 2}}
    await world.start(settings(places, place="cluster", policy="eager"), roster(*(f"ws{n}" for n in range(20))))
    await world.until(lambda: world.states() == {PENDING}, 20)
    assert (world.status("ws7").reason, world.status("ws7").starts) == ("Resources", None)
    world.place.of("ws7").sighting = Sighting(Seen.PENDING, reason="Priority", starts=EPOCH + 600)
    await asyncio.sleep(4)
    assert (world.status("ws7").reason, world.status("ws7").starts) == ("Priority", EPOCH + 600)
    world.place.of("ws7").sighting = None
    world.place.hold = False
    await world.until(lambda: world.states() == {RUNNING}, 20)
    assert world.status("ws7").starts is None


async def test_new_desktops_go_where_there_are_fewest(world):
    world.place.hosts = ("node1", "node2", "node3")
    await world.start(settings(policy="eager"), roster(*(f"ws{n}" for n in range(9))))
    await world.until(lambda: world.states() == {RUNNING})
    hosts = [desktop.handle.host for desktop in world.place.running.values()]
    assert {host: hosts.count(host) for host in hosts} == {"node1": 3, "node2": 3, "node3": 3}
    assert world.status("ws0").host in world.place.hosts


async def test_a_host_that_is_down_does_not_attract_every_start(world):
    world.place.hosts = ("down", "node1", "node2")
    submit = world.place.submit

    async def refusing(spec):
        if spec.host == "down":
            raise LaunchError("down: no route to host")
        return await submit(spec)

    world.place.submit = refusing
    names = [f"ws{number}" for number in range(40)]
    await world.start(settings(policy="eager"), roster(*names))
    await world.running(*names)
    assert not any(status.reason for status in world.launcher.statuses())


async def test_a_stop_wins_over_a_turn_that_comes_at_the_same_time(world):
    await world.start(settings({"local": {"type": "local", "starts_at_once": 1}}), roster("ws01", "ws02"))
    for _ in range(3):
        await world.launcher.start_desktops(["ws01", "ws02"])
        await world.launcher.stop_desktops(["ws02"])
        await world.running("ws01")
        assert world.state("ws02") is STOPPED
        await world.launcher.restart_desktops(["*"])
        await world.launcher.stop_desktops(["*"])
        await asyncio.sleep(1)
        assert world.states() == {STOPPED}
    assert world.place.started == ["ws01"] * 3


async def test_a_failed_start_says_what_the_place_said_and_is_given_up(world, caplog):
    world.place.refuse = "no such partition: gpuu"
    await world.start(settings(), roster("ws01", "ws02"))
    world.launcher.visit("ws01")
    await asyncio.sleep(0.5)
    assert (world.state(), world.status().want) == (REQUESTED, Want.UP)
    assert world.status().reason == "no such partition: gpuu; trying again in 1 s"
    await asyncio.sleep(60)
    assert (world.state(), world.status().reason) == (FAILED, "no such partition: gpuu")
    assert world.place.calls["submit"] == START_TRIES
    assert world.store.files == {}
    assert "no such partition: gpuu; given up: `vncgate desktop start ws01` tries again" in caplog.text
    assert caplog.records[-1].account == "ws01"
    world.place.refuse = None
    world.launcher.visit("ws01")
    await asyncio.sleep(60)
    assert world.state() is FAILED
    await world.launcher.start_desktops(["ws01"])
    await world.running()


async def test_a_place_that_cannot_be_reached_is_a_failed_start_too(world):
    world.place.refuse = world.place.silent = "node7: no route to host"
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await asyncio.sleep(60)
    assert (world.state(), world.status().reason) == (FAILED, "node7: no route to host")


async def test_a_session_that_ends_at_once_tells_its_log(world):
    world.place.boot = 1000
    world.place.log_text = (
        "Xvnc started\n\nxfce4-session: cannot open\x1b[31m display\n/home/ws01: No space left on device\n"
    )
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    for _ in range(START_TRIES):
        await world.until(lambda: world.place.running)
        await asyncio.sleep(1)
        world.place.die("ws01")
        await asyncio.sleep(1)
    await asyncio.sleep(1)
    assert world.state() is FAILED
    assert world.status().reason == (
        r"the session ended: xfce4-session: cannot open\x1b[31m display / /home/ws01: No space left on device"
    )
    # Its files are gone; its log is still shown.
    assert world.place.running == world.store.files == {}
    assert await world.launcher.logs("ws01", 1) == "/home/ws01: No space left on device"
    with pytest.raises(ControlError):
        await world.launcher.logs("ws09")


async def test_one_that_never_answers_is_a_failed_start(world):
    world.place.boot = 10_000
    await world.start(settings({"local": {"type": "local", "start_timeout": 60.0}}), roster("ws01"))
    world.launcher.visit("ws01")
    await asyncio.sleep(59)
    assert world.state() is STARTING
    await asyncio.sleep(2)
    assert "no VNC login within 1 min" in world.status().reason
    await asyncio.sleep(300)
    assert (world.state(), world.place.running) == (FAILED, {})


async def test_too_long_in_the_queue_is_given_up(world):
    world.places["cluster"] = world.place
    world.place.hold = True
    places = {"cluster": {"type": "slurm", "folder": "/shared", "queue_timeout": 7200.0}}
    await world.start(settings(places, place="cluster"), roster("ws01"))
    world.launcher.visit("ws01")
    await asyncio.sleep(7190)
    assert world.state() is PENDING
    await asyncio.sleep(30)
    assert (world.state(), world.status().reason) == (FAILED, "still in the queue of cluster after 2 h: Resources")
    assert (world.place.calls["submit"], world.place.running) == (1, {})


async def test_a_disk_that_is_full_starts_nothing(world):
    world.store.broken = OSError(28, "No space left on device")
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await asyncio.sleep(60)
    assert (world.state(), world.place.calls["submit"]) == (FAILED, 0)
    assert world.status().reason == "the gate cannot write /memory: No space left on device"


@pytest.mark.parametrize(
    ("configured", "kind", "size", "words"),
    [
        (DesktopsSettings(), "", "", "[desktops.kinds.NAME] is missing"),
        (settings(), "kde", "", "no kind of desktop 'kde', only xfce"),
        (settings(), "", "huge", "kind xfce has no size 'huge' (its sizes: none)"),
        (
            settings(kinds={"a": {"command": "a"}, "b": {"command": "b"}}),
            "",
            "",
            "no kind of desktop is chosen: write desktop=KIND in the account's line (a, b)",
        ),
        (settings({"far": {"type": "docker"}}, place="far", image="x"), "", "", "its place far is not there"),
    ],
)
async def test_what_cannot_be_started_says_why(world, configured, kind, size, words):
    await world.start(configured, roster("ws01", kind=kind, size=size))
    await world.launcher.start_desktops(["ws01"])
    await asyncio.sleep(1)
    assert world.state() is FAILED
    assert words in world.status().reason
    assert world.place.started == []


async def test_an_unknown_kind_is_failed_at_once_and_mended_by_the_token_file(world):
    await world.start(settings(policy="eager"), roster("ws01", kind="kde"))
    await asyncio.sleep(1)
    assert world.state() is FAILED
    world.launcher.apply(roster("ws01", kind="xfce"))
    await world.running()


# Ends


@pytest.mark.parametrize("lag", [0.0, 1.0])
async def test_a_stop_wins_at_every_moment_of_a_start(world, lag, caplog):
    await world.start(settings(), roster("ws01"))
    world.place.lag = lag
    for moment in range(0, 1800, 3):
        await world.launcher.start_desktops(["ws01"])
        await asyncio.sleep(moment / 1000)
        await world.launcher.stop_desktops(["ws01"])
        await asyncio.sleep(lag + 0.2)
        assert (world.state(), world.place.running, world.store.files) == (STOPPED, {}, {}), moment
    assert not any(record.levelname == "ERROR" for record in caplog.records)


async def test_a_start_asked_for_while_it_stops_is_not_lost(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    first = world.place.of("ws01").handle.nonce
    await world.launcher.restart_desktops(["ws01"])
    assert (world.state(), world.status().want) == (STOPPING, Want.UP)
    await world.running()
    assert world.place.of("ws01").handle.nonce != first
    await world.launcher.stop_desktops(["ws01"])
    world.launcher.visit("ws01")
    await world.running()
    assert world.place.started == ["ws01"] * 3


async def test_what_cannot_be_ended_is_ended_as_soon_as_it_can(world, caplog):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    world.place.silent = True
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(3600)
    assert world.state() is STOPPING
    assert world.status().reason == "stopped by the organizers; it cannot be ended yet: no answer"
    assert 60 < world.place.calls["cancel"] < 70
    world.place.silent = False
    await asyncio.sleep(61)
    assert (world.state(), world.status().reason) == (STOPPED, "stopped by the organizers")
    assert world.place.running == {}


async def test_an_account_that_is_gone_takes_its_desktop_along(world):
    await world.start(settings(policy="eager"), roster("ws01", "ws02"))
    await world.running("ws01", "ws02")
    kept = world.place.of("ws02").handle
    world.launcher.apply(roster("ws02"))
    await asyncio.sleep(1)
    assert [desktop.handle for desktop in world.place.running.values()] == [kept]
    assert len(world.store.files) == 1
    # It comes back: a new one.
    world.launcher.apply(roster("ws01", "ws02"))
    await world.running("ws01", "ws02")


async def test_a_dead_desktop_comes_back_with_longer_and_longer_waits(world, caplog):
    await world.start(settings(), roster("ws01", "ws02"))
    await world.launcher.start_desktops(["*"])
    await world.running("ws01", "ws02")
    other = world.place.of("ws02").handle
    world.place.log_text = "Fatal server error"
    for wait in (1, 2, 4, 8):
        world.place.die("ws01")
        await world.until(lambda: world.state() is REQUESTED)
        assert world.status().reason == f"the session ended: Fatal server error; trying again in {wait} s"
        await asyncio.sleep(wait - 0.1)
        assert world.state() is REQUESTED
        await world.running()
    assert (world.status().restarts, world.status("ws02").restarts) == (4, 0)
    assert world.place.of("ws02").handle == other
    await world.restart()
    await world.running()
    assert world.status().restarts == 4
    world.place.die("ws01")
    await world.until(lambda: world.state() is REQUESTED)
    world.launcher.visit("ws01")  # a page that is loaded again and again shortens no wait
    await asyncio.sleep(0.5)
    assert world.state() is REQUESTED
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(600)
    assert world.state() is STOPPED


async def test_a_manual_desktop_that_died_waits_for_an_operator(world):
    await world.start(settings(policy="manual"), roster("ws01"))
    await world.launcher.start_desktops(["*"])
    await world.running()
    world.place.of("ws01").sighting = Sighting(Seen.GONE, reason="out of memory", exit_status=137)
    await asyncio.sleep(60)
    assert (world.state(), world.status().reason, world.place.started) == (FAILED, "out of memory", ["ws01"])


@pytest.mark.parametrize(("policy", "after"), [("manual", STOPPED), ("on_demand", STOPPED), ("eager", RUNNING)])
async def test_who_logs_out_gets_no_new_session_unless_it_is_eager(world, policy, after):
    await world.start(settings(policy=policy), roster("ws01"))
    await world.launcher.start_desktops(["ws01"])
    await world.running()
    world.place.of("ws01").sighting = Sighting(Seen.GONE, exit_status=0)
    await asyncio.sleep(30)
    assert world.state() is after
    if after is STOPPED:
        assert (world.status().want, world.status().reason) == (Want.DOWN, "the session ended")
        assert (world.place.running, world.store.files) == ({}, {})
    else:
        assert len(world.place.started) == 2


async def test_silence_ends_nothing(world):
    await world.start(settings(policy="eager"), roster("ws01", "ws02", "ws03"))
    await world.running("ws01", "ws02", "ws03")
    await world.launcher.stop_desktops(["ws03"])
    world.place.boot = 30
    await world.launcher.restart_desktops(["ws02"])
    await world.until(lambda: world.state("ws02") is STARTING)
    world.place.silent = True
    located = world.launcher.located()
    await asyncio.sleep(3600)
    assert (world.state("ws01"), world.state("ws02"), world.state("ws03")) == (RUNNING, STARTING, STOPPED)
    assert {world.status("ws01").reason, world.status("ws02").reason} == {"no answer"}
    assert world.launcher.located() == located
    # Nor does a daemon that finds its places silent start anything a second time.
    await world.restart()
    await asyncio.sleep(3600)
    assert (world.state("ws01"), world.status().reason) == (REQUESTED, "no answer")
    world.place.silent = False
    await world.running("ws01", "ws02")
    assert world.status().reason == ""
    assert world.place.started.count("ws01") == 1
    assert world.place.started.count("ws02") == 2


async def test_silence_counts_towards_no_time_out(world):
    world.places["cluster"] = world.place
    cluster = {"type": "slurm", "folder": "/shared", "queue_timeout": 600.0, "start_timeout": 60.0}
    await world.start(settings({"cluster": cluster}, place="cluster"), roster("ws01"))
    world.place.hold = True
    world.launcher.visit("ws01")
    await asyncio.sleep(500)
    world.place.silent = True
    await asyncio.sleep(3600)
    world.place.silent = False
    await asyncio.sleep(10)
    assert world.state() is PENDING
    world.place.boot = 50
    world.place.hold = False
    await asyncio.sleep(20)
    assert world.state() is STARTING
    world.place.silent = True
    await asyncio.sleep(3600)
    world.place.boot = 3700
    world.place.silent = False
    await asyncio.sleep(20)
    assert world.state() is STARTING
    await asyncio.sleep(30)
    assert world.place.calls["cancel"] > 0


# Idle, and the end of the workshop


async def test_nobody_uses_it_and_is_warned(world):
    await world.start(settings(idle_timeout=7200.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    ready = EPOCH + asyncio.get_running_loop().time()
    await asyncio.sleep(6890)
    assert world.status().idle_end is None
    world.told.clear()
    await asyncio.sleep(20)
    assert world.status().idle_end == pytest.approx(ready + 7200, abs=2)
    assert world.told == [{"ws01"}]
    await asyncio.sleep(300)
    assert (world.state(), world.status().reason) == (STOPPED, "nobody used it for 2 h")
    assert world.status().want is Want.DOWN
    assert world.place.running == {}
    await asyncio.sleep(7200)
    assert world.state() is STOPPED
    world.launcher.visit("ws01")
    await world.running()


@pytest.mark.parametrize("answer", ["stay", "used"])
async def test_who_answers_the_warning_keeps_it(world, answer):
    await world.start(settings(idle_timeout=600.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    for _ in range(5):
        await asyncio.sleep(500)
        assert world.status().idle_end is not None  # 300 s before: half of it would be the same
        world.told.clear()
        now = asyncio.get_running_loop().time()
        world.launcher.stay("ws01") if answer == "stay" else world.launcher.used("ws01", now)
        assert world.status().idle_end is None
        await asyncio.sleep(0.1)
        assert world.told == [{"ws01"}]
    world.launcher.used("ws01", 0.0)  # old news change nothing
    await asyncio.sleep(590)
    assert world.state() is RUNNING
    await asyncio.sleep(20)
    assert world.state() is STOPPED


async def test_a_key_in_the_last_moment_is_heard_though_it_is_told_later(world):
    await world.start(settings(idle_timeout=600.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await asyncio.sleep(599)
    pressed = asyncio.get_running_loop().time()
    await asyncio.sleep(3)
    world.launcher.used("ws01", pressed)
    await asyncio.sleep(500)
    assert world.state() is RUNNING


async def test_of_a_short_time_half_is_left_for_the_warning(world):
    await world.start(settings(idle_timeout=60.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await asyncio.sleep(27)
    assert world.status().idle_end is None
    await asyncio.sleep(6)
    assert world.status().idle_end is not None


async def test_a_time_limit_is_told_and_warned_of_when_it_is_near(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    end = EPOCH + asyncio.get_running_loop().time() + 3600
    desktop = world.place.of("ws01")
    desktop.sighting = Sighting(Seen.RUNNING, Desktop(unix=f"/{desktop.handle.nonce}"), "node7", ends=end)
    await asyncio.sleep(3290)
    assert (world.status().ends, world.status().is_ending, world.status().host) == (end, False, "node7")
    await asyncio.sleep(20)
    assert (world.status().ends, world.status().is_ending) == (end, True)


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


# Passwords, kinds and sizes that change


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


# The daemon is killed and started again


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


async def test_desktops_of_accounts_that_left_meanwhile_are_ended(world):
    await world.start(settings(), roster("ws01", "ws02"))
    await world.launcher.start_desktops(["*"])
    await world.running("ws01", "ws02")
    await world.launcher.aclose()
    await world.start(accounts=roster("ws02"))
    await world.running("ws02")
    await asyncio.sleep(1)
    assert [desktop.spec.account for desktop in world.place.running.values()] == ["ws02"]
    assert len(world.store.files) == 1


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


# Pools


POOL = {"policy": "pool", "pool": 3}


async def ready_in_pool(world, count=3):
    await world.until(
        lambda: len(world.place.running) == count and all(map(world.place.is_up, world.place.running.values()))
    )
    await asyncio.sleep(1)


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


async def test_a_pool_that_cannot_be_anybodys_is_not_kept(world, caplog):
    await world.start(settings(**POOL, home="/scratch/{account}"), roster("ws01"))
    assert "kind xfce: no pool is kept" in caplog.text
    await asyncio.sleep(10)
    assert world.place.started == []
    world.launcher.visit("ws01")
    await world.running()


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
    assert "a place did not let go within 2 s" in caplog.text


async def test_commands_that_race_with_changes_of_the_roster_leave_nothing_behind(world):
    await world.start(settings(policy="eager"), roster("ws01", "ws02"))
    for delay in (0.0, 0.005, 0.02, 0.03, 0.5, 1.0, 1.2):
        world.launcher.apply(roster("ws01", "ws02"))
        await world.launcher.restart_desktops(["ws01"])
        await asyncio.sleep(delay)
        world.launcher.apply(roster("ws02"))
        with contextlib.suppress(ControlError):
            await world.launcher.start_desktops(["ws01"])
        await asyncio.sleep(5)
        assert [desktop.spec.account for desktop in world.place.running.values()] == ["ws02"]
        assert len(world.store.files) == 1
