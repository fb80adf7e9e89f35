"""Seats, and who is put on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, update

from vncgate.errors import SeatTakenError
from vncgate.ledger.database import Database
from vncgate.ledger.placing import (
    SEATS_WITH_PEOPLE,
    count_change,
    have_seat,
    is_shown,
    known,
    person_called,
    renew,
    seat_called,
    sit_down,
    vacate,
)
from vncgate.ledger.tables import SEATS, seat_of
from vncgate.people import Person, Seat

_MAY_CHANGE = frozenset(field.name for field in dataclasses.fields(Seat)) - {"account", "person"}


class Seats:
    """The part of a Ledger for seats."""

    _database: Database

    async def seat(self, account: str) -> Seat:
        """The seat; where nothing is known of it, a Seat with nothing but its account.

        It comes in its turn among what this gate writes: who remembers what they get is never left with an older one.
        """
        return await self._database.write(lambda connection: seat_called(connection, account))

    async def seats(self) -> dict[str, Seat]:
        """All seats of which something is known, by account."""

        def seats(connection: Connection) -> dict[str, Seat]:
            rows = connection.execute(SEATS_WITH_PEOPLE.order_by(SEATS.c.account))
            return {seat.account: seat for seat in map(seat_of, rows)}

        return await self._database.read(seats)

    async def change_seat(
        self, account: str, owner: str | None = None, at_epoch: int | None = None, **changes: Any
    ) -> Seat:
        """Give fields of Seat other values; returns it as it is then. SeatTakenError where it is not, or no longer, the
        seat of the person with the id `owner`, has another epoch than `at_epoch`, or where another has, or uses, the
        `desktop` that it is to show.

        Not `account`, nor `person`: see `assign()`, `release()` and `move()`. TypeError for these and unknown ones.
        """
        _check(changes)

        def change(connection: Connection) -> Seat:
            seat = seat_called(connection, account)
            if owner not in (None, seat.person) or at_epoch not in (None, seat.epoch):
                raise SeatTakenError(f"seat {account} is not theirs any more")
            _change(connection, account, changes)
            return seat_called(connection, account)

        return await self._database.write(change)

    async def renew_seat(self, account: str, **changes: Any) -> Seat:
        """Make all that opened the seat worthless, but for its PIN: its epoch + 1, its sessions and shares gone.

        And give fields other values, as by `change_seat()`.
        """
        _check(changes)

        def renew_seat(connection: Connection) -> Seat:
            renew(connection, account)
            _change(connection, account, changes)
            return seat_called(connection, account)

        return await self._database.write(renew_seat)

    async def assign(self, person_id: str, account: str) -> Person:
        """Put somebody who has none on a seat, a spare too.

        SeatTakenError where somebody else has it, or they have another; UnknownPersonError.
        """

        def assign(connection: Connection) -> Person:
            person = known(connection, person_id)
            if person.account == account:
                return person
            if person.account:
                raise SeatTakenError(f"they have another seat, {person.account}")
            sit_down(connection, person_id, account)
            return known(connection, person_id)

        return await self._database.write(assign)

    async def release(self, account: str) -> Person | None:
        """Nobody has this seat any more; whoever had it has LEFT.

        What opened it is worthless, as by `renew_seat()`, and a PIN that it was given too.
        """

        def release(connection: Connection) -> Person | None:
            person_id = seat_called(connection, account).person
            vacate(connection, account)
            return person_called(connection, person_id)

        return await self._database.write(release)

    async def move(self, person_id: str, account: str) -> Person:
        """Somebody changes to a free seat, with the time that they have. The one they had is free, as by `release()`.

        Who had none gets it, as by `assign()`. SeatTakenError where somebody else has it; UnknownPersonError.
        """

        def move(connection: Connection) -> Person:
            person = known(connection, person_id)
            if person.account == account:
                return person
            until = None
            if person.account:
                until = seat_called(connection, person.account).until
                vacate(connection, person.account)
            sit_down(connection, person_id, account, until)
            return known(connection, person_id)

        return await self._database.write(move)


def _check(changes: Mapping[str, Any]) -> None:
    if wrong := changes.keys() - _MAY_CHANGE:
        raise TypeError(f"not to be changed in a seat: {', '.join(sorted(wrong))}")


def _change(connection: Connection, account: str, changes: Mapping[str, Any]) -> None:
    have_seat(connection, account)
    if (desktop := changes.get("desktop", "")) not in ("", account) and (
        seat_called(connection, desktop).person or is_shown(connection, desktop, besides=account)
    ):
        raise SeatTakenError(f"somebody else uses the desktop of {desktop}")
    if changes:
        connection.execute(update(SEATS).where(SEATS.c.account == account).values(**changes))
        count_change(connection)
