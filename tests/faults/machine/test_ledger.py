"""The ledger on a disk that is full, or may not be written: it says so, loses nothing, and goes on when it can."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from tests.faults.namespaces import mount
from vncgate.errors import LedgerError
from vncgate.ledger import Ledger
from vncgate.people import Person, Standing

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)


@pytest.fixture
def disk(tmp_path):
    """A disk of 2 MiB, mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", folder)
    return folder


@pytest.fixture
def url(disk):
    return f"sqlite:///{disk}/ledger.sqlite"


def fill(disk):
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def somebody(number):
    return Person(f"person-{number}", "A name", "a@example.org", NOW, answers={"more": "x" * 5000})


async def test_a_full_disk(disk, url):
    ledger = await Ledger.open(url)
    try:
        fill(disk)
        coming = [ledger.sign_up(somebody(number), [], capacity=None, waiting=True) for number in range(500)]
        outcomes = await asyncio.gather(*coming, return_exceptions=True)
        told = [outcome for outcome in outcomes if isinstance(outcome, Person)]
        refused = {str(outcome) for outcome in outcomes if not isinstance(outcome, Person)}
        assert refused == {f"the ledger {disk}/ledger.sqlite: the disk is full"}
        assert await ledger.people() == told
        (disk / "filler").unlink()
        told.append(await ledger.sign_up(somebody(999), [], capacity=None, waiting=True))
        assert await ledger.people() == told
        assert {person.standing for person in told} == {Standing.WAITING}
    finally:
        await ledger.aclose()


async def test_a_disk_that_is_full_from_the_start(disk, url):
    fill(disk)
    with pytest.raises(LedgerError, match="ledger.sqlite: the disk is full"):
        await Ledger.open(url)


async def test_a_disk_that_may_only_be_read(disk, url):
    mount("-o", "remount,ro", disk)
    with pytest.raises(LedgerError, match="ledger.sqlite: Read-only file system"):
        await Ledger.open(url)
    mount("-o", "remount,rw", disk)
    await (await Ledger.open(url)).aclose()
    mount("-o", "remount,ro", disk)
    with pytest.raises(LedgerError, match="ledger.sqlite: .*[Rr]ead"):
        await Ledger.open(url)
