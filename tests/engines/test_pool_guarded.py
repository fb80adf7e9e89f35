"""Admissions, and challenges answered, with many workers behind one Engine; time is virtual, workers are puppets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest

from tests.engines.test_pool import Keeper, Nursery, Puppet, ignore, moment, route, running
from vncgate.channel import pair
from vncgate.errors import DesktopError
from vncgate.listeners import bind
from vncgate.messages import Admit, Answer, Begin, Challenge, Drain, Holds, Open, Report, Rest, Suspect, route_to_json
from vncgate.model import Readiness
from vncgate.people import Mode

pytestmark = pytest.mark.virtual_time
ADMITTED = {"ws1": {"digest": Mode.CONTROL}, "ws2": {}}
SAID = {"ws1": {"digest": "control"}, "ws2": {}}


@pytest.fixture
def nursery():
    return Nursery()


@pytest.fixture
async def two(nursery):
    async with running(nursery, Keeper()) as engine:
        yield engine


def guarded(number, port=None):
    return dataclasses.replace(route(number, port), guarded=True)


def adopted(nursery, *routes):
    """A worker of the master before, with these accounts."""
    ours, theirs = pair()
    old = Puppet(theirs, next(nursery.pids))
    old.channel.send(Holds([route_to_json(each) for each in routes]))
    return old, {old.pid: ours}


async def test_every_worker_is_told_and_waited_for(two, nursery):
    await two.admit(ADMITTED)
    for puppet in nursery.puppets:
        assert puppet.told(Admit)[-1].admissions == SAID


async def test_a_new_worker_is_told_of_all_before_it_opens_any(two, nursery):
    with bind("127.0.0.1", 0, "test") as sock:
        await two.open(guarded(1, 7001), sock, ignore)
        await two.admit(ADMITTED)
        await two.admit({"ws2": {"other": Mode.VIEW}})
        nursery.puppets[0].die()
        await moment()
        new = nursery.puppets[2]
        kinds = [type(message) for message in new.heard]
        assert kinds.index(Begin) < kinds.index(Admit) < kinds.index(Open) < kinds.index(Rest)
        assert new.told(Admit)[0].admissions == {**SAID, "ws2": {"other": "view"}}


async def test_one_that_hangs_holds_nobody_up_for_long_and_it_is_said(two, nursery, caplog):
    nursery.puppets[0].admits = False
    began = asyncio.get_running_loop().time()
    await two.admit(ADMITTED)
    assert 0 < asyncio.get_running_loop().time() - began < 10
    assert "1 workers do not know yet who is signed in, or signed out" in caplog.text


async def test_one_that_dies_meanwhile_is_not_waited_for(two, nursery):
    nursery.puppets[0].admits = False
    asyncio.get_running_loop().call_later(0.5, nursery.puppets[0].die)
    began = asyncio.get_running_loop().time()
    await two.admit(ADMITTED)
    assert asyncio.get_running_loop().time() - began < 1


async def test_a_worker_of_the_master_before_hears_who_was_signed_out(nursery):
    old, channels = adopted(nursery, guarded(1), guarded(3))
    async with running(nursery, Keeper(), adopted=channels) as engine:
        await moment()
        await engine.admit(ADMITTED)
        assert old.told(Admit)[-1].admissions == SAID
        old.heard.clear()
        await engine.settled({"ws1", "ws3"})
        await moment()
        # It may have missed what was said before it had told what it holds.
        assert [type(message) for message in old.heard][-2:] == [Admit, Drain]
        assert old.told(Admit)[-1].admissions == {"ws1": {"digest": "control"}}, "of ws3 nobody said anything"


async def test_a_worker_that_knows_no_guarded_accounts_is_not_waited_for(nursery):
    old, channels = adopted(nursery, route(1))
    old.admits = False
    async with running(nursery, Keeper(), adopted=channels) as engine:
        await moment()
        began = asyncio.get_running_loop().time()
        await engine.admit(ADMITTED)
        assert asyncio.get_running_loop().time() - began < 1


async def test_challenges_are_answered_with_the_accounts_password(two, nursery):
    asked = []

    async def login(challenge):
        asked.append(challenge)
        return b"response" if challenge else b""

    await two.open(guarded(1), None, ignore, login)
    one, other = nursery.puppets
    one.channel.send(Challenge(7, "ws1", ""))
    other.channel.send(Challenge(8, "ws1", b"challenge".hex()))
    await moment()
    assert asked == [b"", b"challenge"]
    assert one.told(Answer) == [Answer(7, "")]
    assert other.told(Answer) == [Answer(8, b"response".hex())]


@pytest.mark.parametrize(("readiness", "is_refused"), [(Readiness.WRONG_PASSWORD, True), (Readiness.UNKNOWN, False)])
async def test_an_objection_is_passed_on(two, nursery, readiness, is_refused):
    async def login(challenge):
        raise DesktopError("not now", readiness)

    await two.open(guarded(1), None, ignore, login)
    nursery.puppets[0].channel.send(Challenge(7, "ws1", ""))
    nursery.puppets[0].channel.send(Challenge(8, "nobody", ""))
    await moment()
    answers = {answer.ticket: answer for answer in nursery.puppets[0].told(Answer)}
    assert answers[7] == Answer(7, "", "not now", is_refused)
    assert answers[8].objection
    assert not answers[8].is_refused


async def test_what_is_asked_before_the_accounts_are_known_is_answered_when_they_are(nursery):
    """After an upgrade: browsers that came to an old worker meanwhile are not sent away."""
    old, channels = adopted(nursery, guarded(1))

    async def login(challenge):
        return b"response"

    async with running(nursery, Keeper(), adopted=channels) as engine:
        await engine.rest(on=True)
        old.channel.send(Challenge(7, "ws1", "00"))
        await moment()
        assert not old.told(Answer)
        await engine.open(guarded(1), None, ignore, login)
        await engine.rest(on=False)
        await moment()
        assert old.told(Answer) == [Answer(7, b"response".hex())]


async def test_one_that_asks_what_makes_no_sense_is_ended(two, nursery, caplog):
    nursery.puppets[0].channel.send(Challenge(7, "ws1", "no hex"))
    await moment()
    assert "says what makes no sense" in caplog.text


async def test_a_refused_password_is_told_as_such(two, nursery):
    told = []
    await two.open(guarded(1), None, lambda *each: told.append(each))
    nursery.puppets[0].channel.send(Suspect("ws1", "it refused", is_refused=True))
    nursery.puppets[0].channel.send(Suspect("ws1", "it is away"))
    await moment()
    assert told == [("it refused", Readiness.WRONG_PASSWORD), ("it is away", Readiness.OFFLINE)]


async def test_the_longest_way_to_any_browser_is_told(two, nursery):
    proxy = await two.open(guarded(1), None, ignore)
    for puppet, delay in zip(nursery.puppets, (0.02, 0.3), strict=True):
        puppet.channel.send(Report(1, {"ws1": (1, 7, 9)}, None, {}, {"ws1": delay}))
    await moment()
    assert proxy.traffic().delay == 0.3
    for delay in (float("nan"), -1.0, float("inf")):
        nursery.puppets[1].channel.send(Report(1, {"ws1": (1, 7, 9)}, None, {}, {"ws1": delay}))
        await moment()
        assert proxy.traffic().delay == 0.02


async def test_a_long_list_comes_in_parts(two, nursery):
    many = {f"{n:064}": Mode.CONTROL for n in range(3000)}
    await two.admit({"ws1": many})
    parts = nursery.puppets[0].told(Admit)[-4:]
    assert [part.more for part in parts] == [True, True, True, False]
    assert {digest for part in parts for digest in part.admissions["ws1"]} == set(many)


async def test_closing_ends_answers_that_are_still_to_come(nursery):
    async def login(challenge):
        await asyncio.sleep(3600)

    with contextlib.suppress(asyncio.CancelledError):
        async with running(nursery, Keeper()) as engine:
            await engine.open(guarded(1), None, ignore, login)
            nursery.puppets[0].channel.send(Challenge(7, "ws1", ""))
            await moment()
