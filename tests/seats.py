"""Seats for tests: seating with a ledger of its own, an engine that remembers whom it was to let in, and a clock.

async with seated(tmp_path) as house:
    entry = await house.seating.sign_in("ws01", PIN, CLIENT)
    house.later(hours=2)
"""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta

import argon2

from tests.web.values import accounts
from vncgate.ledger import Ledger
from vncgate.model import Roster, Secret
from vncgate.seating import Seating
from vncgate.settings import Settings

PIN = Secret("480113")
"""The token file's, of every account here."""
CLIENT = "198.51.100.7"
KEY = b"k" * 32
BEGIN = datetime(2026, 3, 2, 9, tzinfo=UTC)
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Argon2 as a test can pay for."""


class House:
    """Seating and what is around it; a test changes the roster and the clock as it goes."""

    def __init__(self, ledger, settings, key=KEY, *, is_shared=False):
        self.ledger = ledger
        self.moment = BEGIN
        self.roster = with_pins(accounts(5))
        self.admitted = {}
        self.pushed = []
        self.settings = settings
        self.seating = Seating(
            settings,
            key,
            ledger,
            lambda: self.roster,
            self.admit,
            is_shared=is_shared,
            now=lambda: self.moment,
            clock=self.clock,
        )

    def clock(self):
        return (self.moment - BEGIN).total_seconds()

    async def admit(self, admissions):
        self.pushed.append(admissions)
        self.admitted |= admissions

    def later(self, **span):
        self.moment += timedelta(**span)

    def lets_in(self, entry, account):
        """Whether the engine would let the browser of this entry in to this account's desktop."""
        return entry.session.digest in self.admitted.get(account, {})


def with_pins(roster, pin=PIN):
    return Roster(tuple(dataclasses.replace(account, pin=pin) for account in roster.accounts))


@contextlib.asynccontextmanager
async def seated(folder, *, url="", is_shared=False, **settings):
    """A House in `folder`, where another may be opened later."""
    settings = Settings(**{"public_url": "https://workshop.example.org/", "access": "seat"} | settings)
    ledger = await Ledger.open(url or f"sqlite:///{folder / 'ledger.sqlite'}")
    try:
        house = House(ledger, settings, is_shared=is_shared)
        await house.seating.start()
        yield house
    finally:
        await ledger.aclose()
