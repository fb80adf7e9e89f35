"""Who sits where: seats, people, and the waiting list."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from vncgate.errors import FullError, SeatTakenError, UnknownPersonError
from vncgate.ledger.database import Database
from vncgate.ledger.tables import (
    AUDIT,
    COUNTERS,
    MAILS,
    PEOPLE,
    SEATS,
    SESSIONS,
    SHARES,
    audit_entry_of,
    mail_of,
    person_of,
    seat_of,
    session_of,
    share_of,
    values_of_accepted,
    values_of_person,
)
from vncgate.people import Person, Seat, Standing

_SEATS = select(*SEATS.c, PEOPLE.c.id.label("person")).outerjoin(PEOPLE, PEOPLE.c.account == SEATS.c.account)
_OF_SEATS = frozenset(field.name for field in dataclasses.fields(Seat)) - {"account", "person"}
_OF_PEOPLE = frozenset({"name", "email", "language", "standing", "answers", "accepted"})


class Seats:
    """The part of a Ledger for who sits where."""

    _database: Database

    async def seat(self, account: str) -> Seat:
        """The seat; where nothing is known of it, a Seat with nothing but its account."""
        return await self._database.read(lambda connection: _seat(connection, account))

    async def seats(self) -> dict[str, Seat]:
        """All seats of which something is known, by account."""

        def seats(connection: Connection) -> dict[str, Seat]:
            return {seat.account: seat for seat in map(seat_of, connection.execute(_SEATS.order_by(SEATS.c.account)))}

        return await self._database.read(seats)

    async def change_seat(self, account: str, **changes: Any) -> Seat:
        """Give fields of Seat other values; returns it as it is then.

        Not `account`, nor `person`: see `assign()`, `release()` and `move()`. TypeError for these and unknown ones.
        """
        if wrong := changes.keys() - _OF_SEATS:
            raise TypeError(f"not to be changed in a seat: {', '.join(sorted(wrong))}")

        def change(connection: Connection) -> Seat:
            _have_seat(connection, account)
            if changes:
                connection.execute(update(SEATS).where(SEATS.c.account == account).values(**changes))
            count_change(connection)
            return _seat(connection, account)

        return await self._database.write(change)

    async def renew_seat(self, account: str) -> Seat:
        """Make all that opened the seat so far worthless: its epoch + 1, its sessions and shares gone."""

        def renew(connection: Connection) -> Seat:
            _renew(connection, account)
            return _seat(connection, account)

        return await self._database.write(renew)

    async def sign_up(self, person: Person, free: Sequence[str], *, capacity: int | None, waiting: bool) -> Person:
        """Somebody comes: they get the first seat of `free` that is theirs to have, exactly once.

        A seat is not to be had where somebody sits on it or it is a spare, where `capacity` people are seated already,
        or where others wait for one, if there is a `waiting` list. Who gets none is WAITING, at the list's end; without
        a list: FullError. Who has signed up before, by their id, gets what they have, whatever became of it.
        """

        def sign_up(connection: Connection) -> Person:
            if (known := _person(connection, person.id)) is not None:
                return known
            last, others_wait = connection.execute(
                select(
                    func.coalesce(func.max(PEOPLE.c.place), 0),
                    func.count().filter(PEOPLE.c.standing == Standing.WAITING),
                )
            ).one()
            to_be_had = [] if waiting and others_wait else _to_be_had(connection, free, capacity)
            if not to_be_had and not waiting:
                raise FullError("all seats are taken")
            values = values_of_person(person) | {"place": last + 1, "standing": Standing.WAITING, "account": None}
            connection.execute(insert(PEOPLE).values(**values))
            if to_be_had:
                _sit_down(connection, person.id, to_be_had[0])
            return _known(connection, person.id)

        return await self._database.write(sign_up)

    async def assign(self, person_id: str, account: str) -> Person:
        """Put somebody who has none on a seat, a spare too.

        SeatTakenError where somebody else has it, or they have another.
        """

        def assign(connection: Connection) -> Person:
            person = _known(connection, person_id)
            if person.account == account:
                return person
            if person.account:
                raise SeatTakenError(f"they have another seat, {person.account}")
            _need_free(connection, account)
            _sit_down(connection, person_id, account)
            return _known(connection, person_id)

        return await self._database.write(assign)

    async def release(self, account: str) -> Person | None:
        """Nobody has this seat any more; whoever had it has LEFT. What opened it is worthless, its PIN too."""

        def release(connection: Connection) -> Person | None:
            person_id = _seat(connection, account).person
            if person_id:
                _stand_up(connection, person_id, Standing.LEFT)
            connection.execute(update(SEATS).where(SEATS.c.account == account).values(until=None, pin_hash=""))
            _renew(connection, account)
            return _person(connection, person_id)

        return await self._database.write(release)

    async def move(self, person_id: str, account: str) -> Person:
        """Somebody changes to a free seat, with the time that they have. The one they had is free, as by `release()`.

        Who had none gets it, as by `assign()`. SeatTakenError where somebody else has it.
        """

        def move(connection: Connection) -> Person:
            person = _known(connection, person_id)
            if person.account == account:
                return person
            _need_free(connection, account)
            until: datetime | None = None
            if person.account:
                until = _seat(connection, person.account).until
                _stand_up(connection, person_id, Standing.LEFT)
                connection.execute(
                    update(SEATS).where(SEATS.c.account == person.account).values(until=None, pin_hash="")
                )
                _renew(connection, person.account)
            _sit_down(connection, person_id, account)
            if until is not None:
                connection.execute(update(SEATS).where(SEATS.c.account == account).values(until=until))
            return _known(connection, person_id)

        return await self._database.write(move)

    async def move_up(self, free: Sequence[str], *, capacity: int | None) -> list[Person]:
        """The first of those who wait get what of `free` is to be had (see `sign_up()`); returns who got a seat."""

        def move_up(connection: Connection) -> list[Person]:
            to_be_had = _to_be_had(connection, free, capacity)
            waiting = connection.scalars(
                select(PEOPLE.c.id)
                .where(PEOPLE.c.standing == Standing.WAITING)
                .order_by(PEOPLE.c.place)
                .limit(len(to_be_had))
            ).all()
            for person_id, account in zip(waiting, to_be_had, strict=False):
                _sit_down(connection, person_id, account)
            return [_known(connection, person_id) for person_id in waiting]

        return await self._database.write(move_up)

    async def person(self, id: str) -> Person | None:  # noqa: A002  (their name for it)
        """Somebody by their id; None: nobody."""
        return await self._database.read(lambda connection: _person(connection, id))

    async def people(self) -> list[Person]:
        """All, in the order in which they signed up."""

        def people(connection: Connection) -> list[Person]:
            return [person_of(row) for row in connection.execute(select(PEOPLE).order_by(PEOPLE.c.place))]

        return await self._database.read(people)

    async def change_person(self, id: str, **changes: Any) -> Person:  # noqa: A002
        """Give fields of Person other values; returns them as they are then.

        `standing` only of who has no seat: LEFT, or WAITING again, at their old place. TypeError for other fields than
        these, `name`, `email`, `language`, `answers` and `accepted`.
        """
        if wrong := changes.keys() - _OF_PEOPLE:
            raise TypeError(f"not to be changed in a person: {', '.join(sorted(wrong))}")
        if "accepted" in changes:
            changes["accepted"] = values_of_accepted(changes["accepted"])
        if "answers" in changes:
            changes["answers"] = dict(changes["answers"])
        if changes.get("standing") is Standing.SEATED:
            raise TypeError("a seat is given by assign()")

        def change(connection: Connection) -> Person:
            person = _known(connection, id)
            if "standing" in changes and person.account:
                raise SeatTakenError(f"they have a seat, {person.account}")
            if changes:
                connection.execute(update(PEOPLE).where(PEOPLE.c.id == id).values(**changes))
            return _known(connection, id)

        return await self._database.write(change)

    async def standings(self) -> dict[Standing, int]:
        """How many people there are of each standing."""

        def standings(connection: Connection) -> dict[Standing, int]:
            counted = connection.execute(select(PEOPLE.c.standing, func.count()).group_by(PEOPLE.c.standing))
            return dict.fromkeys(Standing, 0) | {Standing(standing): count for standing, count in counted.tuples()}

        return await self._database.read(standings)

    async def ahead(self, place: int) -> int:
        """How many of those who wait came before this place."""
        ahead = select(func.count()).where(PEOPLE.c.standing == Standing.WAITING, PEOPLE.c.place < place)
        return await self._database.read(lambda connection: connection.scalar(ahead) or 0)

    async def take_in(
        self, new: Sequence[Person], changes: Mapping[str, Mapping[str, Any]], seats: Mapping[str, str]
    ) -> None:
        """Have new people at the end of the waiting list, other values in fields of others, and who sits where (by id;
        empty: on the waiting list): all of it or nothing. Seats may change hands among them.

        What opened a seat that somebody leaves is worthless, as by `release()`. SeatTakenError, UnknownPersonError.
        """

        def take_in(connection: Connection) -> None:
            last = connection.scalar(select(func.coalesce(func.max(PEOPLE.c.place), 0))) or 0
            for place, person in enumerate(new, last + 1):
                waits = {"place": place, "standing": Standing.WAITING, "account": None}
                connection.execute(insert(PEOPLE).values(**values_of_person(person) | waits))
            for person_id, fields in changes.items():
                _known(connection, person_id)
                connection.execute(update(PEOPLE).where(PEOPLE.c.id == person_id).values(**fields))
            moving = {id_: account for id_, account in seats.items() if _known(connection, id_).account != account}
            for person_id in moving:
                if left := _known(connection, person_id).account:
                    _stand_up(connection, person_id, Standing.WAITING)
                    connection.execute(update(SEATS).where(SEATS.c.account == left).values(until=None))
                    _renew(connection, left)
            for person_id, account in moving.items():
                if account:
                    _need_free(connection, account)
                    _sit_down(connection, person_id, account)

        await self._database.write(take_in)

    async def about(self, person_id: str) -> dict[str, Any]:
        """All that is kept of somebody, as plain data. UnknownPersonError."""
        return await self._database.read(lambda connection: _about(connection, person_id))

    async def forget(self, id: str) -> None:  # noqa: A002
        """Delete all that is kept of somebody; their seat is free, as by `release()`. Nobody: nothing happens."""

        def forget(connection: Connection) -> bool:
            person = _person(connection, id)
            if person is None:
                return False
            if person.account:
                connection.execute(
                    update(SEATS).where(SEATS.c.account == person.account).values(until=None, pin_hash="")
                )
                _renew(connection, person.account)
            connection.execute(update(AUDIT).where(AUDIT.c.about == id).values(about=""))
            connection.execute(delete(PEOPLE).where(PEOPLE.c.id == id))  # and their mails
            return True

        if await self._database.write(forget):
            await self._database.tidy()

    async def purge(self) -> dict[str, int]:
        """Delete all people and all that is kept of them; no link, session or share opens a seat any more.

        Returns how many of what went. Organizers stay signed in; what the audit log says of a person is no longer about
        anybody; figures and notes stay.
        """

        def purge(connection: Connection) -> dict[str, int]:
            entries = update(AUDIT).where(AUDIT.c.about.in_(select(PEOPLE.c.id))).values(about="")
            connection.execute(entries)
            deeds = {
                "mails": delete(MAILS),
                "people": delete(PEOPLE),
                "sessions": delete(SESSIONS).where(SESSIONS.c.organizer == ""),
                "shares": delete(SHARES),
            }
            gone = {what: connection.execute(deed).rowcount for what, deed in deeds.items()}
            connection.execute(update(SEATS).values(epoch=SEATS.c.epoch + 1, pin_hash="", until=None))
            count_change(connection)
            return gone

        gone = await self._database.write(purge)
        await self._database.tidy()
        return gone


def count_change(connection: Connection) -> None:
    """Seats, sessions or shares are other than they were."""
    connection.execute(update(COUNTERS).where(COUNTERS.c.name == "changes").values(value=COUNTERS.c.value + 1))


def _seat(connection: Connection, account: str) -> Seat:
    row = connection.execute(_SEATS.where(SEATS.c.account == account)).one_or_none()
    return Seat(account) if row is None else seat_of(row)


def _person(connection: Connection, person_id: str) -> Person | None:
    row = connection.execute(select(PEOPLE).where(PEOPLE.c.id == person_id)).one_or_none()
    return None if row is None else person_of(row)


def _known(connection: Connection, person_id: str) -> Person:
    person = _person(connection, person_id)
    if person is None:
        raise UnknownPersonError("nobody with this id has signed up")
    return person


def _have_seat(connection: Connection, account: str) -> None:
    if not connection.scalar(select(exists().where(SEATS.c.account == account))):
        connection.execute(insert(SEATS).values(account=account))


def _need_free(connection: Connection, account: str) -> None:
    if _seat(connection, account).person:
        raise SeatTakenError(f"somebody else has seat {account}")


def _to_be_had(connection: Connection, free: Sequence[str], capacity: int | None) -> list[str]:
    """Of `free`, in its order, the seats that may be given away."""
    taken = set(connection.scalars(select(PEOPLE.c.account).where(PEOPLE.c.account.is_not(None))))
    left = len(free) if capacity is None else capacity - len(taken)
    if left <= 0:
        return []
    taken.update(connection.scalars(select(SEATS.c.account).where(SEATS.c.spare)))
    return [account for account in dict.fromkeys(free) if account not in taken][:left]


def _sit_down(connection: Connection, person_id: str, account: str) -> None:
    _have_seat(connection, account)
    connection.execute(update(PEOPLE).where(PEOPLE.c.id == person_id).values(account=account, standing=Standing.SEATED))
    count_change(connection)


def _stand_up(connection: Connection, person_id: str, standing: Standing) -> None:
    connection.execute(update(PEOPLE).where(PEOPLE.c.id == person_id).values(account=None, standing=standing))


def _renew(connection: Connection, account: str) -> None:
    _have_seat(connection, account)
    connection.execute(update(SEATS).where(SEATS.c.account == account).values(epoch=SEATS.c.epoch + 1))
    connection.execute(delete(SESSIONS).where(SESSIONS.c.seat == account))
    connection.execute(delete(SHARES).where(SHARES.c.account == account))  # and their sessions
    count_change(connection)


def _about(connection: Connection, person_id: str) -> dict[str, Any]:
    person = _known(connection, person_id)
    mails = connection.execute(select(MAILS).where(MAILS.c.person == person_id).order_by(MAILS.c.due))
    audit = connection.execute(select(AUDIT).where(AUDIT.c.about == person_id).order_by(AUDIT.c.number))
    sessions = connection.execute(
        select(SESSIONS).where(SESSIONS.c.seat == person.account, SESSIONS.c.share.is_(None), SESSIONS.c.seat != "")
    )
    shares = connection.execute(select(SHARES).where(SHARES.c.account == person.account))
    seat = _seat(connection, person.account) if person.account else None
    return {
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "language": person.language,
        "signed_up": person.signed_up.isoformat(),
        "standing": person.standing.value,
        "place": person.place,
        "answers": dict(person.answers),
        "accepted": values_of_accepted(person.accepted),
        "seat": seat and {"account": seat.account, "shows": seat.shows, "until": seat.until and seat.until.isoformat()},
        "sessions": [
            {"created": session.created.isoformat(), "expires": session.expires.isoformat()}
            for session in map(session_of, sessions)
        ],
        "shares": [
            {"mode": share.mode.value, "created": share.created.isoformat(), "expires": share.expires.isoformat()}
            for share in map(share_of, shares)
        ],
        "mails": [
            {"to": mail.to, "subject": mail.subject, "text": mail.text, "due": mail.due.isoformat()}
            for mail in map(mail_of, mails)
        ],
        "audit": [
            {"when": entry.when.isoformat(), "who": entry.who, "what": entry.what}
            for entry in map(audit_entry_of, audit)
        ],
    }
