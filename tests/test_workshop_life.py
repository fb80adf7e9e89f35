"""The workshop's life in virtual time: what is done when, once, and by whom; and what the next gate goes on with."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from vncgate import tasks
from vncgate.errors import LedgerError, WorkshopError
from vncgate.model import DesktopState, DesktopStatus, Want
from vncgate.people import Person, Seat, Standing
from vncgate.takeaway.archives import Built
from vncgate.viewer_notes import Notes
from vncgate.workshop import Command, Phase, WorkshopSettings
from vncgate.workshop_life import CAME, LAST_WORDS, MINUTE, NOTE, SETTLE, Life

pytestmark = pytest.mark.virtual_time

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
NAMES = [f"ws{number:02}" for number in range(1, 13)]
RUNNING, STOPPED = DesktopState.RUNNING, DesktopState.STOPPED


def at(hours):
    return START + timedelta(hours=hours)


WHOLE = WorkshopSettings(signup_opens=at(1), doors_open=at(2), ends=at(10), files_until=at(20), purge=at(30))


class ArchivesOf:
    """Those of a world, whose own `statuses()` are of desktops."""

    def __init__(self, world):
        self.status, self.build, self.wait, self.remove = world.status, world.build, world.wait, world.remove
        self.statuses = world.statuses_of_archives


class World:
    """All that a life has to do with, and a wall clock that goes with the loop's, and can be set."""

    def __init__(self):
        self.deeds = []
        self.kept = {}
        self.figures = []
        self.log = []
        self.crowd = [Person("1", "Ada", "a@example.org", START, Standing.SEATED, "ws01")]
        self.seat = {name: Seat(name) for name in NAMES}
        self.state = dict.fromkeys(NAMES, RUNNING)
        self.frozen = False
        self.is_shut = False
        self.ahead = timedelta()
        self.is_down = False
        self.used = frozenset({"ws01"})
        self.notes = Notes()
        self.closing = 0
        self.most_closing = 0
        self.built = {}
        self.pushed = 0
        self.life = None

    def begin(self, settings=WHOLE, archives=True):
        """A gate's life, on what the ledger has."""
        self.life = Life(
            settings,
            self,
            self,
            self,
            self.notes,
            archives=ArchivesOf(self) if archives else None,
            rekey=self.rekey,
            figures=lambda: ({"in_use": float(len(self.used))}, self.used),
            now=self.now,
            clock=lambda: asyncio.get_running_loop().time(),
        )
        return self.life

    def now(self):
        return START + timedelta(seconds=asyncio.get_running_loop().time()) + self.ahead

    def said(self):
        return [note.text for note in self.notes._notes]

    # the ledger
    async def get_note(self, key):
        return self.kept.get(key, "")

    async def set_note(self, key, value):
        if self.is_down:
            raise LedgerError("the ledger does not answer")
        self.kept[key] = value

    async def note(self, entry):
        self.log.append((entry.who, entry.what))

    async def record(self, when, figures):
        if self.is_down:
            raise LedgerError("the ledger does not answer")
        self.figures.append((when, dict(figures)))

    async def recorded(self):
        return self.figures

    async def people(self):
        return self.crowd

    async def purge(self):
        gone, self.crowd = len(self.crowd), []
        self.deeds.append("purge")
        return {"people": gone, "mails": 0}

    # seating
    @property
    def is_frozen(self):
        return self.frozen

    def seats(self):
        return self.seat

    async def freeze(self, *, on):
        self.frozen = on

    async def renew(self, account, by):
        self.deeds.append(f"renew {account}")
        await asyncio.sleep(0.1)

    async def extend(self, account, until, by):
        self.seat[account] = Seat(account, until=until)

    async def roster_changed(self):
        self.pushed += 1

    # the launcher
    def statuses(self):
        return [
            DesktopStatus(name, "x", "", "local", "", Want.UP, state, "", 0.0) for name, state in self.state.items()
        ]

    def shut(self, *, on):
        self.is_shut = on

    async def stop_desktops(self, names, reason):
        assert reason == "the workshop is over"
        self.deeds.append("stop " + " ".join(names))
        self.closing += len(names)
        self.most_closing = max(self.closing, self.most_closing)
        asyncio.get_running_loop().call_later(5, self.stopped, names)
        return names

    def stopped(self, names):
        self.closing -= len(names)
        self.state |= dict.fromkeys(names, STOPPED)

    # archives
    def statuses_of_archives(self):
        return [self.status(name) for name in NAMES]

    def status(self, account):
        return self.built.get(account, Built(account))

    async def build(self, accounts):
        self.deeds.append(f"archives for {len(accounts)}")
        for number, account in enumerate(accounts):
            self.built[account] = Built(account, "building")
            asyncio.get_running_loop().call_later(2 * number, self.finish, account)

    def finish(self, account):
        state = "failed" if account == "ws02" else "ready"
        self.built[account] = Built(account, state, when=self.now().timestamp(), reason="no space")

    async def wait(self):
        while any(each.state == "building" for each in self.built.values()):
            await asyncio.sleep(1)

    async def remove(self):
        self.deeds.append("remove archives")
        gone, self.built = self.built, {}
        return list(gone)

    async def rekey(self):
        self.deeds.append("rekey")
        return "new passwords"


class Running:
    """A life that is lived while the block lasts, and is killed in any line at its end."""

    def __init__(self, world, *args, **keys):
        self.world = world
        self.life = world.begin(*args, **keys)

    async def __aenter__(self):
        await self.life.start()
        self.tasks = [tasks.spawn(work, "life") for work in (self.life.run(), self.life.keep_figures())]
        return self.life

    async def __aexit__(self, *exc):
        await tasks.end(*self.tasks)


async def until(hours, world):
    await asyncio.sleep(max(0.0, (at(hours) - world.now()).total_seconds()))


@pytest.fixture
def world():
    return World()


async def test_a_whole_workshop_by_the_clock(world):
    async with Running(world) as life:
        assert (life.phase, world.frozen, world.is_shut, life.is_over) == (Phase.PLANNED, False, True, False)
        assert life.closed("ws01") == "the workshop has not begun yet"
        await until(1.1, world)
        assert (life.phase, life.opens("ws01")) == (Phase.SIGN_UP, False)
        await until(2.1, world)
        assert (life.phase, world.frozen, world.is_shut, life.opens("ws01")) == (Phase.OPEN, False, False, True)
        await until(9.99, world)
        assert world.said()[-2:] == [
            "The workshop ends in 15 minutes. Save your work.", "The workshop ends in 5 minutes. Save your work."
        ]  # fmt: skip
        assert world.deeds == []
        await until(10.5, world)
        assert life.phase is Phase.ENDED
        assert [deed.split()[0] for deed in world.deeds] == ["stop"] * 2 + ["renew"] * 12 + ["archives", "rekey"]
        assert world.most_closing == 8, "a few at a time"
        assert set(world.state.values()) == {STOPPED}
        assert (life.closed("ws01"), world.is_shut, life.is_over) == ("the workshop is over", True, True)
        assert (world.frozen, life.has_files) == (False, True), "people sign in for their files"
        assert life.status()["said"] == [
            "12 desktops closed",
            "sessions and links of 12 seats ended",
            "11 archives built; none of ws02: no space",
            "new passwords",
        ]
        await until(20.1, world)
        assert (life.phase, world.frozen, life.has_files) == (Phase.CLOSED, True, False)
        world.deeds.clear()
        await until(30.1, world)
        assert (life.phase, world.crowd) == (Phase.PURGED, [])
        assert world.deeds[-2:] == ["remove archives", "purge"]
        assert "removed: 1 people" in life.status()["said"]
        assert life.status()["next"] is None
    assert world.log[:3] == [
        ("the clock", "workshop: sign-up opens"),
        ("the clock", "workshop: doors open"),
        ("the clock", "workshop: warning, 15 minutes before"),
    ]


async def test_without_times_nothing_changes(world):
    async with Running(world, WorkshopSettings()) as life:
        await until(40, world)
        assert (life.phase, world.frozen, world.is_shut) == (Phase.OPEN, False, False)
    assert (world.deeds, world.log) == ([], [])


@pytest.mark.parametrize(
    "moment", [1, LAST_WORDS + 1, LAST_WORDS + 7, LAST_WORDS + 10.65, LAST_WORDS + 20, LAST_WORDS + 30]
)
async def test_a_gate_that_is_killed_in_the_middle_of_the_end_goes_on_and_does_nothing_twice(world, moment):
    async with Running(world) as life:
        await until(3, world)
        await life.order(Command.END, "ada")
        await asyncio.sleep(moment)
        assert life.status()["work"]
        before = list(world.deeds)
    async with Running(world) as life:
        assert (life.phase, life.opens("ws01")) == (Phase.ENDED, moment < LAST_WORDS)
        await asyncio.sleep(300)
        assert life.status()["work"] is None
    assert set(world.state.values()) == {STOPPED}
    assert world.deeds[-1] == "rekey"
    assert world.deeds.count("rekey") == 1
    assert sorted(world.built) == NAMES
    stops = [name for deed in world.deeds if deed.startswith("stop") for name in deed.split()[1:]]
    assert sorted(set(stops)) == NAMES
    if any(deed.startswith("renew") for deed in before):
        assert sorted(stops) == NAMES, "what was done stays done"
    if "archives for 12" in before:
        assert sum(deed.startswith("renew") for deed in world.deeds) == len(NAMES)
        assert sum(int(deed.split()[-1]) for deed in world.deeds if deed.startswith("archives")) < 2 * len(NAMES)
    assert ("ada", "workshop: desktops are closed, done") in world.log


async def test_what_a_deed_could_not_do_is_tried_again(world):
    async with Running(world) as life:
        await until(3, world)
        await life.order(Command.END, "ada")
        world.is_down = True
        await asyncio.sleep(LAST_WORDS + 60)
        assert life.status()["trouble"] == "the ledger does not answer"
        world.is_down = False
        await asyncio.sleep(LAST_WORDS + 120)
        assert (life.status()["trouble"], life.status()["work"]) == ("", None)
    assert world.deeds.count("rekey") == 1


async def test_who_is_connected_has_a_minute_to_save_their_work(world):
    async with Running(world) as life:
        await until(3, world)
        await life.order(Command.END, "ada")
        await asyncio.sleep(LAST_WORDS - 1)
        assert (life.opens("ws01"), life.closed("ws01"), world.is_shut, world.deeds) == (True, "", True, [])
        assert "save your work now" in world.said()[-1]
        looks = world.pushed
        await asyncio.sleep(2)
        assert (life.opens("ws01"), life.closed("ws01")) == (False, "the workshop is over")
        assert world.pushed > looks, "the engine is told"
        await asyncio.sleep(300)
        await life.order(Command.END, "ada")
        assert not life.opens("ws01"), "not even for a moment"


async def test_nobody_is_waited_for_where_nobody_is_connected(world):
    world.used = frozenset()
    async with Running(world) as life:
        await until(3, world)
        await life.order(Command.END, "ada")
        await asyncio.sleep(1)
        assert world.deeds[0].startswith("stop")
        assert world.said() == []


async def test_an_organizers_words(world):
    async with Running(world) as life:
        await life.order(Command.OPEN, "ada")
        assert (life.phase, world.frozen) == (Phase.OPEN, False)
        await life.order(Command.FREEZE, "ada")
        assert (world.frozen, life.opens("ws01")) == (True, True)
        assert world.said() == ["Nobody new can sign in for now. You can go on."]
        await life.order(Command.OPEN, "ada")
        assert not world.frozen
        with pytest.raises(WorkshopError, match="nothing is removed before its end"):
            await life.order(Command.PURGE, "ada")
        await life.order(Command.END, "ada")
        await life.order(Command.END, "bob")
        with pytest.raises(WorkshopError, match="wait until that is done"):
            await life.order(Command.OPEN, "bob")
        await asyncio.sleep(300)
        assert world.deeds.count("rekey") == 1
        await life.order(Command.OPEN, "bob")
        assert (life.phase, world.is_shut, life.opens("ws01")) == (Phase.OPEN, False, True)
    assert ("bob", "workshop end") not in world.log


async def test_what_would_be_done_is_told_and_not_done(world):
    async with Running(world) as life:
        await until(3, world)
        plan = await life.plan(Command.END)
        assert plan[1] == f"12 desktops of the gate's own, 8 at a time: {' '.join(NAMES)}"
        with pytest.raises(WorkshopError):
            await life.plan(Command.PURGE)
        await life.order(Command.END, "ada")
        await asyncio.sleep(300)
        world.deeds.clear()
        plan = await life.plan(Command.PURGE)
        assert plan[1:3] == [
            "12 archives removed",
            "1 people, with their answers, mails, PINs and shares; the audit log stays, and names nobody",
        ]
        assert (life.phase, world.deeds) == (Phase.ENDED, [])


async def test_who_has_more_time_goes_on_and_is_closed_then(world):
    world.seat["ws03"] = Seat("ws03", until=at(12))
    async with Running(world) as life:
        await until(11, world)
        assert [name for name, state in world.state.items() if state is RUNNING] == ["ws03"]
        assert (life.opens("ws03"), life.opens("ws04")) == (True, False)
        assert "renew ws03" not in world.deeds
        built = world.built["ws03"].when
        await until(12.1, world)
        assert (world.state["ws03"], life.opens("ws03")) == (STOPPED, False)
        assert world.built["ws03"].when > built


async def test_an_organizers_end_is_everybodys(world):
    world.seat["ws03"] = Seat("ws03", until=at(12))
    async with Running(world) as life:
        await until(3, world)
        await life.order(Command.END, "ada")
        await asyncio.sleep(300)
    assert world.state["ws03"] is STOPPED


async def test_a_clock_that_is_set_wrong_and_right_again_ends_nothing(world):
    async with Running(world) as life:
        await until(3, world)
        world.ahead = timedelta(days=400)
        await asyncio.sleep(SETTLE / 2)
        world.ahead = timedelta()
        await asyncio.sleep(SETTLE * 2)
        assert (life.phase, world.deeds) == (Phase.OPEN, [])


async def test_after_a_sleep_of_the_machine_what_is_due_is_done(world):
    async with Running(world) as life:
        await until(3, world)
        world.ahead = timedelta(hours=9)
        await asyncio.sleep(SETTLE + 300)
        assert life.phase is Phase.ENDED
    assert world.deeds.count("rekey") == 1


async def test_a_clock_that_goes_back_does_nothing_again(world):
    async with Running(world) as life:
        await until(10.5, world)
        world.ahead = -timedelta(hours=9)
        await until(9.5, world)
        assert life.phase is Phase.ENDED
    assert world.deeds.count("rekey") == 1


async def test_figures_are_kept_while_it_is_open(world):
    async with Running(world, archives=False) as life:
        await until(2.5, world)
        world.used = frozenset({"ws02"})
        await asyncio.sleep(2 * MINUTE)
        world.used = frozenset({"ws01"})
        world.is_down = True
        await asyncio.sleep(2 * MINUTE)
        world.is_down = False
        await until(11, world)
        count = len(world.figures)
        assert count == pytest.approx(8 * 60 - 2, abs=2)
        await until(12, world)
        assert len(world.figures) == count
        assert world.frozen, "there are no files to come back for"
    async with Running(world) as life:
        told = await life.report(names=True)
        assert (told["came"], told["accounts"], told["names"]) == (2, 12, [["ws01", "Ada"], ["ws02", ""]])
        assert (await life.report(names=False))["names"] is None
        assert len(told["figures"]) == count
    assert world.kept[CAME] == '["ws01", "ws02"]'


async def test_a_record_that_is_none_is_told(world):
    world.kept[NOTE] = "nonsense"
    with pytest.raises(WorkshopError, match="is no record of ours"):
        await world.begin().start()
