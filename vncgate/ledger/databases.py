"""The little in which SQLite and PostgreSQL differ: how they are opened, who writes, what their errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from vncgate.errors import LedgerError
from vncgate.text import printable

LIMIT = 10.0
"""Seconds that a database may take for anything."""
WRITES = "writes"
"""The option of a connection: whether its transaction writes; without it there is none."""


class Kind(Protocol):
    """A kind of database."""

    where: str
    """What it is called in messages; without a password."""
    tidy: tuple[str, ...]
    """Statements that wipe from its files what was deleted, outside of a transaction."""
    no_transaction: Mapping[str, str]
    """Options of a connection that is to begin none."""

    def prepare(self) -> None:
        """Make what must be there before it is opened. Raises OSError and LedgerError; it blocks."""

    def engine(self) -> AsyncEngine:
        """What connects to it: one writer at a time, who sees all that others wrote, and readers who see one moment."""

    def check(self, connection: Connection) -> None:
        """Raises LedgerError where it is not fit for us."""

    def reason(self, error: DBAPIError) -> str:
        """What an error means, in plain words without what was to be written."""

    def passes(self, error: DBAPIError) -> bool:
        """Whether the same may succeed in a moment, and was not done."""


def kind_of(url: str) -> Kind:
    """By the URL: `sqlite:////path/to/ledger.sqlite` or `postgresql://user:password@host/database`.

    Raises LedgerError for any other.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = URL.create("")
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return SqliteFile(Path(parsed.database))
    if backend in ("postgresql", "postgres") and parsed.database:
        return Postgres(parsed)
    raise LedgerError(
        "the ledger's URL is not understood: sqlite:////path/to/ledger.sqlite, or postgresql://user:password@host/database"
    )


class SqliteFile:
    """A file on a disk of this host, in WAL mode: readers never wait. What was committed survives a loss of power."""

    tidy: tuple[str, ...] = ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
    no_transaction: Mapping[str, str] = {}

    def __init__(self, path: Path) -> None:
        self._path = path
        self.where = f"the ledger {printable(str(path))}"

    def prepare(self) -> None:
        """The file, 0600, and its folder. SQLite gives its other files the same mode."""
        with contextlib.suppress(FileExistsError):
            self._path.parent.mkdir(mode=0o700, parents=True)
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            # Not opened: closing it would give up the locks that this process has on it by SQLite (fcntl(2)).
            self._path.chmod(0o600)
        # Where aiosqlite fails to connect it leaves a thread to itself: so it is only asked where it will not.
        try:
            with contextlib.closing(sqlite3.connect(self._path)) as trial:
                trial.execute("PRAGMA schema_version")
        except sqlite3.Error as error:
            raise LedgerError(f"{self.where}: {_sqlite_reason(error)}") from None

    def engine(self) -> AsyncEngine:
        """One connection writes and two read."""
        url = URL.create("sqlite+aiosqlite", database=str(self._path))
        engine = create_async_engine(url, pool_size=3, max_overflow=0, pool_timeout=LIMIT, hide_parameters=True)
        event.listen(engine.sync_engine, "connect", self._connected)
        event.listen(engine.sync_engine, "begin", self._begin)
        return engine

    def check(self, connection: Connection) -> None:
        """Any will do."""

    def reason(self, error: DBAPIError) -> str:
        """See _sqlite_reason()."""
        return _sqlite_reason(error.orig)

    def passes(self, error: DBAPIError) -> bool:
        """Where another program has it."""
        return getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))

    def _connected(self, connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver is to begin no transactions of its own
        try:
            cursor = connection.cursor()
            for pragma in (
                f"busy_timeout = {LIMIT / 2 * 1000:.0f}",
                "journal_mode = WAL",
                "synchronous = FULL",
                "foreign_keys = ON",
                "secure_delete = ON",
                "temp_store = MEMORY",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()
        except BaseException:
            connection.close()  # nobody else has it; it has a thread
            raise

    def _begin(self, connection: Connection) -> None:
        match connection.get_execution_options().get(WRITES):
            case True:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            case False:
                connection.exec_driver_sql("BEGIN")


def _sqlite_reason(error: BaseException | None) -> str:
    """By SQLite's result codes (https://sqlite.org/rescode.html)."""
    name = getattr(error, "sqlite_errorname", "")
    for prefix, words in _SQLITE_REASONS.items():
        if name.startswith(prefix):
            return words
    return f"SQLite says {name or type(error).__name__}"


_SQLITE_REASONS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it may only be read; give it to the gate's user, with its folder",
    "SQLITE_PERM": "it may not be opened; give it to the gate's user, with its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; is its folder there, and the gate's user's?",
    "SQLITE_BUSY": "another program keeps it locked",
    "SQLITE_LOCKED": "another program keeps it locked",
    "SQLITE_CORRUPT": "it is damaged; put a backup in its place",
    "SQLITE_NOTADB": "it is no SQLite database",
    "SQLITE_IOERR": "its disk does not do as asked",
}


class Postgres:
    """A database on a server, for one gate or several."""

    tidy: tuple[str, ...] = ("VACUUM FULL people, mails, sessions, shares, audit, notes",)
    no_transaction: Mapping[str, str] = {"isolation_level": "AUTOCOMMIT"}

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+psycopg")
        at = url.host or url.query.get("host") or "this host"
        self.where = f"the ledger {printable(f'{url.database} on {at}')}"

    def prepare(self) -> None:
        """Its administrator has made it."""

    def engine(self) -> AsyncEngine:
        """A connection that was lost is noticed before it is used."""
        settings = {
            "lock_timeout": f"{LIMIT / 2}s",
            "statement_timeout": f"{LIMIT}s",
            # A gate that hangs while it writes must not hold up the others.
            "idle_in_transaction_session_timeout": f"{LIMIT / 4}s",
        }
        if find_spec("psycopg") is None:
            raise LedgerError(f"{self.where}: it needs psycopg: pip install 'vncgate[postgres]'")
        engine = create_async_engine(
            self._url,
            pool_size=4,
            max_overflow=0,
            pool_timeout=LIMIT,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "connect_timeout": int(LIMIT / 2),
                "application_name": "vncgate",
                "client_encoding": "utf8",
                "tcp_user_timeout": int(LIMIT * 1000),
                "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            },
        )
        event.listen(engine.sync_engine, "begin", self._begin)
        return engine

    def check(self, connection: Connection) -> None:
        """Names are in any script."""
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise LedgerError(f"{self.where}: its encoding is {encoding}; create it with ENCODING 'UTF8'")

    def reason(self, error: DBAPIError) -> str:
        """By SQLSTATE; where there is none the server was not reached, and libpq says why."""
        state = getattr(error.orig, "sqlstate", None)
        if state is None:
            said = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
            words = printable(said[0])
            return words.replace(self._url.password, "***") if self._url.password else words
        return _POSTGRES_REASONS.get(state, f"PostgreSQL says SQLSTATE {state}")

    def passes(self, error: DBAPIError) -> bool:
        """A server that is not there, a lost connection, a gate that was in the way."""
        state = getattr(error.orig, "sqlstate", None)
        away = isinstance(error, OperationalError) and state is None
        return away or error.connection_invalidated or state in _POSTGRES_PASSES

    def _begin(self, connection: Connection) -> None:
        match connection.get_execution_options().get(WRITES):
            case True:  # with READ COMMITTED all that comes after it sees what the one before has written
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            case False:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


_POSTGRES_PASSES = ("25P03", "40001", "40P01", "55P03", "57P01", "57P02", "57P03")

_LOCK = int.from_bytes(b"vncgate")
"""The advisory lock of this database that whoever writes has."""

_POSTGRES_REASONS = {
    "25006": "it may only be read; is it a standby?",
    "28000": "its user is refused; see pg_hba.conf there",
    "28P01": "its user or password is wrong",
    "3D000": "there is no such database",
    "42501": "its user may not do that; make it the database's owner",
    "53100": "its disk is full",
    "53300": "it has too many connections",
    "55P03": "another gate keeps it locked",
    "57014": "it took too long",
    "57P01": "it is being shut down",
    "57P03": "it is starting, or being shut down",
}
