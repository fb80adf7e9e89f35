"""A ledger that does not answer says so in plain words, in time and without a secret; and it comes back by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.real.postgres import Postgres
from vncgate.errors import LedgerError
from vncgate.ledger import Ledger, database
from vncgate.people import Person

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)


def somebody(number):
    return Person(f"person-{number}", "Kanarien Vogel", "kanarien@birds.example", NOW)


async def sign_up(ledger, number):
    return await ledger.sign_up(somebody(number), [], capacity=None, waiting=True)


async def opening_fails(url):
    """What it says; all of it, should somebody log its traceback."""
    with pytest.raises(LedgerError) as caught:
        await Ledger.open(url)
    return str(caught.value), "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    ["", "ledger.sqlite", "sqlite://", "sqlite:///:memory:", "mysql://a:secret@b/c", "postgresql://a:secret@host"],
)
async def test_another_url_is_refused(url):
    said, traced = await opening_fails(url)
    assert "the ledger's URL is not understood" in said
    assert "secret" not in traced


async def test_without_its_driver_postgresql_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("vncgate.ledger.databases.find_spec", lambda name: None)
    said, traced = await opening_fails("postgresql://a:secret@host/ledger")
    assert said == "the ledger ledger on host: it needs psycopg: pip install 'vncgate[postgres]'"
    assert "secret" not in traced


# SQLite


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "ledger.sqlite"


async def test_its_files_are_for_nobody_else(file):
    before = os.umask(0)
    try:
        ledger = await Ledger.open(f"sqlite:///{file}")
    finally:
        os.umask(before)
    await sign_up(ledger, 1)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == dict.fromkeys(
        ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"), 0o600
    )
    await ledger.aclose()
    file.chmod(0o644)
    await (await Ledger.open(f"sqlite:///{file}")).aclose()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_what_is_no_database_is_left_alone(file):
    file.parent.mkdir()
    file.write_text("a letter, and a long one, which is no database at all " * 100)
    said, _ = await opening_fails(f"sqlite:///{file}")
    assert said == f"the ledger {file}: it is no SQLite database"
    assert file.read_text().startswith("a letter")


async def test_a_folder_in_its_place_or_a_file_in_its_folders(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    said, _ = await opening_fails(f"sqlite:///{tmp_path}/file/ledger.sqlite")
    assert said == f"the ledger {tmp_path}/file/ledger.sqlite: Not a directory"
    said, _ = await opening_fails(f"sqlite:///{tmp_path}/folder")
    assert said == f"the ledger {tmp_path}/folder: it cannot be opened; is its folder there, and the gate's user's?"


async def test_another_program_that_keeps_it_locked(file, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0)
    monkeypatch.setattr("vncgate.ledger.databases.LIMIT", 0.2)
    ledger = await Ledger.open(f"sqlite:///{file}")
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="ledger.sqlite: another program keeps it locked"):
            await sign_up(ledger, 1)
        assert await ledger.people() == []  # readers do not wait for it
        other.execute("COMMIT")
        assert (await sign_up(ledger, 1)).place == 1
    finally:
        other.close()
        await ledger.aclose()


async def test_one_of_many_that_fails_fails_alone(file):
    ledger = await Ledger.open(f"sqlite:///{file}")
    try:
        naive = Person("naive", "x", "y", datetime(2026, 5, 4))
        outcomes = await asyncio.gather(
            sign_up(ledger, 1),
            ledger.sign_up(naive, [], capacity=None, waiting=True),
            ledger.assign("nobody", "school01"),
            sign_up(ledger, 2),
            return_exceptions=True,
        )
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, True, False]
        assert [person.id for person in await ledger.people()] == ["person-1", "person-2"]
    finally:
        await ledger.aclose()


async def test_who_goes_away_while_they_wait_holds_up_nobody(file):
    ledger = await Ledger.open(f"sqlite:///{file}")
    try:
        tasks = [asyncio.ensure_future(sign_up(ledger, number)) for number in range(50)]
        reads = [asyncio.ensure_future(ledger.people()) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2] + reads[::2]:
            task.cancel()
        await asyncio.wait(tasks + reads)
        assert {task.result().id for task in tasks[1::2]} <= {person.id for person in await ledger.people()}
        assert all(isinstance(read.result(), list) for read in reads[1::2])
        assert (await sign_up(ledger, 99)).id == "person-99"
    finally:
        await ledger.aclose()


async def test_whoever_waits_hears_that_it_is_closed(file):
    ledger = await Ledger.open(f"sqlite:///{file}")
    tasks = [asyncio.ensure_future(sign_up(ledger, number)) for number in range(500)]
    await asyncio.sleep(0)
    await ledger.aclose()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    told = {outcome.id for outcome in outcomes if isinstance(outcome, Person)}
    assert {str(outcome) for outcome in outcomes if isinstance(outcome, Exception)} == {
        f"the ledger {file}: it was closed"
    }
    again = await Ledger.open(f"sqlite:///{file}")
    assert told <= {person.id for person in await again.people()}
    await again.aclose()


async def test_a_ledger_of_a_newer_version_is_left_alone(file):
    await (await Ledger.open(f"sqlite:///{file}")).aclose()
    with sqlite3.connect(file) as other:
        other.execute("UPDATE schema SET version = 99")
    other.close()
    said, _ = await opening_fails(f"sqlite:///{file}")
    assert "written by a newer vncgate (version 99 of its tables; this one knows 1)" in said


async def test_an_older_ledger_is_brought_here_whole_or_not_at_all(file, monkeypatch):
    def second(connection):
        connection.exec_driver_sql("CREATE TABLE second (x INTEGER)")

    def third(connection):
        connection.exec_driver_sql("ALTER TABLE second ADD COLUMN y INTEGER")
        if broken:
            connection.exec_driver_sql("SELECT nonsense FROM nowhere")

    url = f"sqlite:///{file}"
    await (await Ledger.open(url)).aclose()
    monkeypatch.setattr("vncgate.ledger.migrations.STEPS", {2: second, 3: third})
    for broken in (True, False):
        if broken:
            await opening_fails(url)
        else:
            await (await Ledger.open(url)).aclose()
        with sqlite3.connect(file) as other:
            (version,) = other.execute("SELECT version FROM schema").fetchone()
            tables = {name for (name,) in other.execute("SELECT name FROM sqlite_schema")}
        other.close()
        assert (version, "second" in tables) == ((1, False) if broken else (3, True))


# PostgreSQL


@pytest.fixture
def own_postgres(no_leaks):
    """One that a test may end and start; gone before anybody looks for leaks."""
    with Postgres() as server:
        yield server


@pytest.mark.real
class TestPostgres:
    async def test_what_is_wrong_with_its_url_is_told_without_the_password(self, postgres, tmp_path):
        good = make_url(postgres.database())
        for url, expected in (
            (good.set(password="wrongsecret"), "password authentication failed"),
            (good.set(username="nobody"), "password authentication failed"),
            (good.set(database="nowhere"), 'database "nowhere" does not exist'),
            (good.set(query={"host": str(tmp_path)}), "No such file or directory"),
        ):
            said, traced = await opening_fails(url.render_as_string(hide_password=False))
            assert said.startswith(f"the ledger {url.database} on /")
            assert expected in said
            assert "wrongsecret" not in traced
            assert postgres.password not in traced

    async def test_a_database_that_cannot_hold_any_name_is_refused(self, postgres):
        said, _ = await opening_fails(postgres.database(encoding="LATIN1"))
        assert said.endswith("its encoding is LATIN1; create it with ENCODING 'UTF8'")

    async def test_who_may_not_make_tables_there(self, postgres):
        url = make_url(postgres.database())
        with postgres.connect(url.database) as connection:
            connection.execute("DROP ROLE IF EXISTS guest")
            connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guestsecret'")
        said, traced = await opening_fails(
            url.set(username="guest", password="guestsecret").render_as_string(hide_password=False)
        )
        assert said.endswith("its user may not do that; make it the database's owner")
        assert "guestsecret" not in traced

    async def test_it_comes_back_by_itself_after_a_restart_and_a_crash(self, own_postgres, monkeypatch):
        postgres = own_postgres
        monkeypatch.setattr(database, "PATIENCE", 0.5)
        ledger = await Ledger.open(postgres.database())
        try:
            for number, how in enumerate((signal.SIGINT, signal.SIGQUIT)):
                await asyncio.gather(*(ledger.people() for _ in range(4)))
                await asyncio.to_thread(postgres.stop, how)
                with pytest.raises(LedgerError, match="No such file|refused|shut down"):
                    await sign_up(ledger, 10 + number)
                await asyncio.to_thread(postgres.start)
                assert (await sign_up(ledger, number)).id == f"person-{number}"
                assert len(await ledger.people()) == number + 1
        finally:
            await ledger.aclose()

    async def test_a_short_restart_is_waited_for(self, own_postgres, monkeypatch):
        postgres = own_postgres
        monkeypatch.setattr(database, "PATIENCE", 60)
        ledger = await Ledger.open(postgres.database())
        try:
            await asyncio.to_thread(postgres.stop)
            writing, reading = asyncio.ensure_future(sign_up(ledger, 1)), asyncio.ensure_future(ledger.people())
            await asyncio.to_thread(postgres.start)
            assert (await writing).id == "person-1"
            assert isinstance(await reading, list)
        finally:
            await ledger.aclose()

    async def test_connections_that_are_cut_in_the_middle(self, postgres):
        url = postgres.database()
        ledger = await Ledger.open(url)
        try:
            tasks = [asyncio.ensure_future(sign_up(ledger, number)) for number in range(300)]
            for _ in range(3):
                await asyncio.wait(tasks, timeout=0.05)
                with postgres.connect() as connection:
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                        [make_url(url).database],
                    )
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            told = {outcome.id for outcome in outcomes if isinstance(outcome, Person)}
            assert {type(outcome) for outcome in outcomes} <= {Person, LedgerError}
            people = await ledger.people()
            assert told <= {person.id for person in people}
            assert [person.place for person in people] == list(range(1, len(people) + 1))
        finally:
            await ledger.aclose()

    async def test_a_server_that_hangs_is_not_waited_for(self, postgres, monkeypatch, caplog):
        ledger = await Ledger.open(postgres.database())
        monkeypatch.setattr(database, "LIMIT", 0.5)
        children = [*map(int, Path(f"/proc/{postgres.pid}/task/{postgres.pid}/children").read_text().split())]
        try:
            for pid in (postgres.pid, *children):
                os.kill(pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(60):
                    calls = asyncio.gather(sign_up(ledger, 1), ledger.people(), return_exceptions=True)
                    assert [type(outcome) for outcome in await calls] == [LedgerError, LedgerError]
                    assert {str(outcome).partition(": ")[2] for outcome in calls.result()} == {"it does not answer"}
            finally:
                for pid in (*children, postgres.pid):
                    os.kill(pid, signal.SIGCONT)
            monkeypatch.setattr(database, "LIMIT", 10)
            assert (await sign_up(ledger, 2)).id == "person-2"
        finally:
            await ledger.aclose()
            caplog.clear()  # psycopg's records hold its connection

    async def test_a_gate_that_hangs_while_it_writes_holds_up_the_others_not_for_long(self, postgres, monkeypatch):
        monkeypatch.setattr("vncgate.ledger.databases.LIMIT", 4)
        url = postgres.database()
        ledger, hanging = await Ledger.open(url), await Ledger.open(url)
        try:
            async with hanging._database._engine.connect() as connection:
                await connection.execution_options(writes=True)
                await connection.exec_driver_sql("SELECT 1")  # and nothing more
                assert (await sign_up(ledger, 1)).id == "person-1"
                await connection.invalidate()
        finally:
            await ledger.aclose()
            await hanging.aclose()
