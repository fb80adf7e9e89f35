"""One account of the relay: the Host of its sessions, and a Proxy to the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from picows import WSCloseCode

from vncgate.engines.base import POLICY, SERVICE_RESTART, Login, Suspect
from vncgate.engines.handshake import Refused
from vncgate.engines.login import Logins
from vncgate.engines.session import CLOSE_GRACE, Browser
from vncgate.model import Route, Traffic
from vncgate.people import Mode
from vncgate.tally import Refusal, Tally

if TYPE_CHECKING:
    from vncgate.engines.relay import Relay

FOR_OWNERS = 2
"""Connections of an account that those who watch leave to those who use it."""


class RelayProxy:
    """One account of the relay: the Host of its sessions, and a Proxy to the supervisor."""

    __slots__ = (
        "_bytes_down",
        "_bytes_up",
        "_emptied",
        "_path",
        "_relay",
        "_used",
        "counted",
        "desktop",
        "elsewhere",
        "is_closed",
        "limits",
        "logins",
        "name",
        "server",
        "sessions",
        "suspect",
        "watch_input",
    )
    died = None  # it is no process, and has no task

    def __init__(self, route: Route, relay: Relay, suspect: Suspect, login: Login) -> None:
        self.name = route.name
        self.logins = Logins(route.desktop, login, suspect, relay.limits) if route.guarded else None
        self.desktop = route.desktop
        self.watch_input = route.watch_input
        self.limits = relay.limits
        self.counted = relay.counted
        self.suspect = suspect
        self.elsewhere = 0
        """Browsers of this account that are connected to other processes; they count towards `max_connections`."""
        self.server: asyncio.Server | None = None
        self.is_closed = False
        self._path = route.path
        self._relay = relay
        self._bytes_up = 0
        self._bytes_down = 0
        self._used = 0.0
        self.sessions: set[Browser] = set()
        self._emptied: asyncio.Event | None = None

    @property
    def guarded(self) -> bool:
        """See model.Route."""
        return self.logins is not None

    def full(self, mode: Mode) -> Refused | None:
        """The refusal of one more browser, where the account has as many as it may."""
        most = self.limits.max_connections
        if mode is Mode.VIEW:
            most = max(1, most - FOR_OWNERS)
        if len(self.sessions) + self.elsewhere < most:
            return None
        text = f"This desktop has {most} connections, which is as many as it may (setting `max_connections`)."
        return Refused(503, text, Refusal.CONNECTIONS)

    def opened(self, session: Browser) -> None:
        """A browser came."""
        self.sessions.add(session)
        self._relay.count(self, +1)

    def closed(self, session: Browser) -> None:
        """A browser went; what it counted is kept."""
        self.sessions.discard(session)
        self._bytes_up += session.bytes_up
        self._bytes_down += session.bytes_down
        self._used = max(self._used, session.used)
        add(self.counted, [session])
        self._relay.count(self, -1)
        if not self.sessions and self._emptied is not None:
            self._emptied.set()

    def traffic(self) -> Traffic:
        """See Proxy.traffic."""
        up = self._bytes_up + sum(session.bytes_up for session in self.sessions)
        down = self._bytes_down + sum(session.bytes_down for session in self.sessions)
        used = max((session.used for session in self.sessions), default=0.0)
        delay = max((session.delay for session in self.sessions), default=0.0)
        return Traffic(len(self.sessions), up, down, max(self._used, used), delay)

    def send_away(self, admitted: Mapping[str, Mode]) -> None:
        """End the sessions of those who are not among `admitted`, or may do something else now than they did."""
        for session in list(self.sessions):
            mode = admitted.get(session.visitor.digest)
            if mode is None:
                session.close(WSCloseCode(POLICY), "you were signed out")
            elif mode is not session.visitor.mode:
                session.close(WSCloseCode(SERVICE_RESTART), "what you may do here has changed: connect again")

    async def stop_accepting(self) -> None:
        """Leave the account's own port to others; what is connected stays."""
        if self.server is not None:
            server, self.server = self.server, None
            await stop_accepting(server)

    async def idle(self) -> None:
        """Wait until no browser is connected."""
        while self.sessions:
            self._emptied = self._emptied or asyncio.Event()
            self._emptied.clear()
            await self._emptied.wait()

    async def close(self, code: int, reason: str) -> None:
        """See Proxy.close. Browsers have CLOSE_GRACE seconds to answer; then they are cut."""
        self.is_closed = True
        if self._relay.by_path.get(self._path) is self:
            del self._relay.by_path[self._path]
        if self.server is not None:
            self.server.close()
            self.server = None
        for session in list(self.sessions):
            session.close(WSCloseCode(code), reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE):
                await self.idle()
                if self.logins is not None:
                    await self.logins.idle()
        for session in list(self.sessions):
            session.abort()
        await self.idle()
        if self.logins is not None:
            await self.logins.aclose()
        self._relay.proxies.discard(self)


async def stop_accepting(server: asyncio.Server) -> None:
    """Close a server's socket, but not in the moment in which it has accepted and not yet attached a connection."""
    asyncio.get_running_loop().remove_reader(server.sockets[0].fileno())
    for _ in range(2):
        await asyncio.sleep(0)
    server.close()


def add(counted: Tally, sessions: Iterable[Browser]) -> None:
    """Add what sessions count themselves, which costs less than one number that all of them share."""
    for session in sessions:
        counted.frames_up += session.frames_up
        counted.frames_down += session.frames_down
        counted.bytes_up += session.bytes_up
        counted.bytes_down += session.bytes_down
