"""Signs people up for seats, all at the same moment, and tells of each as soon as it is sure; for test_killed.

python -m tests.ledger.signing_up FIRST PEOPLE SEATS < the ledger's URL
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime

from vncgate.ledger import Ledger
from vncgate.people import Person

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)


async def main(first: int, people: int, seats: int, url: str) -> None:
    ledger = await Ledger.open(url)
    free = [f"seat{number:02}" for number in range(seats)]

    async def sign_up(number: int) -> None:
        person = Person(f"person-{number}", "A name", "a@example.org", NOW)
        got = await ledger.sign_up(person, free, capacity=None, waiting=True)
        os.write(1, f"{got.id} {got.place} {got.account or '-'}\n".encode())

    await asyncio.gather(*(sign_up(number) for number in range(first, first + people)))
    await ledger.aclose()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:]), sys.stdin.read()))
