"""Personal data: all that is kept of somebody, given out or deleted."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select, update

from vncgate.errors import LedgerError
from vncgate.ledger.database import Database
from vncgate.ledger.placing import count_change, known, person_called, seat_called, vacate
from vncgate.ledger.tables import (
    AUDIT,
    MAILS,
    NOTES,
    PEOPLE,
    SEATS,
    SESSIONS,
    SHARES,
    audit_entry_of,
    mail_of,
    session_of,
    share_of,
    values_of_accepted,
)
from vncgate.people import Person
from vncgate.viewer_notes import MESSAGES

log = logging.getLogger(__name__)

_WIPE = NOTES.c.key == "to wipe"
_TO_WIPE = select(exists().where(_WIPE))
"""Whether something was deleted that the files may still have, should the gate have been killed in between."""


class PersonalData:
    """The part of a Ledger for what it knows of somebody."""

    _database: Database

    async def about(self, person_id: str) -> dict[str, Any]:
        """All that is kept of somebody, as plain data, fit for JSON. UnknownPersonError."""

        def about(connection: Connection) -> dict[str, Any]:
            person = known(connection, person_id)
            return _of_themselves(person) | _of_their_seat(connection, person) | _of_papers(connection, person)

        return await self._database.read(about)

    async def forget(self, id: str) -> str:  # noqa: A002  (their name for it)
        """Delete all that is kept of somebody; their seat is free, as by `release()`.

        Returns the account of that seat; empty: they had none, or nobody is known by this id.
        """

        def forget(connection: Connection) -> Person | None:
            person = person_called(connection, id)
            if person is None:
                return None
            if person.account:
                vacate(connection, person.account)
            connection.execute(update(AUDIT).where(AUDIT.c.about == id).values(about=""))
            connection.execute(delete(PEOPLE).where(PEOPLE.c.id == id))  # and their mails
            _leave_to_wipe(connection)
            return person

        if (person := await self._database.write(forget)) is None:
            return ""
        await self.wipe()
        return person.account

    async def purge(self) -> dict[str, int]:
        """Delete all people and all that is kept of them; no link, session, share or given PIN opens a seat any more.

        Returns how many of what went. Organizers stay signed in; what the audit log says of a person is no longer about
        anybody; organizers' messages, in which names may stand, go too; figures and other notes stay.
        """

        def purge(connection: Connection) -> dict[str, int]:
            connection.execute(update(AUDIT).where(AUDIT.c.about.in_(select(PEOPLE.c.id))).values(about=""))
            deeds = {
                "mails": delete(MAILS),
                "people": delete(PEOPLE),
                "sessions": delete(SESSIONS).where(SESSIONS.c.organizer == ""),
                "shares": delete(SHARES),
            }
            gone = {what: connection.execute(deed).rowcount for what, deed in deeds.items()}
            connection.execute(update(SEATS).values(epoch=SEATS.c.epoch + 1, pin_hash="", until=None))
            connection.execute(delete(NOTES).where(NOTES.c.key == MESSAGES))
            _leave_to_wipe(connection)
            count_change(connection)
            return gone

        gone = await self._database.write(purge)
        await self.wipe()
        return gone

    async def wipe(self) -> None:
        """Wipe from the database's files what was deleted, if that is still to be done; `forget()`, `purge()` and
        opening the ledger do it. Where it cannot be done now, the log says so, and the next of these tries it again.
        """
        if not await self._database.read(lambda connection: connection.scalar(_TO_WIPE)):
            return
        try:
            await self._database.tidy()
        except LedgerError as error:
            log.warning("%s; what was deleted is still in its files, until the gate starts anew at the latest", error)
        else:
            await self._database.write(lambda connection: connection.execute(delete(NOTES).where(_WIPE)).rowcount)


def _leave_to_wipe(connection: Connection) -> None:
    if not connection.scalar(_TO_WIPE):
        connection.execute(insert(NOTES).values(key="to wipe", value="1"))


def _of_themselves(person: Person) -> dict[str, Any]:
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
    }


def _of_their_seat(connection: Connection, person: Person) -> dict[str, Any]:
    if not person.account:
        return {"seat": None, "sessions": [], "shares": []}
    seat = seat_called(connection, person.account)
    theirs = select(SESSIONS).where(SESSIONS.c.seat == person.account, SESSIONS.c.share.is_(None))
    shares = select(SHARES).where(SHARES.c.account == person.account)
    return {
        "seat": {"account": seat.account, "shows": seat.shows, "until": seat.until and seat.until.isoformat()},
        "sessions": [
            {"created": session.created.isoformat(), "expires": session.expires.isoformat()}
            for session in map(session_of, connection.execute(theirs.order_by(SESSIONS.c.created)))
        ],
        "shares": [
            {"mode": share.mode.value, "created": share.created.isoformat(), "expires": share.expires.isoformat()}
            for share in map(share_of, connection.execute(shares.order_by(SHARES.c.created)))
        ],
    }


def _of_papers(connection: Connection, person: Person) -> dict[str, Any]:
    mails = select(MAILS).where(MAILS.c.person == person.id).order_by(MAILS.c.due)
    audit = select(AUDIT).where(AUDIT.c.about == person.id).order_by(AUDIT.c.number)
    return {
        "mails": [
            {"to": mail.to, "subject": mail.subject, "due": mail.due.isoformat()}  # the text may have their PIN in it
            for mail in map(mail_of, connection.execute(mails))
        ],
        "audit": [
            {"when": entry.when.isoformat(), "who": entry.who, "what": entry.what}
            for entry in map(audit_entry_of, connection.execute(audit))
        ],
    }
