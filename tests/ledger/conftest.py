"""Ledgers of both kinds, each new and empty."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import make_url

from tests.real.postgres import Postgres
from vncgate.ledger import Ledger


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL for all tests of this process."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def server(request):
    """The server, or None. Of the module's scope: what it starts is there before any test looks for leaks."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture(scope="module")
def database(server):
    """The URL of a database on the server, for all tests of the module; or None."""
    return server and server.database()


@pytest.fixture
def url(server, database, tmp_path):
    """The URL of a ledger that is not there yet."""
    return f"sqlite:///{tmp_path}/state/ledger.sqlite" if server is None else server.emptied(database)


@pytest_asyncio.fixture
async def open_ledger(url):
    """A function that opens the ledger once more, as another gate does."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_ledger_():
            ledger = await Ledger.open(url)
            stack.push_async_callback(ledger.aclose)
            return ledger

        yield open_ledger_


@pytest_asyncio.fixture
async def ledger(open_ledger):
    return await open_ledger()


@pytest.fixture
def everything_kept(server, url):
    """A function that reads all that the database has on disk: SQLite's files, or all of the database on the server."""

    def read():
        if server is None:
            folder = Path(make_url(url).database).parent
            return b"".join(path.read_bytes() for path in folder.iterdir())
        name = make_url(url).database
        with server.connect(name) as connection:
            connection.execute("CHECKPOINT")
            (number,) = connection.execute("SELECT oid FROM pg_database WHERE datname = %s", [name]).fetchone()
        return b"".join(path.read_bytes() for path in (server.folder / "data" / "base" / str(number)).iterdir())

    return read


@pytest.fixture
def statistics(server, url):
    """A function that has the server sample what is in the tables, as it does by itself when they grow."""

    def sample():
        if server is not None:
            with server.connect(make_url(url).database) as connection:
                connection.execute("ANALYZE")

    return sample
