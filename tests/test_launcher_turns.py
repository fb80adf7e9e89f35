"""Whose turn it is, on which host: starts are bounded and in line."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.fakeplace import EPOCH, FakePlace, account, roster, settings
from vncgate.errors import LaunchError
from vncgate.launchers.base import Seen, Sighting
from vncgate.model import DesktopState, Roster
from vncgate.yard import LONGEST_SILENCE

pytestmark = pytest.mark.virtual_time

STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


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


PLACES = {"local": {"type": "local", "starts_at_once": 1}, "far": {"type": "local"}}
KINDS = {
    "xfce": {"command": "startxfce4", "sizes": {"large": {"cores": 8}}},
    "gedit": {"command": "gedit"},
    "far": {"command": "xterm", "place": "far"},
}


@pytest.mark.parametrize("line", [{"kind": "gedit"}, {"kind": "xfce", "size": "large"}])
async def test_who_waits_in_line_gets_what_the_account_s_line_says_by_then(world, line):
    before, other = account("ws01", kind="xfce"), account("ws03", kind="xfce")
    await world.start(settings(PLACES, kinds=KINDS), Roster((before, account("ws02", kind="xfce"), other)))
    await world.launcher.start_desktops(["*"])
    await asyncio.sleep(0.1)
    assert world.status("ws02").reason == "1st in line"
    world.launcher.apply(Roster((before, account("ws02", **line), other)))
    assert (world.status("ws02").kind, world.status("ws02").reason) == (line["kind"], "1st in line")
    await world.running("ws01", "ws02", "ws03")
    assert world.place.started == ["ws01", "ws02", "ws03"]
    kind = world.place.of("ws02").spec.kind
    assert (kind.command, kind.cores) == ((KINDS[line["kind"]]["command"],), 8 if "size" in line else None)
    assert world.status("ws02").reason == ""


async def test_who_waits_in_line_for_another_place_by_now_lines_up_there(world):
    far = world.places["far"] = FakePlace()
    before, last = account("ws01", kind="xfce"), account("ws03", kind="xfce")
    await world.start(settings(PLACES, kinds=KINDS), Roster((before, account("ws02", kind="xfce"), last)))
    await world.launcher.start_desktops(["*"])
    await asyncio.sleep(0.1)
    world.launcher.apply(Roster((before, account("ws02", kind="far"), last)))
    await asyncio.sleep(0.1)
    assert (far.started, world.status("ws03").reason) == (["ws02"], "1st in line")
    world.launcher.apply(Roster((before, account("ws02", kind="far"), account("ws03", kind="gone"))))
    await asyncio.sleep(0.1)
    assert world.state("ws03") is FAILED  # there is no such kind: it is not in the line any more
    await asyncio.sleep(10)
    assert world.place.started == ["ws01"]


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


async def test_starts_follow_each_other_evenly(world):
    names = [f"ws{number:02}" for number in range(60)]
    local = {"type": "local", "starts_at_once": 60, "starts_per_second": 4.0}
    await world.start(settings({"local": local}, policy="eager"), roster(*names))
    await world.running(*names)
    began = sorted(desktop.began for desktop in world.place.running.values())
    gaps = [after - before for before, after in itertools.pairwise(began)]
    assert len(gaps) == 59
    assert all(gap == pytest.approx(0.25, abs=0.01) for gap in gaps)
    assert world.place.started == names
    # Who comes later need not wait for it.
    await world.launcher.stop_desktops(["ws00"])
    await asyncio.sleep(1)
    await world.launcher.start_desktops(["ws00"])
    await asyncio.sleep(0.1)
    assert world.place.started[-1] == "ws00"


# A place that does not answer


async def test_a_place_that_does_not_answer_is_waited_for(world, caplog):
    names = [f"ws{number:02}" for number in range(60)]
    await world.start(settings(), roster(*names))
    world.place.deaf = {""}
    for name in names:
        world.launcher.visit(name)
    await asyncio.sleep(600)
    assert world.states() == {REQUESTED}
    words = "the place local does not answer: no ssh connection to it; it is tried again"
    assert {status.reason for status in world.launcher.statuses() if status.reason} == {words}
    assert words in (world.status("ws00").reason, world.status("ws01").reason)
    asked = world.place.calls["submit"]
    assert 8 + 600 / (LONGEST_SILENCE + 3.0) < asked < 8 + 600 / LONGEST_SILENCE + 5, "a class does not ask all at once"
    world.place.deaf = set()
    await world.until(lambda: world.states() == {RUNNING}, LONGEST_SILENCE + 3 + 20)
    _, *others = world.place.started  # behind whoever found out
    assert all(abs(names.index(name) - index) < 9 for index, name in enumerate(others)), "nobody lost their turn"
    assert len(world.place.running) == len(world.store.files) == 60
    assert {status.reason for status in world.launcher.statuses()} == {""}
    told = [record.getMessage() for record in caplog.records if record.name == "vncgate.yard"]
    one, all_of_them = told
    assert one.endswith("it is asked for this one again, and for others meanwhile")
    assert all_of_them == "local does not answer: no ssh connection to it; desktops wait until it does"


async def test_a_place_that_says_no_after_a_silence_is_heard(world):
    await world.start(settings(), roster("ws01"))
    world.place.deaf = {""}
    world.launcher.visit("ws01")
    await asyncio.sleep(300)
    world.place.deaf, world.place.refuse = set(), "no such image"
    await asyncio.sleep(60)
    assert (world.state(), world.status().reason) == (FAILED, "no such image")


@pytest.mark.parametrize("moment", [0.0, 1.0, 2.9, 3.1, 3.9, 60.0])
async def test_whoever_waits_for_a_silent_place_can_leave(world, moment):
    await world.start(settings(), roster("ws01", "ws02"))
    world.place.deaf = {""}
    await world.launcher.start_desktops(["ws01", "ws02"])
    await asyncio.sleep(moment)
    await world.launcher.stop_desktops(["ws01"])
    await asyncio.sleep(4)
    assert (world.state("ws01"), world.state("ws02")) == (STOPPED, REQUESTED)
    world.place.deaf = set()
    await world.running("ws02")
    assert world.place.started == ["ws02"]
    assert len(world.store.files) == 1


async def test_who_waits_for_a_silent_place_is_not_forgotten_by_the_next_daemon(world):
    names = [f"ws{number}" for number in range(5)]
    await world.start(settings({"local": {"type": "local", "starts_at_once": 1}}), roster(*names))
    world.place.deaf = {""}
    for name in reversed(names):
        world.launcher.visit(name)
        await asyncio.sleep(0.01)
    for _ in range(3):
        await asyncio.sleep(60)
        await world.restart()
        assert len(world.store.files) == 5
    await asyncio.sleep(60)
    world.place.deaf = set()
    await world.running(*names)
    first, *others = world.place.started  # whoever found out
    assert others == [name for name in reversed(names) if name != first]


async def test_a_host_that_does_not_answer_is_passed_by(world):
    world.place.hosts = ("down", "node1", "node2")
    world.place.deaf = {"down"}
    names = [f"ws{number}" for number in range(40)]
    await world.start(settings(policy="eager"), roster(*names))
    reasons = set()
    await world.until(
        lambda: reasons.update(s.reason for s in world.launcher.statuses()) or world.states() == {RUNNING}
    )
    assert not any("does not answer" in reason for reason in reasons)
    assert world.place.calls["submit"] <= 40 + 8
    world.place.deaf = {"down", "node1", "node2"}
    world.place.running.clear()  # all died
    await asyncio.sleep(300)
    assert world.states() == {REQUESTED}
    world.place.deaf = {"down", "node1"}
    await world.until(lambda: world.states() == {RUNNING}, 120)
    assert {desktop.handle.host for desktop in world.place.running.values()} == {"node2"}


@pytest.mark.parametrize("hosts", [(), ("node1", "node2", "node3")])
async def test_one_account_whose_start_hangs_holds_up_no_other(world, hosts, caplog):
    world.place.hosts, world.place.patience = hosts, 20.0
    names = [f"ws{number:02}" for number in range(12)]
    world.place.dead = {"ws00"}
    await world.start(settings({"local": {"type": "local", "starts_at_once": 2}}), roster(*names))
    for name in names[:6]:
        world.launcher.visit(name)
    await world.running(*names[1:6], limit=30)
    for name in names[6:]:
        await asyncio.sleep(30)
        world.launcher.visit(name)
        await world.running(name, limit=3)
    words = "the place local does not answer: no ssh connection to"
    await world.until(lambda: world.status("ws00").reason.startswith(words), LONGEST_SILENCE + 22)  # between two tries
    assert "desktops wait until it does" not in caplog.text
    tries = world.place.calls["submit"] - 11
    assert 200 / (LONGEST_SILENCE + 20) < tries < 200 / 20, "it is tried ever later"
    used = [desktop.handle.host for desktop in world.place.running.values()]
    assert {used.count(host) for host in hosts} <= {3, 4}, "no host was blamed for it"
    world.place.dead = set()
    await world.running("ws00", limit=LONGEST_SILENCE + 22)


async def test_where_those_that_run_can_be_looked_at_a_silence_is_that_of_who_asked(world, caplog):
    names = ("ws00", "ws01", "ws02", "ws03")
    world.place.dead = {"ws01", "ws02"}
    await world.start(settings(), roster(*names))
    world.launcher.visit("ws00")
    await world.running("ws00")
    world.place.patience = 10.0
    world.launcher.visit("ws01")
    world.launcher.visit("ws02")
    await asyncio.sleep(60)
    world.launcher.visit("ws03")
    await world.running("ws03", limit=3)
    assert "desktops wait until it does" not in caplog.text


async def test_a_place_that_answers_neither_starts_nor_looks_is_silent(world, caplog):
    world.place.patience = 10.0
    await world.start(settings(), roster("ws00", "ws01", "ws02"))
    world.launcher.visit("ws00")
    await world.running("ws00")
    world.place.deaf, world.place.silent = {""}, True
    world.launcher.visit("ws01")
    await asyncio.sleep(60)
    world.launcher.visit("ws02")
    await asyncio.sleep(1)
    assert world.status("ws02").reason.startswith("the place local does not answer: no")
    assert "desktops wait until it does" in caplog.text
    world.place.deaf, world.place.silent = set(), False
    await world.running("ws01", "ws02", limit=LONGEST_SILENCE + 15)


async def test_while_a_place_is_silent_each_try_is_another_desktop_s(world):
    names = ("ws00", "ws01", "ws02")
    world.place.deaf = {""}
    await world.start(settings({"local": {"type": "local", "starts_at_once": 1}}), roster(*names))
    asked, submit = [], world.place.submit

    async def noted(spec):
        asked.append(spec.account)
        return await submit(spec)

    world.place.submit = noted
    for name in names:
        world.launcher.visit(name)
    await asyncio.sleep(300)
    assert len(asked) >= 9
    assert all(len({*asked[at : at + 3]}) == 3 for at in range(len(asked) - 2))
