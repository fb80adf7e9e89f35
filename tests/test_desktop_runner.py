"""One desktop from its start to its end, on a fake place and in virtual time."""

from __future__ import annotations

import asyncio
import gc
import weakref

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakeplace import World, roster, settings
from vncgate.desktop_life import START_TRIES
from vncgate.desktop_runner import LOOK
from vncgate.errors import ControlError
from vncgate.kinds import DesktopsSettings
from vncgate.launcher import GRACE
from vncgate.launchers.base import Seen, Sighting
from vncgate.model import DesktopState, Want

pytestmark = pytest.mark.virtual_time

STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


# Starts that fail


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
    assert world.status().told == ""  # what a session wrote may be anything
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
    await asyncio.sleep(GRACE + 1)
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


# Put back in a queue


async def test_a_desktop_that_is_put_back_in_its_queue_is_waited_for_again(world):
    await world.start(settings({"local": {"type": "local", "start_timeout": 60.0}}), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    desktop = world.place.of("ws01")
    desktop.sighting = Sighting(Seen.PENDING, reason="Priority")
    await world.until(lambda: world.state() is PENDING)
    assert (world.status().reason, world.launcher.located()) == ("Priority", {})
    await asyncio.sleep(1)
    await world.restart()
    assert world.launcher.located() == {}, "nor is anybody led there by the next daemon"
    await world.until(lambda: world.state() is PENDING)
    desktop.began, desktop.sighting = asyncio.get_running_loop().time() + 10, None
    await world.until(lambda: world.state() is STARTING)
    await world.running()
    assert (world.place.started, world.status().restarts) == (["ws01"], 0)
    # Nobody's work is in one that was put back: where it does not come up it is given up, as any other.
    desktop.sighting = Sighting(Seen.PENDING, reason="Priority")
    await world.until(lambda: world.state() is PENDING)
    desktop.began, desktop.sighting = 1e9, None
    await world.until(lambda: "no VNC login within 1 min" in world.status().reason, 120)
    await world.running()
    assert world.place.started == ["ws01", "ws01"]


async def test_a_login_to_where_it_was_does_not_count(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    login, begun, goes_on = world.place.login, asyncio.Event(), asyncio.Event()

    async def slow(account):
        begun.set()
        await goes_on.wait()
        await login(account)

    world.place.login = slow
    await world.restart()
    await begun.wait()
    desktop = world.place.of("ws01")
    desktop.sighting = Sighting(Seen.PENDING)
    await world.until(lambda: world.state() is PENDING)
    desktop.sighting = Sighting(Seen.RUNNING)  # again, but nowhere yet
    await world.until(lambda: world.state() is STARTING)
    goes_on.set()
    await asyncio.sleep(5)
    assert world.state() is STARTING
    desktop.sighting = None
    await world.running()


STEPS = (
    "queue",
    "unqueue",
    "die",
    "log out",
    "silence",
    "answer",
    "refuse",
    "deafen",
    "start",
    "stop",
    "restart daemon",
)


@hypothesis.settings(max_examples=60, deadline=None, phases=[hypothesis.Phase.generate])
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([0.0, 0.015, 0.3, 2.0, 40.0])), max_size=14))
async def test_whatever_happens_there_is_one_at_most_and_in_the_end_what_is_wanted(steps):
    world = World()
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    for step, pause in [("wait", 2.0), *steps]:
        place, desktops = world.place, list(world.place.running.values())
        match step:
            case "queue" | "unqueue":
                place.hold = step == "queue"
            case "die":
                place.running.clear()
            case "log out":
                for desktop in desktops:
                    desktop.sighting = Sighting(Seen.GONE, exit_status=0)
            case "silence" | "answer":
                place.silent = step == "silence"
                place.deaf, place.refuse = set(), None
            case "refuse":
                place.refuse = "no such image"
            case "deafen":
                place.deaf = {""}
            case "start":
                await world.launcher.start_desktops(["ws01"])
            case "stop":
                await world.launcher.stop_desktops(["ws01"])
            case "restart daemon":
                await world.restart()
        await asyncio.sleep(pause)
        status, located = world.status(), world.launcher.located()
        assert len(place.running) <= 1
        assert set(place.running) <= set(world.store.files)
        assert not located or status.state in (RUNNING, REQUESTED, STARTING)
        assert (status.state is RUNNING) <= (status.desktop is not None and located == {"ws01": status.desktop})
    place.hold = place.silent = False
    place.deaf, place.refuse = set(), None
    await asyncio.sleep(10)  # whatever is dead is known to be
    await world.launcher.start_desktops(["ws01"])
    await world.running(limit=300)
    assert world.place.of("ws01").password == "secret"
    await world.launcher.stop_desktops(["ws01"])
    await world.until(lambda: world.state() is STOPPED)
    assert (world.place.running, world.store.files) == ({}, {})
    await world.launcher.aclose()


async def test_of_a_desktop_whose_account_is_gone_nothing_stays(world):
    await world.start(settings(idle_timeout=7200.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    runner = weakref.ref(world.launcher._runners["ws01"])
    world.launcher.apply(roster())
    await world.until(lambda: world.place.running == {}, 120)
    await asyncio.sleep(10)
    gc.collect()
    assert runner() is None


async def test_who_cannot_be_connected_to_is_looked_at_at_once(world):
    """Who logs out reads that, and not for seconds that the desktop is offline."""
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await asyncio.sleep(LOOK / 3)
    world.place.of("ws01").sighting = Sighting(Seen.GONE, exit_status=0)
    world.launcher.look("ws01")
    world.launcher.look("ws09")  # not ours
    await asyncio.sleep(LOOK / 10)
    assert (world.state(), world.status().told) == (STOPPED, "you logged out, or what ran in it has ended")
