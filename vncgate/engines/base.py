"""What an engine must do, and what the daemon tells it.

An engine opens a proxy for an account on a listening socket that the daemon owns. The socket stays the
daemon's: a proxy that dies leaves it open, and browsers that connect meanwhile wait in its backlog. The same
Protocol serves an engine in this process and one whose proxies live in others: nothing in it is a shared
object but the socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from vncgate.errors import DesktopError
from vncgate.model import Readiness, Route, Traffic
from vncgate.people import Mode
from vncgate.settings import Access, Settings
from vncgate.tally import Tally

GOING_AWAY = 1001
"""The gate is being stopped (RFC 6455, section 7.4.1)."""
SERVICE_RESTART = 1012
"""The account was changed or restarted: come again (IANA WebSocket close code registry)."""
POLICY = 1008
"""The account is gone, or was stopped by an operator (RFC 6455, section 7.4.1); or the browser was signed out."""

Admissions: TypeAlias = Mapping[str, Mapping[str, Mode]]
"""By account, who may open its websocket: digest of their session's cookie (cookies.digest), and what they may do."""
Login: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""Answers the VncAuth challenge of an account's desktop with its password as it is now.

It is asked with an empty challenge first, before the desktop is connected to: then the answer is empty. Raises
DesktopError, with words for the browser, where no login is to be tried now.
"""


class Suspect(Protocol):
    """Tells of a desktop that could not be connected to, or logged in to."""

    def __call__(self, reason: str, readiness: Readiness = Readiness.OFFLINE, /) -> None:
        """`readiness` is WRONG_PASSWORD where the desktop refused the password."""


async def no_login(challenge: bytes) -> bytes:  # noqa: ARG001
    """The Login of an account that nobody logs in to."""
    raise DesktopError("the gate does not log in to this desktop", Readiness.UNKNOWN)


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
    guarded: bool = False
    """Whether accounts are guarded: then nobody learns from an answer which there are."""
    secure: bool = False
    """Whether who comes to a guarded account must have come over https."""

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
            guarded=settings.access is Access.SEAT,
            secure=settings.public_url.startswith("https:"),
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

    async def open(
        self, route: Route, listener: socket.socket | None, suspect: Suspect, login: Login = no_login
    ) -> Proxy:
        """Serve an account on `listener` (None: on the shared port alone).

        `suspect` is called with a reason whenever the desktop could not be connected to. (One that hung up
        is no suspect: VNC servers do so after a wrong password, and a login of ours at that moment would
        clear the count of failures by which they slow a guesser down.) `login` is asked for each browser at a guarded
        account. Raises ProxyError when the proxy cannot be started.
        """

    async def admit(self, admissions: Admissions) -> None:
        """From now on these, and nobody else, may open the websockets of the accounts named; others stay as they are.

        It may be called before the accounts are opened, and holds for them whenever they are. A guarded account that
        was never named admits nobody; so all are to be named before the first of them is opened, also those to which
        nobody is admitted: workers of a gate before this one know who was. Who is admitted no more, or to do something
        else, loses their connections: with POLICY in the one case, SERVICE_RESTART in the other. Ends when it is so
        everywhere; a worker that hangs is not waited for.
        """

    def tally(self) -> Tally:
        """What was counted since the engine was made, over all accounts, also those gone by now; the caller's own."""

    async def aclose(self) -> None:
        """Release what the engine itself holds, after all of its proxies are closed."""
