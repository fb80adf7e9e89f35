"""Transactions: functions of a connection that are done whole, within a time limit, or not at all.

Writing is done by one after the other, everywhere: on SQLite by its write lock, on PostgreSQL by a lock that all gates
share, so that what is read while one writes stays true until it is written. Those who wait in this process go
together: the disk is waited for once for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from vncgate import tasks
from vncgate.errors import LedgerError
from vncgate.ledger.databases import LIMIT, WRITES, Kind, kind_of
from vncgate.ledger.migrations import migrate

Result = TypeVar("Result")

TURN = 0.25
"""Seconds in which those who wait go together; then other gates have their turn."""
LONGEST_WAIT = 120.0
"""Seconds that somebody waits behind others who write, and for their own turn."""
LAST_WAIT = 2.0
"""Seconds that who closes it waits for what is being written."""
PATIENCE = 5.0
"""Seconds in which what may pass, such as a server's restart, is tried again; not while it is being opened."""
PAUSE = 0.1
"""Seconds until the first of these tries; it doubles."""


@dataclass(eq=False)
class _Writing(Generic[Result]):
    """Somebody who waits for `work` to be done."""

    work: Callable[[Connection], Result]
    done: asyncio.Future[Result]
    outcome: Result | Exception | None = None


class Database:
    """One database, opened by `open()`. What it is given to do are functions of a connection, which may be called
    again should the database go away in the middle: they do nothing but by their connection.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._engine = kind.engine()
        self._patience = 0.0
        self._is_closing = False
        self._waiting: list[_Writing[Any]] = []
        self._somebody_waits = asyncio.Event()
        self._writer = tasks.spawn(self._write_on(), "ledger: write")

    @classmethod
    async def open(cls, url: str) -> Database:
        """Open it, with the tables of this version. Raises LedgerError."""
        kind = kind_of(url)
        try:
            async with asyncio.timeout(LIMIT):
                await tasks.in_thread(kind.prepare, "make the ledger's file")
        except TimeoutError:
            raise _silent(kind) from None
        except OSError as error:
            raise LedgerError(f"{kind.where}: {error.strerror}") from None
        database = cls(kind)
        try:
            await database.write(kind.check)
            await database.write(lambda connection: migrate(connection, kind.where))
        except BaseException:
            await database.aclose()
            raise
        database._patience = PATIENCE
        return database

    async def aclose(self) -> None:
        """Close it. What is being written now is, unless it takes long; whoever waits behind it is told."""
        self._is_closing = True
        self._somebody_waits.set()
        await asyncio.wait([self._writer], timeout=LAST_WAIT)
        await tasks.end(self._writer)
        for writing in self._waiting:
            if not writing.done.done():
                writing.done.set_exception(LedgerError(f"{self._kind.where}: it was closed"))
        self._waiting.clear()
        await self._engine.dispose()

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` returns; all that it reads is of one moment. Raises LedgerError, and what `work` raises."""
        return await self._transact(work, writes=False)

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` returns, when all that it wrote is on disk; where it raises, nothing of it is.

        Raises LedgerError, and what `work` raises. Who is cancelled does not know whether it was done.
        """
        writing: _Writing[Result] = _Writing(work, asyncio.get_running_loop().create_future())
        self._waiting.append(writing)
        self._somebody_waits.set()
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                return await writing.done
        except TimeoutError:
            raise _silent(self._kind) from None

    async def tidy(self) -> None:
        """Wipe from the database's files what was deleted. Raises LedgerError."""
        await self._trying(self._tidy)

    async def _write_on(self) -> None:
        while await self._somebody_waits.wait() and not self._is_closing:
            if waiting := [writing for writing in self._waiting if not writing.done.done()]:
                await self._write_together(waiting)
            self._waiting = [writing for writing in self._waiting if not writing.done.done()]
            if not self._waiting and not self._is_closing:
                self._somebody_waits.clear()

    async def _write_together(self, waiting: Sequence[_Writing[Any]]) -> None:
        """Do what those who wait want, as many as get a turn; if all of it fails, it does for all of them."""
        loop, written = asyncio.get_running_loop(), 0

        def work(connection: Connection) -> None:
            nonlocal written
            until, written = loop.time() + TURN, 0
            for writing in waiting:
                self._write_one(connection, writing)
                written += 1
                if loop.time() > until:
                    break

        try:
            await self._transact(work, writes=True)
        except Exception as error:  # noqa: BLE001  (whoever waits gets it)
            for writing in waiting:
                writing.outcome = error
            written = len(waiting)
        for writing in waiting[:written]:
            if writing.done.done():
                continue
            if isinstance(writing.outcome, Exception):
                writing.done.set_exception(writing.outcome)
            else:
                writing.done.set_result(writing.outcome)

    def _write_one(self, connection: Connection, writing: _Writing[Any]) -> None:
        """Who fails, fails alone; but for what concerns all of them."""
        try:
            with connection.begin_nested():
                writing.outcome = writing.work(connection)
        except (IntegrityError, DataError, ProgrammingError) as error:
            writing.outcome = self._error(error)
        except DBAPIError:
            raise
        except Exception as error:  # noqa: BLE001  (whoever waits for it gets it)
            writing.outcome = error

    async def _transact(self, work: Callable[[Connection], Result], *, writes: bool) -> Result:
        async def transaction() -> Result:
            async with self._engine.connect() as connection:
                await connection.execution_options(**{WRITES: writes})
                result = await connection.run_sync(work)
                try:
                    await connection.commit()
                except DBAPIError as error:
                    if not (writes and error.connection_invalidated):
                        raise
                    raise LedgerError(f"{self._error(error)}; whether it was written is not known") from None
                return result

        return await self._trying(transaction)

    async def _tidy(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execution_options(**self._kind.no_transaction)
            for statement in self._kind.tidy:
                told = await connection.exec_driver_sql(statement)
                if told.returns_rows and told.scalar():  # https://sqlite.org/pragma.html#pragma_wal_checkpoint
                    raise LedgerError(f"{self._kind.where}: another program reads it all the time")

    async def _trying(self, deed: Callable[[], Awaitable[Result]]) -> Result:
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + self._patience, PAUSE
        while True:
            try:
                async with asyncio.timeout(LIMIT):
                    return await deed()
            except (TimeoutError, PoolTimeoutError):
                raise _silent(self._kind) from None
            except DBAPIError as error:
                if not self._kind.passes(error) or loop.time() + pause > until:
                    raise self._error(error) from None
            await asyncio.sleep(pause)
            pause *= 2

    def _error(self, error: DBAPIError) -> LedgerError:
        return LedgerError(f"{self._kind.where}: {self._kind.reason(error)}")


def _silent(kind: Kind) -> LedgerError:
    return LedgerError(f"{kind.where}: it does not answer")
