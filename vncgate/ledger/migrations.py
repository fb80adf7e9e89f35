"""The tables' versions: a new ledger gets this one's tables, an older one is brought here step by step.

A step is an entry of STEPS: what makes of a ledger of the version before one of this version. All steps that a ledger
needs are done in one transaction. `tables` always says what the newest version has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, insert, inspect, select, update

from vncgate.errors import LedgerError
from vncgate.ledger.tables import COUNTERS, METADATA, SCHEMA

FIRST = 1
STEPS: Mapping[int, Callable[[Connection], None]] = {}
"""By the version that they lead to: FIRST + 1 and so on, without a gap."""


def migrate(connection: Connection, where: str) -> None:
    """Bring the ledger to this version. Raises LedgerError where it is of a newer one."""
    newest = max(STEPS, default=FIRST)
    if not inspect(connection).has_table(SCHEMA.name):
        METADATA.create_all(connection)
        connection.execute(insert(SCHEMA).values(version=newest))
        connection.execute(insert(COUNTERS).values(name="changes", value=0))
        return
    found = connection.execute(select(SCHEMA.c.version)).scalar_one()
    if found > newest:
        raise LedgerError(
            f"{where}: it was written by a newer vncgate (version {found} of its tables; this one knows {newest}); "
            "run that one, or restore the backup from before"
        )
    for version in range(found + 1, newest + 1):
        STEPS[version](connection)
    connection.execute(update(SCHEMA).values(version=newest))
