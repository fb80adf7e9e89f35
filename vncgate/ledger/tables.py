"""The ledger's tables, the same on SQLite and on PostgreSQL, and how their rows become nouns.

That nobody has two seats and no seat two people is so by construction: who sits where stands in one place only,
`people.account`, which is unique.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    DDL,
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    TypeDecorator,
    event,
)

from vncgate.people import Acceptance, AuditEntry, Mail, Mode, Person, Seat, Session, Share, Standing


class Moment(TypeDecorator[datetime]):
    """A time in UTC, aware of it; SQLite has no type for that, and keeps it as text that sorts."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: D102
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without its zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: D102
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Text(TypeDecorator[str]):
    """What strangers typed may have what one of the databases refuses (NUL, half a surrogate pair): it is replaced."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002, D102
        return None if value is None else value.replace("\0", "\ufffd").encode(errors="replace").decode()


METADATA = MetaData()

SCHEMA = Table("schema", METADATA, Column("version", Integer, primary_key=True))

COUNTERS = Table(
    "counters",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)

SEATS = Table(
    "seats",
    METADATA,
    Column("account", Text, primary_key=True),
    Column("pin_hash", Text, nullable=False, default=""),
    Column("epoch", Integer, nullable=False, default=0),
    Column("desktop", Text, nullable=False, default=""),
    Column("spare", Boolean, nullable=False, default=False),
    Column("until", Moment),
)

PEOPLE = Table(
    "people",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("place", Integer, nullable=False, unique=True),
    Column("standing", Text, nullable=False),
    Column("account", ForeignKey(SEATS.c.account), unique=True),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("signed_up", Moment, nullable=False),
    Column("answers", JSON, nullable=False),
    Column("accepted", JSON, nullable=False),
    CheckConstraint("(standing = 'seated') = (account IS NOT NULL)", name="who_is_seated_has_a_seat"),
)

SHARES = Table(
    "shares",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("account", Text, nullable=False, index=True),
    Column("mode", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("seat", Text, nullable=False, index=True),
    Column("mode", Text, nullable=False),
    Column("share", ForeignKey(SHARES.c.id, ondelete="CASCADE"), index=True),
    Column("organizer", Text, nullable=False),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("moment", Moment, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("about", Text, nullable=False, index=True),
)

MAILS = Table(
    "mails",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("person", ForeignKey(PEOPLE.c.id, ondelete="CASCADE"), index=True),
    Column("recipient", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("due", Moment, nullable=False, index=True),
    Column("tries", Integer, nullable=False),
)

FIGURES = Table(
    "figures",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("moment", Moment, nullable=False),
    Column("figures", JSON, nullable=False),
)

NOTES = Table(
    "notes",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)


# PostgreSQL's planner takes samples of what is in a table, and keeps them when it is deleted.
for _table in (PEOPLE, MAILS, AUDIT, NOTES):
    _columns = ", ".join(f"ALTER {column.name} SET STATISTICS 0" for column in _table.c)
    _ddl = DDL(f"ALTER TABLE %(fullname)s {_columns}")  # type: ignore[no-untyped-call]
    event.listen(_table, "after_create", _ddl.execute_if(dialect="postgresql"))

_Row: TypeAlias = Row[*tuple[Any, ...]]


def seat_of(row: _Row) -> Seat:
    """Of a row of SEATS with the id of PEOPLE beside it, as `person`."""
    return Seat(
        account=row.account,
        person=row.person or "",
        pin_hash=row.pin_hash,
        epoch=row.epoch,
        desktop=row.desktop,
        spare=row.spare,
        until=row.until,
    )


def person_of(row: _Row) -> Person:
    """Of a row of PEOPLE."""
    return Person(
        id=row.id,
        name=row.name,
        email=row.email,
        signed_up=row.signed_up,
        standing=Standing(row.standing),
        account=row.account or "",
        place=row.place,
        language=row.language,
        answers=row.answers,
        accepted=tuple(
            Acceptance(entry["document"], entry["sha256"], datetime.fromisoformat(entry["when"]))
            for entry in row.accepted
        ),
    )


def values_of_person(person: Person) -> dict[str, Any]:
    """What PEOPLE keeps of somebody, but for place and seat."""
    return {
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "language": person.language,
        "signed_up": person.signed_up,
        "answers": dict(person.answers),
        "accepted": values_of_accepted(person.accepted),
    }


def values_of_accepted(accepted: Iterable[Acceptance]) -> list[dict[str, str]]:
    """Acceptances as PEOPLE keeps them."""
    return [
        {"document": entry.document, "sha256": entry.sha256, "when": entry.when.astimezone(UTC).isoformat()}
        for entry in accepted
    ]


def session_of(row: _Row) -> Session:
    """Of a row of SESSIONS."""
    return Session(
        digest=row.digest,
        created=row.created,
        expires=row.expires,
        seat=row.seat,
        mode=Mode(row.mode),
        share=row.share or "",
        organizer=row.organizer,
    )


def share_of(row: _Row) -> Share:
    """Of a row of SHARES."""
    return Share(row.id, row.account, Mode(row.mode), row.created, row.expires)


def mail_of(row: _Row) -> Mail:
    """Of a row of MAILS."""
    return Mail(row.id, row.person or "", row.recipient, row.subject, row.body, row.due, row.tries)


def audit_entry_of(row: _Row) -> AuditEntry:
    """Of a row of AUDIT."""
    return AuditEntry(row.moment, row.who, row.what, row.about)


def figures_of(row: _Row) -> tuple[datetime, dict[str, float]]:
    """Of a row of FIGURES."""
    return row.moment, row.figures
