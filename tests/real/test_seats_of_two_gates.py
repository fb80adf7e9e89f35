"""Two gates on one PostgreSQL: who signs in at one is known to the other, and what ends them, ends them at both."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.real.postgres import Postgres
from tests.seats import CHEAP, CLIENT, PIN, with_pins
from tests.web.values import Gate, Started, accounts
from vncgate import pins, seat_memory
from vncgate.participants import Participants
from vncgate.people import Mode
from vncgate.seating import Entry
from vncgate.settings import Settings

pytestmark = pytest.mark.real
PATIENCE = 60.0


@pytest.fixture(scope="module")
def server():
    with Postgres() as server:
        yield server


class Half:
    """One of the two gates."""

    def __init__(self):
        self.gate = Gate(with_pins(accounts(3)))
        self.admitted = {}

    async def admit(self, admissions):
        self.admitted.update(admissions)

    async def open(self, settings, folder):
        environ = {"STATE_DIRECTORY": str(folder)}
        self.rooms = await Participants.open(
            settings, environ, self.gate.roster, self.admit, self.gate.statuses, Started()
        )
        self.seating = self.rooms.seating
        return self


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(pins, "HASHER", CHEAP)
    monkeypatch.setattr(seat_memory, "POLL", 0.05)


@contextlib.asynccontextmanager
async def two_gates(server, folder):
    (folder / "url").write_text(server.database())
    (folder / "key").write_bytes(b"k" * 32)
    (folder / "key").chmod(0o600)
    settings = Settings(
        public_url="https://workshop.example.org/",
        access="seat",
        seats={"ledger": str(folder / "url"), "key": folder / "key"},
    )
    async with contextlib.AsyncExitStack() as stack:
        both = [await Half().open(settings, folder / name) for name in ("one", "two")]
        for half in both:
            stack.push_async_callback(half.rooms.aclose)
        yield both


@pytest.fixture
async def halves(server, tmp_path):
    async with two_gates(server, tmp_path) as both:
        yield both


async def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


async def test_who_signs_in_and_out_at_one_does_so_at_both(halves):
    one, two = halves
    entry = await one.seating.sign_in("ws01", PIN, CLIENT)
    assert isinstance(entry, Entry)
    await until(lambda: entry.session.digest in two.admitted["ws01"])
    assert await two.seating.session(entry.cookie.reveal()) == entry.session
    await two.seating.sign_out_everywhere("ws01")
    await until(lambda: one.admitted["ws01"] == {})
    assert await one.seating.session(entry.cookie.reveal()) is None


async def test_links_shares_swaps_and_revoked_seats_hold_at_both(halves):
    one, two = halves
    entry = await two.seating.enter_by_link(_token(one.seating.link("ws01")), CLIENT)
    address = await one.seating.share("ws01", Mode.VIEW, datetime.now(UTC) + timedelta(hours=1))
    visitor = await two.seating.enter_by_share(_token(address), CLIENT)
    everybody = {entry.session.digest: Mode.CONTROL, visitor.session.digest: Mode.VIEW}
    await until(lambda: one.admitted["ws01"] == two.admitted["ws01"] == everybody)
    await one.seating.set_spare("ws03", "ada", on=True)
    await one.seating.swap("ws01", "ada")
    await until(lambda: two.admitted["ws03"] == everybody and two.admitted["ws01"] == {})
    await two.seating.revoke("ws01", "ada")
    await until(lambda: one.admitted["ws03"] == {})
    assert not isinstance(await one.seating.sign_in("ws01", PIN, CLIENT), Entry)


async def test_the_server_is_started_again_and_who_is_in_stays(tmp_path):
    with Postgres() as own:
        async with two_gates(own, tmp_path) as (one, two):
            entry = await one.seating.sign_in("ws02", PIN, CLIENT)
            await until(lambda: entry.session.digest in two.admitted["ws02"])
            await asyncio.to_thread(own.restart)
            assert entry.session.digest in two.admitted["ws02"]
            again = await two.seating.sign_in("ws02", PIN, CLIENT)
            await until(lambda: set(one.admitted["ws02"]) == {entry.session.digest, again.session.digest})


def _token(address):
    return type(address)(address.reveal().partition("#")[2])
