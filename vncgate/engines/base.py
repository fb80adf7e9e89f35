"""What an engine must do, and what the daemon tells it.

An engine opens a proxy for an account on a listening socket that the daemon owns. The socket stays the
daemon's: a proxy that dies leaves it open, and browsers that connect meanwhile wait in its backlog. The same
Protocol serves an engine in this process and one whose proxies live in others: nothing in it is a shared
object but the socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vncgate.model import Route, Traffic
from vncgate.settings import Settings
from vncgate.tally import Tally

GOING_AWAY = 1001
"""The gate is being stopped (RFC 6455, section 7.4.1)."""
SERVICE_RESTART = 1012
"""The account was changed or restarted: come again (IANA WebSocket close code registry)."""
POLICY = 1008
"""The account is gone, or was stopped by an operator (RFC 6455, section 7.4.1)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine is held to: the settings that concern it. Times in seconds, sizes in bytes."""

    ping_interval: float
    connect_timeout: float
    handshake_timeout: float
    handshakes: int
    client_handshakes: int
    max_connections: int
    max_headers: int
    max_frame: int
    max_buffer: int
    origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    web_port: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Those of `settings`."""
        return cls(
            ping_interval=settings.ping_interval,
            connect_timeout=settings.connect_timeout,
            handshake_timeout=settings.handshake_timeout,
            handshakes=settings.handshakes,
            client_handshakes=settings.client_handshakes,
            max_connections=settings.max_connections,
            max_headers=settings.max_headers,
            max_frame=settings.max_frame,
            max_buffer=settings.max_buffer,
            origins=settings.origins,
            trusted_proxies=settings.trusted_proxies,
            web_port=settings.web.port if settings.web else 0,
        )


class Proxy(Protocol):
    """One account's running proxy."""

    @property
    def died(self) -> asyncio.Future[str] | None:
        """Done, with the reason, when the proxy ended though nobody asked it to; None where nothing of it could."""

    def traffic(self) -> Traffic:
        """What passed so far, and how many browsers are connected now."""

    async def close(self, code: int, reason: str) -> None:
        """End the proxy and its connections with a websocket close code and a reason; never raises."""


class Engine(Protocol):
    """A way to run proxies. It is made with its Limits."""

    async def start(self, shared: socket.socket | None) -> None:
        """Begin, before any proxy is opened. Where `shared` is given, every account is to be served on it as /ws/PATH.

        The engine rests (see `rest()`) until it is told not to: a browser would not find accounts not opened yet.
        """

    async def rest(self, *, on: bool) -> None:
        """Off: accept on the shared port. On: accept nothing, own ports for good; browsers wait in the backlogs.

        Ends when whoever was accepted before is connected or refused, within half a second at most.
        """

    async def open(self, route: Route, listener: socket.socket | None, suspect: Callable[[str], None]) -> Proxy:
        """Serve an account on `listener` (None: on the shared port alone).

        `suspect` is called with a reason whenever the desktop could not be connected to. (One that hung up
        is no suspect: VNC servers do so after a wrong password, and a login of ours at that moment would
        clear the count of failures by which they slow a guesser down.) Raises ProxyError when the proxy
        cannot be started.
        """

    def tally(self) -> Tally:
        """What was counted since the engine was made, over all accounts, also those gone by now; the caller's own."""

    async def aclose(self) -> None:
        """Release what the engine itself holds, after all of its proxies are closed."""
