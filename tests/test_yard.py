"""Turns, hosts and looks at one place, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakeplace import FakePlace
from vncgate.kinds import LocalPlace
from vncgate.launchers.base import Handle, Seen, Sighting
from vncgate.yard import Yard

pytestmark = pytest.mark.virtual_time


class Guest:
    """A desktop that writes down what it is told."""

    def __init__(self, name, yard, *, in_pool=False, host=""):
        self.name, self.in_pool, self.yard = name, in_pool, yard
        self.handle = Handle("local", name, f"nonce{name}", host)
        self.turns, self.sightings, self.moves = 0, [], 0
        self.pause = 0.25
        self.looked = asyncio.Event()

    def turn(self):
        self.turns += 1

    def line_moved(self):
        self.moves += 1

    def seen(self, sighting):
        self.sightings.append(sighting)
        self.looked.set()

    def next_look(self):
        return self.pause


@pytest.fixture
async def place():
    return FakePlace(answer=0.001)


@pytest.fixture
async def yard(place):
    yard = Yard("local", LocalPlace(starts_at_once=2, most=3, starts_per_second=1000.0), place)
    yield yard
    await yard.aclose()


def guests(yard, names, **more):
    made = [Guest(name, yard, **more) for name in names]
    for guest in made:
        yard.line_up(guest)
    return made


def called(guests):
    return "".join(guest.name for guest in guests if guest.turns)


async def test_turns_are_first_come_first_served_within_both_bounds(yard):
    waiting = guests(yard, "abcde")
    assert called(waiting) == ""  # not before this turn of the loop is over
    assert [yard.position_of(name) for name in "abcde"] == [1, 2, 3, 4, 5]
    await asyncio.sleep(0.01)
    assert called(waiting) == "ab"  # starts_at_once
    assert [yard.position_of(name) for name in "abcde"] == [0, 0, 1, 2, 3]
    yard.settle(waiting[0])
    yard.settle(waiting[1])
    await asyncio.sleep(0.01)
    assert called(waiting) == "abc"  # most
    assert yard.is_full()
    yard.withdraw(waiting[3])
    yard.leave(waiting[0])
    await asyncio.sleep(0.01)
    assert called(waiting) == "abce"
    assert all(guest.turns <= 1 for guest in waiting)
    assert waiting[4].moves > 0


async def test_the_pool_lets_everybody_else_pass(yard):
    spare = guests(yard, "xy", in_pool=True)
    waiting = guests(yard, "abc")
    assert [yard.position_of(name) for name in "abcxy"] == [1, 2, 3, 4, 5]
    await asyncio.sleep(0.01)
    assert called([*waiting, *spare]) == "ab"


async def test_what_was_there_before_counts(yard):
    for name in "xyz":
        yard.arrive(Guest(name, yard))
    waiting = guests(yard, "a")
    await asyncio.sleep(0.01)
    assert (called(waiting), yard.is_full()) == ("", True)


async def test_hosts_with_fewest_first_and_those_that_failed_last(yard, place):
    assert yard.choose_host("x") == ""
    place.hosts = ("node1", "node2", "node3")
    yard.arrive(Guest("a", yard, host="node1"))
    assert yard.choose_host("x") == "node2"
    yard.blame("node2")
    assert yard.choose_host("x") == "node3"
    yard.blame("node3")
    assert yard.choose_host("x") == "node1"
    yard.blame("node1")
    assert yard.choose_host("x") == "node2"


async def test_who_is_watched_is_looked_at_again_and_again_until_it_is_withdrawn(yard, place):
    one, two = Guest("a", yard), Guest("b", yard)
    for guest in (one, two):
        yard.watch(guest)
        yard.look_soon(guest)
        yard.look_soon(guest)  # uvloop has no timer for what is due already
    for _ in range(3):
        await asyncio.wait_for(one.looked.wait(), 5)
        one.looked.clear()
    yard.withdraw(one)
    count = len(one.sightings)
    two.looked.clear()
    await asyncio.wait_for(two.looked.wait(), 5)
    assert len(one.sightings) == count
    assert two.sightings[0] == Sighting(Seen.GONE)


async def test_a_defect_of_a_place_is_no_sighting_and_ends_no_watching(yard, place, caplog):
    async def broken(handle):
        raise ZeroDivisionError("a defect")

    place.query = broken
    guest = Guest("a", yard)
    yard.watch(guest)
    for _ in range(2):
        await asyncio.wait_for(guest.looked.wait(), 5)
        guest.looked.clear()
    assert {sighting.seen for sighting in guest.sightings} == {Seen.UNKNOWN}
    assert "ZeroDivisionError" in caplog.text


async def test_what_was_found_of_an_older_start_is_not_told(yard, place):
    answer = asyncio.Event()

    async def slow(handle):
        await answer.wait()
        return Sighting(Seen.GONE)

    place.query = slow
    guest = Guest("a", yard)
    yard.watch(guest)
    await asyncio.sleep(0.01)
    guest.handle = Handle("local", "a", "another")
    answer.set()
    await asyncio.sleep(0.01)
    assert guest.sightings == []


async def test_nothing_is_looked_at_once_it_is_closed(yard, place):
    guest = Guest("a", yard)
    yard.watch(guest)
    await asyncio.wait_for(guest.looked.wait(), 5)
    await yard.aclose()
    queries = place.calls["query"]
    await asyncio.sleep(60)
    assert place.calls["query"] == queries
