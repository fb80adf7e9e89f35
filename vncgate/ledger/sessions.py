"""Who is signed in, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, select

from vncgate.ledger.database import Database
from vncgate.ledger.placing import SEATS_WITH_PEOPLE, count_change
from vncgate.ledger.tables import COUNTERS, NOTES, SEATS, SESSIONS, SHARES, seat_of, session_of, share_of
from vncgate.people import Seat, Session, Share


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a gate keeps in memory, as it was when `changes` had happened. Sessions and shares that have not expired."""

    changes: int
    seats: Mapping[str, Seat]
    sessions: Sequence[Session]
    shares: Sequence[Share]
    notes: Mapping[str, str]


class Sessions:
    """The part of a Ledger for sessions and shares."""

    _database: Database

    async def add_session(self, session: Session, epoch: int | None = None) -> bool:
        """Somebody has signed in.

        False, and nothing is kept, where meanwhile the share by which they came has ended, or their seat is no longer
        of the `epoch` of what let them in.
        """

        def add(connection: Connection) -> bool:
            if session.share and not connection.scalar(select(exists().where(SHARES.c.id == session.share))):
                return False
            found = connection.scalar(select(SEATS.c.epoch).where(SEATS.c.account == session.seat)) or 0
            if epoch is not None and epoch != found:
                return False
            connection.execute(delete(SESSIONS).where(SESSIONS.c.expires <= session.created))
            connection.execute(
                insert(SESSIONS).values(
                    digest=session.digest,
                    created=session.created,
                    expires=session.expires,
                    seat=session.seat,
                    mode=session.mode,
                    share=session.share or None,
                    organizer=session.organizer,
                )
            )
            count_change(connection)
            return True

        return await self._database.write(add)

    async def session(self, digest: str, now: datetime) -> Session | None:
        """The session of this digest, if it has not expired."""

        def session(connection: Connection) -> Session | None:
            row = connection.execute(
                select(SESSIONS).where(SESSIONS.c.digest == digest, SESSIONS.c.expires > now)
            ).one_or_none()
            return None if row is None else session_of(row)

        return await self._database.read(session)

    async def sessions(self, now: datetime) -> list[Session]:
        """All that have not expired, the oldest first."""

        def sessions(connection: Connection) -> list[Session]:
            rows = connection.execute(
                select(SESSIONS).where(SESSIONS.c.expires > now).order_by(SESSIONS.c.created, SESSIONS.c.digest)
            )
            return [session_of(row) for row in rows]

        return await self._database.read(sessions)

    async def end_session(self, digest: str) -> None:
        """Sign out."""
        await self._end(SESSIONS.c.digest == digest)

    async def end_sessions(self, account: str) -> None:
        """Sign out everywhere: all sessions on this seat, those by shares too; its links stay good."""
        await self._end(SESSIONS.c.seat == account)

    async def add_share(self, share: Share) -> None:
        """A seat's owner lets others in."""

        def add(connection: Connection) -> None:
            connection.execute(delete(SHARES).where(SHARES.c.expires <= share.created))
            connection.execute(
                insert(SHARES).values(
                    id=share.id, account=share.account, mode=share.mode, created=share.created, expires=share.expires
                )
            )
            count_change(connection)

        await self._database.write(add)

    async def shares(self, now: datetime, account: str = "") -> list[Share]:
        """Those that have not expired, of this account or of all, the oldest first."""

        def shares(connection: Connection) -> list[Share]:
            found = select(SHARES).where(SHARES.c.expires > now).order_by(SHARES.c.created, SHARES.c.id)
            if account:
                found = found.where(SHARES.c.account == account)
            return [share_of(row) for row in connection.execute(found)]

        return await self._database.read(shares)

    async def end_share(self, id: str) -> None:  # noqa: A002  (its name)
        """It lets nobody in any more, and whoever came by it is signed out."""

        def end(connection: Connection) -> None:
            connection.execute(delete(SHARES).where(SHARES.c.id == id))  # and its sessions
            count_change(connection)

        await self._database.write(end)

    async def _end(self, whose: ColumnElement[bool]) -> None:
        def end(connection: Connection) -> None:
            connection.execute(delete(SESSIONS).where(whose))
            count_change(connection)

        await self._database.write(end)

    async def snapshot(self, now: datetime) -> Snapshot:
        """All that opens seats, of one moment. It comes in its turn among what this gate writes, as `seat()` does."""

        def snapshot(connection: Connection) -> Snapshot:
            seats = map(seat_of, connection.execute(SEATS_WITH_PEOPLE.order_by(SEATS.c.account)))
            sessions = connection.execute(select(SESSIONS).where(SESSIONS.c.expires > now))
            shares = connection.execute(select(SHARES).where(SHARES.c.expires > now))
            return Snapshot(
                changes=_changes(connection),
                seats={seat.account: seat for seat in seats},
                sessions=[*map(session_of, sessions)],
                shares=[*map(share_of, shares)],
                notes={row.key: row.value for row in connection.execute(select(NOTES))},
            )

        return await self._database.write(snapshot)

    async def changes(self) -> int:
        """A count that every change of seats, sessions, shares and notes raises, by whichever gate."""
        return await self._database.read(_changes)


def _changes(connection: Connection) -> int:
    return int(connection.execute(select(COUNTERS.c.value).where(COUNTERS.c.name == "changes")).scalar_one())
