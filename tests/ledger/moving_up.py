"""Has those who wait move up one after the other, and tells of each; for test_killed.

python -m tests.ledger.moving_up < the ledger's URL
"""

from __future__ import annotations

import asyncio
import os
import sys

from vncgate.ledger import Ledger


async def main(url: str) -> None:
    ledger, number = await Ledger.open(url), 0
    while moved := await ledger.move_up([f"seat{number:03}"], capacity=None, mail="moved"):
        os.write(1, f"{moved[0].id}\n".encode())
        number += 1
    await ledger.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.stdin.read()))
