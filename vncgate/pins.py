"""PINs: made, hashed with argon2id (RFC 9106), and compared, in threads and a few at a time.

It imports argon2: only rooms of access `seat` import it.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
from collections.abc import Callable
from typing import TypeVar

import argon2

from vncgate.errors import VncgateError
from vncgate.model import Secret

HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
"""Argon2id with 19 MiB: OWASP's Password Storage Cheat Sheet. A PIN is guessed at the gate and not offline, as whoever
can read the ledger is in the house already; so it need not take longer, and a class signs in within a second."""
DIGITS = 6
"""Of a PIN that the gate makes."""
MOST_WAITING = 256
"""Hashes that may wait for their turn; more is a flood, and told to come again."""

Result = TypeVar("Result")


class BusyError(VncgateError):
    """There are too many PINs to look at now."""


class Pins:
    """Looks at PINs, as many at once as there are cores."""

    def __init__(self) -> None:
        self._hasher = HASHER
        self._nobodys = ""
        self._turns = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        self._waiting = 0

    @property
    def is_busy(self) -> bool:
        """Whether no more is taken on now."""
        return self._waiting >= MOST_WAITING

    async def hash(self, pin: Secret) -> str:
        """The PIN as the ledger keeps it. Raises BusyError."""
        return await self._in_turn(lambda: self._hasher.hash(pin.reveal()))

    async def fits(self, pin: Secret, encoded: str, plain: Secret) -> bool:
        """Whether `pin` is the one that `encoded` was made of, or, where that is empty, is `plain`.

        A wrong one takes the same work in every case, also where there is neither. Raises BusyError.
        """
        if not encoded and plain and hmac.compare_digest(pin.reveal().encode(), plain.reveal().encode()):
            return True
        return await self._in_turn(lambda: self._verify(encoded, pin))

    def _verify(self, encoded: str, pin: Secret) -> bool:
        if not self._nobodys:
            self._nobodys = self._hasher.hash(secrets.token_hex())
        try:
            return self._hasher.verify(encoded or self._nobodys, pin.reveal())
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    async def _in_turn(self, work: Callable[[], Result]) -> Result:
        if self.is_busy:
            raise BusyError("too many PINs are being looked at; come again in a moment")
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def new_pin() -> Secret:
    """A PIN nobody had a say in."""
    return Secret("".join(secrets.choice("0123456789") for _ in range(DIGITS)))


def typed(text: str) -> Secret:
    """A PIN as people type it: printed ones have gaps, and phones add blanks."""
    return Secret("".join(text.split()).replace("-", ""))
