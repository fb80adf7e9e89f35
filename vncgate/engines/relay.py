"""The built-in engine: all accounts of a process in one event loop, picows for the websockets.

An account is reached on its own port as /websockify, and on the shared port as /ws/PATH. A proxy here has no
process that could die; what can go wrong with it goes wrong for one session.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import Callable

from picows import (
    WSCloseCode,
    WSListener,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from vncgate.engines.base import Limits
from vncgate.engines.handshake import chosen_subprotocol, origin_allowed, wants_upgrade
from vncgate.engines.session import CLOSE_GRACE, Browser
from vncgate.errors import ProxyError
from vncgate.forwarded import TrustedProxies
from vncgate.model import Route, Traffic
from vncgate.tally import Tally

log = logging.getLogger(__name__)

OWN_PORT_PATH = "/websockify"
SHARED_PORT_PREFIX = "/ws/"
ACCEPTS_AT_ONCE = 4
"""Connections that are accepted before the loop turns to something else, and other workers have their turn."""
ACCEPTED_GRACE = 1.0
"""Seconds in which a connection that was just accepted becomes a session."""
READ_BUFFER = 4096
"""Bytes that each websocket's read buffer begins with; keys and pointer moves need no more."""

# picows' own lines name no account; what they say is said by the session, with account and client.
_silent = logging.LoggerAdapter(logging.getLogger("picows.vncgate"))
_silent.logger.setLevel(logging.CRITICAL + 1)


class Relay:
    """The engine."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._trusted = TrustedProxies(limits.trusted_proxies)
        self._by_path: dict[str, RelayProxy] = {}
        self._listener: socket.socket | None = None
        self._shared: asyncio.Server | None = None
        self.connections = 0
        """Browsers connected now, to all accounts."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a browser came or went."""

    async def start(self, shared: socket.socket | None) -> None:
        """See Engine.start."""
        self._listener = shared
        await self.rest(on=False)

    async def open(self, route: Route, listener: socket.socket | None, suspect: Callable[[str], None]) -> RelayProxy:
        """See Engine.open."""
        if route.path in self._by_path:
            raise ProxyError(f"path {route.path} is taken by account {self._by_path[route.path].name}")
        proxy = RelayProxy(route, self._limits, self._trusted, suspect, self._by_path, self._count)
        if listener is not None:
            try:
                proxy.server = await self._serve(listener, functools.partial(self._route_own, proxy))
            except OSError as error:
                raise ProxyError(f"port {route.port} cannot be served: {error.strerror}") from None
        self._by_path[route.path] = proxy
        return proxy

    def tally(self) -> Tally:
        """See Engine.tally."""
        return Tally()

    async def rest(self, *, on: bool) -> None:
        """While `on`, accept nothing on the shared port: what connects waits in its backlog, for others that serve it."""
        if on and self._shared is not None:
            server, self._shared = self._shared, None
            await _stop_accepting(server)
        elif not on and self._shared is None and self._listener is not None:
            self._shared = await self._serve(self._listener, self._route_shared)

    async def drain(self) -> None:
        """Accept nothing more at all; ends when the last browser has gone."""
        await self.rest(on=True)
        await asyncio.gather(*(proxy.stop_accepting() for proxy in self._by_path.values()))
        await asyncio.sleep(ACCEPTED_GRACE)
        await asyncio.gather(*(proxy.idle() for proxy in self._by_path.values()))

    async def aclose(self) -> None:
        """Stop serving the shared port."""
        await self.rest(on=True)

    def _count(self, difference: int) -> None:
        self.connections += difference
        self.on_change()

    async def _serve(
        self,
        listener: socket.socket,
        route: Callable[[WSUpgradeRequest], WSListener | WSUpgradeResponseWithListener | None],
    ) -> asyncio.Server:
        limits = self._limits
        server = await ws_create_server(
            route,
            sock=_Listening(fileno=os.dup(listener.fileno())),  # closing the server closes the duplicate alone
            backlog=ACCEPTS_AT_ONCE,
            websocket_handshake_timeout=limits.handshake_timeout,
            logger_name=_silent,
            enable_auto_pong=False,  # the session answers, and pings: it knows when not to
            max_frame_size=limits.max_message,
            read_buffer_init_size=READ_BUFFER,
            start_serving=False,
        )
        try:
            await server.start_serving()
        except asyncio.CancelledError:
            server.close()
            raise
        return server

    def _route_own(self, proxy: RelayProxy, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        if _path(request) != OWN_PORT_PATH:
            return _refuse(404, "There is nothing here but /websockify.")
        return self._answer(proxy, request)

    def _route_shared(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        path = _path(request)
        proxy = self._by_path.get(path.removeprefix(SHARED_PORT_PREFIX))
        if proxy is None or not path.startswith(SHARED_PORT_PREFIX):
            return _refuse(404, "There is no such desktop, or it is stopped.")
        return self._answer(proxy, request)

    def _answer(self, proxy: RelayProxy, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        if proxy.is_closed:  # it was, since this browser's connection was accepted
            return _refuse(404, "There is no such desktop, or it is stopped.")
        headers = request.headers
        if not wants_upgrade(headers.getall("Connection", [])):
            return _refuse(426, "This is a websocket. Open the landing page in a browser instead.")
        headers["Connection"] = "Upgrade"  # picows knows the single token only
        hosts = [*headers.getall("Host", []), *",".join(headers.getall("X-Forwarded-Host", [])).split(",")]
        origin = headers.get("Origin")
        if not origin_allowed(origin, hosts, self._limits.origins, self._limits.web_port):
            proxy.log.warning("refused a page of another site: origin %s", origin)
            return _refuse(403, "Pages of other sites may not open desktops; the setting `origins` lists exceptions.")
        subprotocol = chosen_subprotocol(headers.getall("Sec-WebSocket-Protocol", []))
        extra = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else None
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(extra), Browser(proxy))


class RelayProxy:
    """One account of the relay: the Host of its sessions, and a Proxy to the supervisor."""

    def __init__(
        self,
        route: Route,
        limits: Limits,
        trusted: TrustedProxies,
        suspect: Callable[[str], None],
        by_path: dict[str, RelayProxy],
        count: Callable[[int], None],
    ) -> None:
        self.name = route.name
        self.desktop = route.desktop
        self.limits = limits
        self.suspect = suspect
        self.bytes_up = 0
        self.bytes_down = 0
        self.died: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.server: asyncio.Server | None = None
        self.is_closed = False
        self.log = logging.LoggerAdapter(log, {"account": route.name})
        self._path = route.path
        self._by_path = by_path
        self._count = count
        self._trusted = trusted
        self._sessions: set[Browser] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def client_address(self, transport: WSTransport) -> str:
        """The browser's address: the peer, or what trusted proxies say."""
        peer = transport.underlying_transport.get_extra_info("peername")
        forwarded = transport.request.headers.getall("X-Forwarded-For", [])
        return self._trusted.client(peer[0] if peer else "", forwarded)

    def opened(self, session: Browser) -> None:
        """A browser came."""
        self._sessions.add(session)
        self._idle.clear()
        self._count(+1)

    def closed(self, session: Browser) -> None:
        """A browser went."""
        self._sessions.discard(session)
        self._count(-1)
        if not self._sessions:
            self._idle.set()

    def traffic(self) -> Traffic:
        """See Proxy.traffic."""
        return Traffic(len(self._sessions), self.bytes_up, self.bytes_down)

    async def stop_accepting(self) -> None:
        """Leave the account's own port to others; what is connected stays."""
        if self.server is not None:
            server, self.server = self.server, None
            await _stop_accepting(server)

    async def idle(self) -> None:
        """Wait until no browser is connected."""
        await self._idle.wait()

    async def close(self, code: int, reason: str) -> None:
        """See Proxy.close. Browsers have CLOSE_GRACE seconds to answer; then they are cut."""
        self.is_closed = True
        if self._by_path.get(self._path) is self:
            del self._by_path[self._path]
        if self.server is not None:
            self.server.close()
            self.server = None
        for session in list(self._sessions):
            session.close(WSCloseCode(code), reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE):
                await self._idle.wait()
        for session in list(self._sessions):
            session.abort()
        await self._idle.wait()
        self.died.cancel()


class _Listening(socket.socket):
    """A listening socket that survives having no file descriptors left, and keeps the backlog that the daemon gave it.

    aiofastnet 1.2 stops accepting for a second then, but asks the socket instead of the loop to do so; and its
    `backlog` is both what listen(2) is told and how many connections are accepted at once.
    """

    def listen(self, backlog: int) -> None:  # type: ignore[override]
        """It listens already."""

    def remove_reader(self, descriptor: int) -> None:
        """As the loop's."""
        asyncio.get_running_loop().remove_reader(descriptor)


async def _stop_accepting(server: asyncio.Server) -> None:
    """Close a server's socket, but not in the moment in which it has accepted and not yet attached a connection."""
    asyncio.get_running_loop().remove_reader(server.sockets[0].fileno())
    for _ in range(2):
        await asyncio.sleep(0)
    server.close()


def _path(request: WSUpgradeRequest) -> str:
    return request.path.decode("ascii", "replace").partition("?")[0]


def _refuse(status: int, text: str) -> WSUpgradeResponseWithListener:
    response = WSUpgradeResponse.create_error_response(
        status, (text + "\n").encode(), {"Content-Type": "text/plain; charset=utf-8"}
    )
    return WSUpgradeResponseWithListener(response, None)
