"""What is particular of one kind of database."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime
from random import Random

from vncgate.ledger import Ledger
from vncgate.people import Person

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)


async def test_no_page_of_sqlite_keeps_a_copy_of_who_is_forgotten(tmp_path):
    """It moves rows from page to page as they grow, and overwrites only what it deletes."""
    random = Random(1)
    names = [f"{random.getrandbits(64):016x}" for _ in range(300)]
    people = [Person(name, f"Name {name}", "", NOW, answers={"a": "y" * random.randrange(300)}) for name in names]
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    try:
        await asyncio.gather(*(ledger.sign_up(person, [], capacity=None, waiting=True) for person in people))
        grown = {name: {"b": "z" * random.randrange(1500)} for name in names[::2]}
        await asyncio.gather(*(ledger.change_person(name, answers=answers) for name, answers in grown.items()))
        gone = random.sample(names, 60)
        for name in gone:
            await ledger.forget(name)
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert [name for name in gone if name.encode() in kept] == []
        assert len(await ledger.people()) == 240
    finally:
        await ledger.aclose()


async def test_what_could_not_be_wiped_at_once_is_when_the_ledger_is_opened(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("vncgate.ledger.databases.LIMIT", 0.2)
    file = tmp_path / "ledger.sqlite"
    ledger = await Ledger.open(f"sqlite:///{file}")
    await ledger.sign_up(Person("ada", "Ada Lovelace", "", NOW), [], capacity=None, waiting=True)
    reader = sqlite3.connect(file, isolation_level=None)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM people").fetchall()
        await ledger.forget("ada")
        assert await ledger.person("ada") is None
    finally:
        reader.close()
        log = file.with_name("ledger.sqlite-wal").read_bytes()
        await ledger.aclose()
    assert b"Ada Lovelace" in log
    assert f"the ledger {file}: another program" in caplog.text
    assert "what was deleted is still in its files" in caplog.text
    assert "Lovelace" not in caplog.text
    caplog.clear()
    ledger = await Ledger.open(f"sqlite:///{file}")
    assert b"Ada Lovelace" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert await ledger.get_note("to wipe") == ""
    await ledger.aclose()
    assert caplog.text == ""
