"""Whatever is done to seats and people, in whatever order: nobody has two seats, no seat two people, none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vncgate.errors import FullError, SeatTakenError, UnknownPersonError
from vncgate.ledger import Ledger
from vncgate.people import Person, Session, Standing

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)
SEATS = ["a", "b", "c"]
PEOPLE = [f"person-{number}" for number in range(8)]

seats = st.sampled_from(SEATS)
people = st.sampled_from(PEOPLE)
free = st.one_of(st.just(SEATS), st.permutations(SEATS), st.lists(seats, unique=True))
capacities = st.one_of(st.none(), st.integers(0, 3))


class Workshop(RuleBasedStateMachine):
    """The model: who sits where, who waits, in which order they came, which seats are spares, how often renewed."""

    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._runner = asyncio.Runner()
        self._ledger = self._run(Ledger.open(f"sqlite:///{self._folder.name}/ledger.sqlite"))
        self._sits = {}
        self._waits = []
        self._left = set()
        self._came = []
        self._spares = set()
        self._epochs = dict.fromkeys(SEATS, 0)
        self._sessions = {}

    def teardown(self):
        self._run(self._ledger.aclose())
        self._runner.close()
        self._folder.cleanup()

    def _run(self, work):
        return self._runner.run(work)

    def _to_be_had(self, free, capacity):
        left = len(free) if capacity is None else max(capacity - len(self._sits), 0)
        return [seat for seat in free if seat not in self._spares and seat not in self._sits.values()][:left]

    def _renew(self, seat):
        self._epochs[seat] += 1
        self._sessions = {digest: of for digest, of in self._sessions.items() if of != seat}

    @initialize(count=st.integers(0, 6))
    def many_have_come(self, count):
        for person in PEOPLE[:count]:
            self.sign_up(person, SEATS, 2, True)

    @rule(person=people, free=free, capacity=capacities, waiting=st.booleans())
    def sign_up(self, person, free, capacity, waiting):
        came = Person(person, "name", "email", NOW)
        ours = self._to_be_had(free, capacity)
        if person not in self._came:
            if waiting and (self._waits or not ours):
                self._waits.append(person)
            elif ours:
                self._sits[person] = ours[0]
            else:
                with contextlib.suppress(FullError):
                    self._run(self._ledger.sign_up(came, free, capacity=capacity, waiting=waiting))
                    raise AssertionError("there was no seat")
                return
            self._came.append(person)
        got = self._run(self._ledger.sign_up(came, free, capacity=capacity, waiting=waiting))
        assert got.account == self._sits.get(person, "")

    def _expect(self, work, error):
        with contextlib.suppress(error):
            self._run(work)
            raise AssertionError(f"no {error}")

    @rule(person=people, seat=seats)
    def assign(self, person, seat):
        work = self._ledger.assign(person, seat)
        if person not in self._came:
            self._expect(work, UnknownPersonError)
        elif self._sits.get(person, seat) != seat or (person not in self._sits and seat in self._sits.values()):
            self._expect(work, SeatTakenError)
        else:
            self._run(work)
            self._sit(person, seat)

    def _sit(self, person, seat):
        self._sits[person] = seat
        self._left.discard(person)
        self._waits = [each for each in self._waits if each != person]

    @rule(person=people, seat=seats)
    def move(self, person, seat):
        work, before = self._ledger.move(person, seat), self._sits.get(person)
        if person not in self._came:
            self._expect(work, UnknownPersonError)
        elif before != seat and seat in self._sits.values():
            self._expect(work, SeatTakenError)
        else:
            self._run(work)
            if before not in (None, seat):
                self._renew(before)
            self._sit(person, seat)

    @rule(seat=seats)
    def release(self, seat):
        left = self._run(self._ledger.release(seat))
        expected = next((person for person, of in self._sits.items() if of == seat), None)
        assert (left and left.id) == expected
        if expected:
            del self._sits[expected]
            self._left.add(expected)
        self._renew(seat)

    @rule(free=free, capacity=capacities)
    def move_up(self, free, capacity):
        moved = self._run(self._ledger.move_up(free, capacity=capacity))
        in_order = sorted(self._waits, key=self._came.index)
        expected = dict(zip(in_order, self._to_be_had(free, capacity), strict=False))
        assert {person.id: person.account for person in moved} == expected
        for person, seat in expected.items():
            self._sit(person, seat)

    @rule(person=people)
    def forget(self, person):
        self._run(self._ledger.forget(person))
        if person in self._came:
            self._came.remove(person)
        if seat := self._sits.pop(person, None):
            self._renew(seat)
        self._left.discard(person)
        self._waits = [each for each in self._waits if each != person]

    @rule(person=people, standing=st.sampled_from([Standing.LEFT, Standing.WAITING]))
    def give_up_or_come_back(self, person, standing):
        work = self._ledger.change_person(person, standing=standing)
        if person not in self._came:
            self._expect(work, UnknownPersonError)
        elif person in self._sits:
            self._expect(work, SeatTakenError)
        else:
            self._run(work)
            self._waits = [each for each in self._waits if each != person]
            self._left.discard(person)
            if standing is Standing.LEFT:
                self._left.add(person)
            else:
                self._waits.append(person)

    @rule(who=st.dictionaries(people, st.sampled_from([*SEATS, ""]), max_size=3))
    def take_in(self, who):
        work = self._ledger.take_in([], {}, who)
        if who.keys() - set(self._came):
            self._expect(work, UnknownPersonError)
            return
        then = self._sits | who
        taken = [seat for seat in then.values() if seat]
        if len(set(taken)) < len(taken):
            self._expect(work, SeatTakenError)
            return
        self._run(work)
        for person, seat in who.items():
            before = self._sits.get(person, "")
            if before and before != seat:
                self._renew(before)
        for person, seat in who.items():
            if seat:
                self._sit(person, seat)
            elif self._sits.pop(person, None):
                self._waits.append(person)

    @rule(seat=seats, spare=st.booleans())
    def change_seat(self, seat, spare):
        assert self._run(self._ledger.change_seat(seat, spare=spare)).spare is spare
        (self._spares.add if spare else self._spares.discard)(seat)

    @rule(seat=seats)
    def renew_seat(self, seat):
        self._renew(seat)
        assert self._run(self._ledger.renew_seat(seat)).epoch == self._epochs[seat]

    @precondition(lambda self: len(self._sessions) < 5)
    @rule(seat=seats, late=st.booleans())
    def sign_in(self, seat, late):
        digest = f"session-{len(self._sessions)}-{sum(self._epochs.values())}"
        if digest in self._sessions:
            return
        session, epoch = Session(digest, NOW, NOW + timedelta(hours=1), seat), self._epochs[seat] - late
        assert self._run(self._ledger.add_session(session, epoch)) is not late
        if not late:
            self._sessions[digest] = seat

    @invariant()
    def all_is_as_it_must_be(self):
        people = self._run(self._ledger.people())
        assert [person.id for person in people] == self._came
        assert {person.id: person.account for person in people if person.account} == self._sits
        assert len(set(self._sits.values())) == len(self._sits)
        standings = {
            **dict.fromkeys(self._sits, Standing.SEATED),
            **dict.fromkeys(self._waits, Standing.WAITING),
            **dict.fromkeys(self._left, Standing.LEFT),
        }
        assert {person.id: person.standing for person in people} == standings
        seats = self._run(self._ledger.seats())
        assert {seat.person: seat.account for seat in seats.values() if seat.person} == self._sits
        assert {account: seat.epoch for account, seat in seats.items() if seat.epoch} == {
            account: epoch for account, epoch in self._epochs.items() if epoch
        }
        assert {each.digest: each.seat for each in self._run(self._ledger.sessions(NOW))} == self._sessions


TestWorkshop = Workshop.TestCase
TestWorkshop.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
