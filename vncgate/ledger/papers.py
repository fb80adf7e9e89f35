"""What else is written down: the audit log, mails to be sent, figures for the report, notes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, exists, insert, select, update

from vncgate.ledger.database import Database
from vncgate.ledger.placing import count_change
from vncgate.ledger.tables import (
    AUDIT,
    FIGURES,
    MAILS,
    NOTES,
    PEOPLE,
    audit_entry_of,
    figures_of,
    mail_of,
)
from vncgate.people import AuditEntry, Mail, Person

LEASE = timedelta(minutes=10)
"""How long a mail is in the hands of who took it; then it is due again, should that gate have died."""


def plan_mail(connection: Connection, person: Person, name: str) -> None:
    """Have the mail `name` to somebody written and sent, as surely as what it tells of is done: in one transaction.

    It has no text yet. One of this name that still waits to be sent tells of what is over, and goes.
    """
    if not (name and person.email):
        return
    id_ = f"{person.id}.{name}"
    connection.execute(delete(MAILS).where(MAILS.c.id == id_))
    empty = {"subject": "", "body": "", "tries": 0}
    values = {"id": id_, "person": person.id, "recipient": person.email, "due": person.signed_up}
    connection.execute(insert(MAILS).values(**values | empty))


class Papers:
    """The part of a Ledger for what is written down."""

    _database: Database

    async def note(self, entry: AuditEntry) -> None:
        """Write to the audit log."""
        values = {"moment": entry.when, "who": entry.who, "what": entry.what, "about": entry.about}
        await self._database.write(lambda connection: connection.execute(insert(AUDIT).values(**values)).rowcount)

    async def audit(self, limit: int = 1000) -> list[AuditEntry]:
        """The last `limit` entries, the newest first."""

        def audit(connection: Connection) -> list[AuditEntry]:
            rows = connection.execute(select(AUDIT).order_by(AUDIT.c.number.desc()).limit(limit))
            return [audit_entry_of(row) for row in rows]

        return await self._database.read(audit)

    async def queue_mail(self, mail: Mail) -> None:
        """Have it sent when it is due. Nothing happens where its id is queued already, or its person is forgotten."""

        def queue(connection: Connection) -> None:
            if mail.person and not connection.scalar(select(exists().where(PEOPLE.c.id == mail.person))):
                return
            if connection.scalar(select(exists().where(MAILS.c.id == mail.id))):
                return
            connection.execute(
                insert(MAILS).values(
                    id=mail.id,
                    person=mail.person or None,
                    recipient=mail.to,
                    subject=mail.subject,
                    body=mail.text,
                    due=mail.due,
                    tries=mail.tries,
                )
            )

        await self._database.write(queue)

    async def planned_mails(self, person_id: str = "") -> list[Mail]:
        """Those that have no text yet (see `plan_mail()`), of this person or of all."""
        planned = select(MAILS).where(MAILS.c.body == "").order_by(MAILS.c.due, MAILS.c.id)
        if person_id:
            planned = planned.where(MAILS.c.person == person_id)
        return await self._database.read(lambda connection: [mail_of(row) for row in connection.execute(planned)])

    async def write_mail(self, mail: Mail) -> None:
        """Give a planned mail its text: it is sent when it is due. Nothing happens where somebody else did, or nobody
        planned it.
        """
        planned = update(MAILS).where(MAILS.c.id == mail.id, MAILS.c.body == "")
        written = planned.values(recipient=mail.to, subject=mail.subject, body=mail.text, due=mail.due)
        await self._database.write(lambda connection: connection.execute(written).rowcount)

    async def due_mails(self, now: datetime, limit: int) -> list[Mail]:
        """Take the mails that are due, the longest due first; nobody else is given them for the time of a LEASE.

        Who took one says what became of it, by `mail_sent()` or `mail_failed()`.
        """

        def take(connection: Connection) -> list[Mail]:
            is_due = (MAILS.c.due <= now, MAILS.c.body != "")
            due = select(MAILS).where(*is_due).order_by(MAILS.c.due, MAILS.c.id).limit(limit)
            mails = [mail_of(row) for row in connection.execute(due)]
            connection.execute(update(MAILS).where(MAILS.c.id.in_([mail.id for mail in mails])).values(due=now + LEASE))
            return mails

        return await self._database.write(take)

    async def mail_sent(self, id: str) -> None:  # noqa: A002  (their name for it)
        """It is on its way, or given up: it is kept no longer."""
        await self._database.write(
            lambda connection: connection.execute(delete(MAILS).where(MAILS.c.id == id)).rowcount
        )

    async def mail_failed(self, id: str, due: datetime) -> None:  # noqa: A002
        """A try was in vain; the next is `due` then."""
        failed = update(MAILS).where(MAILS.c.id == id).values(due=due, tries=MAILS.c.tries + 1)
        await self._database.write(lambda connection: connection.execute(failed).rowcount)

    async def record(self, when: datetime, figures: Mapping[str, float]) -> None:
        """Keep figures of one moment for the report."""
        kept = insert(FIGURES).values(moment=when, figures=dict(figures))
        await self._database.write(lambda connection: connection.execute(kept).rowcount)

    async def recorded(self) -> list[tuple[datetime, dict[str, float]]]:
        """All figures, in the order of time."""

        def recorded(connection: Connection) -> list[tuple[datetime, dict[str, float]]]:
            rows = connection.execute(select(FIGURES).order_by(FIGURES.c.moment, FIGURES.c.number))
            return [figures_of(row) for row in rows]

        return await self._database.read(recorded)

    async def set_note(self, key: str, value: str) -> None:
        """Keep a small fact, in the place of what it was; `changes()` tells of it."""

        def keep(connection: Connection) -> None:
            if not connection.execute(update(NOTES).where(NOTES.c.key == key).values(value=value)).rowcount:
                connection.execute(insert(NOTES).values(key=key, value=value))
            count_change(connection)

        await self._database.write(keep)

    async def get_note(self, key: str) -> str:
        """What was kept last; empty: nothing."""
        return await self._database.read(
            lambda connection: connection.scalar(select(NOTES.c.value).where(NOTES.c.key == key)) or ""
        )
