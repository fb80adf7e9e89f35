"""The ledger: people, seats, sessions, and what else must outlive the gate, in SQLite or in PostgreSQL.

`Ledger` is all that others see. `people`, `seats`, `sessions`, `papers` and `personal` are its parts: what is asked of
the `tables`, as functions of a connection; `placing` has those by which somebody comes to a seat and leaves it.
`database` does them as transactions; `databases` is the little in which the two kinds of database differ; `migrations`
brings an older ledger to this version.
"""

from __future__ import annotations

from vncgate.ledger.database import Database
from vncgate.ledger.papers import Papers
from vncgate.ledger.people import People
from vncgate.ledger.personal import PersonalData
from vncgate.ledger.seats import Seats
from vncgate.ledger.sessions import Sessions


class Ledger(People, Seats, Sessions, Papers, PersonalData):
    """Every method raises LedgerError, in plain words without a secret, when the database does not do as asked; a call
    ends within two minutes, mostly within milliseconds.

    What a method that writes returns is on disk. All times are in UTC, and aware of it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, url: str) -> Ledger:
        """Open `sqlite:////path/to/ledger.sqlite`, which is made, or `postgresql://user:password@host/database`."""
        ledger = cls(await Database.open(url))
        try:
            await ledger.wipe()
        except BaseException:
            await ledger.aclose()
            raise
        return ledger

    async def aclose(self) -> None:
        """Close it."""
        await self._database.aclose()
