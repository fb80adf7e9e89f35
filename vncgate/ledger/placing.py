"""How somebody comes to a seat and leaves it: functions of a connection, of which transactions are made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, exists, insert, select, update

from vncgate.errors import SeatTakenError, UnknownPersonError
from vncgate.ledger.tables import COUNTERS, PEOPLE, SEATS, SESSIONS, SHARES, person_of, seat_of
from vncgate.people import Person, Seat, Standing

SEATS_WITH_PEOPLE = select(*SEATS.c, PEOPLE.c.id.label("person")).outerjoin(PEOPLE, PEOPLE.c.account == SEATS.c.account)


def count_change(connection: Connection) -> None:
    """Seats, sessions or shares are other than they were."""
    connection.execute(update(COUNTERS).where(COUNTERS.c.name == "changes").values(value=COUNTERS.c.value + 1))


def seat_called(connection: Connection, account: str) -> Seat:
    """The seat; where nothing is known of it, a Seat with nothing but its account."""
    row = connection.execute(SEATS_WITH_PEOPLE.where(SEATS.c.account == account)).one_or_none()
    return Seat(account) if row is None else seat_of(row)


def person_called(connection: Connection, person_id: str) -> Person | None:
    """Somebody by their id; None: nobody."""
    row = connection.execute(select(PEOPLE).where(PEOPLE.c.id == person_id)).one_or_none()
    return None if row is None else person_of(row)


def known(connection: Connection, person_id: str) -> Person:
    """Somebody by their id. UnknownPersonError."""
    person = person_called(connection, person_id)
    if person is None:
        raise UnknownPersonError("nobody with this id has signed up")
    return person


def have_seat(connection: Connection, account: str) -> None:
    """There is a row of the seat from now on."""
    if not connection.scalar(select(exists().where(SEATS.c.account == account))):
        connection.execute(insert(SEATS).values(account=account))


def is_shown(connection: Connection, desktop: str, *, besides: str) -> bool:
    """Whether a seat, `besides` this one, shows this account's desktop after a swap."""
    shows = exists().where(SEATS.c.desktop == desktop, SEATS.c.account != besides)
    return bool(connection.scalar(select(shows)))


def to_be_had(connection: Connection, free: Sequence[str], capacity: int | None) -> list[str]:
    """Of `free`, in its order, the seats that may be given away: nobody has them and they are no spares; as many as
    are left of `capacity`.
    """
    taken = set(connection.scalars(select(PEOPLE.c.account).where(PEOPLE.c.account.is_not(None))))
    left = len(free) if capacity is None else capacity - len(taken)
    if left <= 0:
        return []
    taken.update(connection.scalars(select(SEATS.c.account).where(SEATS.c.spare)))
    taken.update(connection.scalars(select(SEATS.c.desktop).where(SEATS.c.desktop != SEATS.c.account)))
    return [account for account in dict.fromkeys(free) if account not in taken][:left]


def sit_down(connection: Connection, person_id: str, account: str, until: datetime | None = None) -> None:
    """Somebody without a seat gets this one, until the time that they have. SeatTakenError."""
    if seat_called(connection, account).person:
        raise SeatTakenError(f"somebody else has seat {account}")
    if is_shown(connection, account, besides=account):
        raise SeatTakenError(f"another seat shows the desktop of {account}")
    have_seat(connection, account)
    if until is not None:
        connection.execute(update(SEATS).where(SEATS.c.account == account).values(until=until))
    connection.execute(update(PEOPLE).where(PEOPLE.c.id == person_id).values(account=account, standing=Standing.SEATED))
    count_change(connection)


def vacate(connection: Connection, account: str, standing: Standing = Standing.LEFT) -> None:
    """Nobody has the seat any more: who had it is LEFT, or as said, and comes in neither with its PIN nor otherwise."""
    gone = {"account": None, "standing": standing}
    connection.execute(update(PEOPLE).where(PEOPLE.c.account == account).values(**gone))
    renew(connection, account)
    connection.execute(update(SEATS).where(SEATS.c.account == account).values(until=None, pin_hash=""))


def renew(connection: Connection, account: str) -> None:
    """What opened the seat so far is worthless: its links, its sessions, its shares and whoever came by these."""
    have_seat(connection, account)
    connection.execute(update(SEATS).where(SEATS.c.account == account).values(epoch=SEATS.c.epoch + 1))
    connection.execute(delete(SESSIONS).where(SESSIONS.c.seat == account))
    connection.execute(delete(SHARES).where(SHARES.c.account == account))  # and their sessions
    count_change(connection)
