"""People who sign up, and the waiting list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from vncgate.errors import FullError, SeatTakenError
from vncgate.ledger.database import Database
from vncgate.ledger.papers import plan_mail
from vncgate.ledger.placing import known, person_called, seat_called, sit_down, to_be_had, vacate
from vncgate.ledger.tables import PEOPLE, person_of, values_of_accepted, values_of_person
from vncgate.people import Person, Standing

_MAY_CHANGE = frozenset({"name", "email", "language", "standing", "answers", "accepted"})


class People:
    """The part of a Ledger for people and the waiting list."""

    _database: Database

    async def sign_up(
        self, person: Person, free: Sequence[str], *, capacity: int | None, waiting: bool, mail: str = ""
    ) -> Person:
        """Somebody comes: they get the first seat of `free` that is to be had, exactly once.

        It is not to be had where somebody has it or it is a spare, where `capacity` people have seats already, or where
        others wait for one, if there is a `waiting` list. Who gets none is WAITING, at the list's end; without
        a list: FullError. Who has signed up before, by their id, gets what they have, whatever became of it.
        Who is WAITING from now on has the `mail` of this name planned (see `planned_mails()`).
        """

        def sign_up(connection: Connection) -> Person:
            if (before := person_called(connection, person.id)) is not None:
                return before
            ours = [] if waiting and _how_many(connection)[Standing.WAITING] else to_be_had(connection, free, capacity)
            if not ours and not waiting:
                raise FullError("all seats are taken")
            _append(connection, person)
            if ours:
                sit_down(connection, person.id, ours[0])
            else:
                plan_mail(connection, person, mail)
            return known(connection, person.id)

        return await self._database.write(sign_up)

    async def move_up(self, free: Sequence[str], *, capacity: int | None, mail: str = "") -> list[Person]:
        """The first of those who wait get what of `free` is to be had (see `sign_up()`); returns who got a seat. Each
        of them has the `mail` of this name planned (see `planned_mails()`).
        """

        def move_up(connection: Connection) -> list[Person]:
            seats = to_be_had(connection, free, capacity)
            waits = select(PEOPLE.c.id).where(PEOPLE.c.standing == Standing.WAITING).order_by(PEOPLE.c.place)
            first = connection.scalars(waits.limit(len(seats))).all()
            for person_id, account in zip(first, seats, strict=False):
                sit_down(connection, person_id, account)
            moved = [known(connection, person_id) for person_id in first]
            for person in moved:
                plan_mail(connection, person, mail)
            return moved

        return await self._database.write(move_up)

    async def person(self, id: str) -> Person | None:  # noqa: A002  (their name for it)
        """Somebody by their id; None: nobody."""
        return await self._database.read(lambda connection: person_called(connection, id))

    async def people(self) -> list[Person]:
        """All, in the order in which they signed up."""

        def people(connection: Connection) -> list[Person]:
            return [person_of(row) for row in connection.execute(select(PEOPLE).order_by(PEOPLE.c.place))]

        return await self._database.read(people)

    async def standings(self) -> dict[Standing, int]:
        """How many people there are of each standing."""
        return await self._database.read(_how_many)

    async def ahead(self, place: int) -> int:
        """How many of those who wait came before this place."""
        ahead = select(func.count()).where(PEOPLE.c.standing == Standing.WAITING, PEOPLE.c.place < place)
        return await self._database.read(lambda connection: connection.scalar(ahead) or 0)

    async def change_person(self, id: str, **changes: Any) -> Person:  # noqa: A002
        """Give fields of Person other values; returns them as they are then.

        `standing` only of who has no seat: LEFT, or WAITING again, at their old place. TypeError for other fields than
        these, `name`, `email`, `language`, `answers` and `accepted`.
        """
        _check(changes)

        def change(connection: Connection) -> Person:
            _change(connection, id, changes)
            return known(connection, id)

        return await self._database.write(change)

    async def take_in(
        self, new: Sequence[Person], changes: Mapping[str, Mapping[str, Any]], seats: Mapping[str, str]
    ) -> None:
        """Have new people at the end of the waiting list, other values in fields of others as by `change_person()`, and
        who sits where (by id; empty: on the waiting list): all of it or nothing. Seats may change hands among them.

        Each seat that somebody leaves is left as by `move()`. SeatTakenError, UnknownPersonError.
        """
        for fields in changes.values():
            _check(fields)

        def take_in(connection: Connection) -> None:
            _append(connection, *new)
            for person_id, fields in changes.items():
                _change(connection, person_id, fields)
            moving = {id_: account for id_, account in seats.items() if known(connection, id_).account != account}
            left = {id_: seat_called(connection, known(connection, id_).account) for id_ in moving}
            for seat in left.values():
                if seat.account:
                    vacate(connection, seat.account, Standing.WAITING)
            for person_id, account in moving.items():
                if account:
                    sit_down(connection, person_id, account, left[person_id].until)

        await self._database.write(take_in)


def _how_many(connection: Connection) -> dict[Standing, int]:
    counted = connection.execute(select(PEOPLE.c.standing, func.count()).group_by(PEOPLE.c.standing))
    return dict.fromkeys(Standing, 0) | {Standing(standing): count for standing, count in counted}


def _append(connection: Connection, *people: Person) -> None:
    """New people, at the end of the waiting list."""
    last = connection.scalar(select(func.max(PEOPLE.c.place))) or 0
    waits = {"standing": Standing.WAITING, "account": None}
    rows = [values_of_person(person) | waits | {"place": place} for place, person in enumerate(people, last + 1)]
    if rows:
        connection.execute(insert(PEOPLE), rows)


def _check(changes: Mapping[str, Any]) -> None:
    if wrong := changes.keys() - _MAY_CHANGE:
        raise TypeError(f"not to be changed in a person: {', '.join(sorted(wrong))}")
    if changes.get("standing") is Standing.SEATED:
        raise TypeError("who is SEATED is said by assign()")


def _change(connection: Connection, person_id: str, changes: Mapping[str, Any]) -> None:
    person = known(connection, person_id)
    if "standing" in changes and person.account:
        raise SeatTakenError(f"they have a seat, {person.account}")
    values = dict(changes)
    if "answers" in values:
        values["answers"] = dict(values["answers"])
    if "accepted" in values:
        values["accepted"] = values_of_accepted(values["accepted"])
    if values:
        connection.execute(update(PEOPLE).where(PEOPLE.c.id == person_id).values(**values))
