"""One account in all workers: a Proxy to the supervisor."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from vncgate.engines.base import Login, Suspect
from vncgate.engines.member import Member
from vncgate.model import Route, Traffic

if TYPE_CHECKING:
    from vncgate.engines.pool import Pool

CLOSE_TIMEOUT = 3.0
"""Seconds that a worker has to end an account's sessions; it cuts them itself after 2."""


class PoolProxy:
    """See Proxy; `pool` has the workers."""

    __slots__ = ("_pool", "_used", "before", "listener", "login", "owner", "route", "suspect", "trouble")
    died = None

    def __init__(
        self, pool: Pool, route: Route, listener: socket.socket | None, suspect: Suspect, login: Login
    ) -> None:
        self.route = route
        self.listener = listener
        self.suspect = suspect
        self.login = login
        self.owner: Member | None = None
        """The worker that accepts on the account's own port."""
        self._pool = pool
        self.trouble = ""
        """Why a worker did not open it, told once."""
        self.before = [0, 0]
        """Bytes up and down that passed through workers that are gone."""
        self._used = 0.0

    def keep(self, bytes_up: int | None, bytes_down: int | None, used: float = 0.0) -> None:
        """Remember what passed through a worker that is gone."""
        self.before = [self.before[0] + (bytes_up or 0), self.before[1] + (bytes_down or 0)]
        self._used = max(self._used, used)

    def traffic(self) -> Traffic:
        """See Proxy.traffic: as of the workers' last reports."""
        now = self._pool.traffic(self.route.name)
        up, down = self.before
        used = max(self._used, now.used)
        return Traffic(now.connections, up + (now.bytes_up or 0), down + (now.bytes_down or 0), used, now.delay)

    async def close(self, code: int, reason: str) -> None:
        """See Proxy.close."""
        answers = self._pool.let_go(self, code, reason)
        if answers:
            await asyncio.wait(answers, timeout=CLOSE_TIMEOUT)
