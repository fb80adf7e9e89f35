"""A gate that is killed at any moment loses nobody who was told what they got, and gives no seat twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ledger.signing_up import NOW
from vncgate.people import Person, Standing

PEOPLE, SEATS = 300, 40
pytestmark = pytest.mark.real


class Gate:
    """A process in which people sign up. `told` has what each was told."""

    def __init__(self, url, first, told):
        argv = [sys.executable, "-m", "tests.ledger.signing_up", *map(str, (first, PEOPLE, SEATS))]
        self._process = subprocess.Popen(
            argv, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._process.stdin.write(url)
        self._process.stdin.close()
        self._told = told

    def read(self, lines):
        """Wait until so many more were told, or all."""
        for _ in range(lines):
            if not (line := self._process.stdout.readline()).endswith("\n"):
                return
            person, *what = line.split()
            assert self._told.setdefault(person, what) == what, "told something else than before"

    def kill(self):
        """SIGKILL; what it told until then is read."""
        self._process.send_signal(signal.SIGKILL)
        self.read(PEOPLE)
        self._process.wait()
        self._process.stdout.close()

    def finish(self):
        """Let it come to its end."""
        self.read(PEOPLE)
        assert self._process.wait(60) == 0
        self._process.stdout.close()


async def agrees(open_ledger, told):
    """What the ledger has is what people were told."""
    people = await (await open_ledger()).people()
    kept = {person.id: [str(person.place), person.account or "-"] for person in people}
    assert {person: kept.get(person) for person in told} == told
    assert [person.place for person in people] == list(range(1, len(people) + 1))
    seated = [person for person in people if person.standing is Standing.SEATED]
    assert len({person.account for person in seated}) == len(seated) <= SEATS
    assert all(person.standing is Standing.WAITING for person in people[SEATS:])
    return people


async def test_who_was_told_of_a_seat_has_it(url, open_ledger):
    told = {}
    for lines in (1, 30, 101, 7, 160):  # of each new process; those who were told before are told again
        gate = Gate(url, 0, told)
        await asyncio.to_thread(gate.read, lines)
        await asyncio.to_thread(gate.kill)
        await agrees(open_ledger, told)
    gate = Gate(url, 0, told)
    await asyncio.to_thread(gate.finish)
    people = await agrees(open_ledger, told)
    assert len(told) == len(people) == PEOPLE
    assert sum(person.standing is Standing.SEATED for person in people) == SEATS


async def test_two_gates_at_once_of_which_one_is_killed(url, open_ledger):
    told, of_the_other = {}, {}
    first, other = Gate(url, 0, told), Gate(url, PEOPLE, of_the_other)
    await asyncio.to_thread(first.read, 50)
    await asyncio.to_thread(first.kill)
    await asyncio.to_thread(other.finish)
    people = await agrees(open_ledger, told | of_the_other)
    assert len(of_the_other) == PEOPLE
    assert sum(person.standing is Standing.SEATED for person in people) == SEATS


@pytest.mark.parametrize("lines", [1, 17])
async def test_who_moved_up_has_a_mail_planned(url, open_ledger, lines):
    ledger = await open_ledger()
    waiting = [Person(f"person-{number}", "A name", "a@example.org", NOW) for number in range(PEOPLE)]
    await ledger.take_in(waiting, {}, {})
    argv = [sys.executable, "-m", "tests.ledger.moving_up"]
    with subprocess.Popen(
        argv, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as gate:
        gate.stdin.write(url)
        gate.stdin.close()
        told = await asyncio.to_thread(lambda: [gate.stdout.readline().strip() for _ in range(lines)])
        gate.kill()
        told += await asyncio.to_thread(lambda: gate.stdout.read().split())
    seated = {person.id for person in await ledger.people() if person.account}
    assert set(told) <= seated
    assert {mail.person for mail in await ledger.planned_mails()} == seated
