"""The built-in engine: all accounts of a process in one event loop, picows for the websockets.

An account is reached on its own port as /websockify, and on the shared port as /ws/PATH. A proxy here has no
process that could die; what can go wrong with it goes wrong for one session.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import socket
import time
from collections.abc import Callable

from picows import (
    WSListener,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from vncgate.engines.admission import ANYBODY, INSECURE, NOT_SIGNED_IN, Admission, Visitor
from vncgate.engines.base import Admissions, Limits, Login, Suspect, no_login
from vncgate.engines.handshake import Refused, chosen_subprotocol, objection
from vncgate.engines.limits import HandshakeRates
from vncgate.engines.listening import Listening, caller
from vncgate.engines.relay_proxy import RelayProxy, add, stop_accepting
from vncgate.engines.session import Browser
from vncgate.errors import ProxyError
from vncgate.forwarded import TrustedProxies
from vncgate.model import Route
from vncgate.people import Mode
from vncgate.tally import Refusal, Tally

log = logging.getLogger(__name__)

OWN_PORT_PATH = "/websockify"
SHARED_PORT_PREFIX = "/ws/"
ACCEPTS_AT_ONCE = 4
"""Connections that are accepted before the loop turns to something else, and other workers have their turn."""
ACCEPTED_GRACE = 0.25
"""Seconds in which a connection that was accepted before the end says what it wants, and so becomes a session."""
READ_BUFFER = 2048
"""Bytes that each websocket's read buffer begins with; keys and pointer moves need no more."""
SAMPLE_INTERVAL = 0.25
"""Seconds between two looks at how late the loop is."""
STRANGER_INTERVAL = 1.0
"""Seconds between two lines of the log about browsers that are not signed in."""
COMPLAINT_INTERVAL = 60.0
"""Seconds between two lines of the log about too many handshakes."""

# picows' own lines name no account; what they say is said by the session, with account and client.
_silent = logging.LoggerAdapter(logging.getLogger("picows.vncgate"))
_silent.logger.setLevel(logging.CRITICAL + 1)


class Relay:
    """The engine."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.by_path: dict[str, RelayProxy] = {}
        """The accounts that browsers find."""
        self.proxies: set[RelayProxy] = set()
        """All accounts, also those whose last browsers are being sent away."""
        self.busy: set[RelayProxy] = set()
        """Accounts that browsers are connected to."""
        self.moved: set[RelayProxy] = set()
        """Accounts whose browsers came or went since whoever looks at it cleared it."""
        self.counted = Tally()
        """All that was counted, but for what the sessions that are there now counted themselves."""
        self._trusted = TrustedProxies(limits.trusted_proxies)
        self._admission = Admission(limits, self._trusted.trusts)
        self._rates = HandshakeRates(limits.handshakes, limits.client_handshakes)
        self._complained = -math.inf
        self._refused_at = -math.inf
        self._sampler: asyncio.TimerHandle | None = None
        self._listener: socket.socket | None = None
        self._shared: asyncio.Server | None = None
        self.connections = 0
        """Browsers connected now, to all accounts."""
        self._under_way = 0
        """Connections whose request was not yet read to the end."""
        self._all_heard = asyncio.Event()
        """Set whenever there are none of these any more."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a browser came or went."""

    async def start(self, shared: socket.socket | None) -> None:
        """See Engine.start."""
        self._listener = shared
        self._sample(time.monotonic())

    async def open(
        self, route: Route, listener: socket.socket | None, suspect: Suspect, login: Login = no_login
    ) -> RelayProxy:
        """See Engine.open."""
        if route.path in self.by_path:
            raise ProxyError(f"path {route.path} is taken by account {self.by_path[route.path].name}")
        proxy = RelayProxy(route, self, suspect, login)
        if listener is not None:
            await self.listen(proxy, listener)
        self.by_path[route.path] = proxy
        self.proxies.add(proxy)
        return proxy

    async def listen(self, proxy: RelayProxy, listener: socket.socket) -> None:
        """Serve an account on its own port, too. Raises ProxyError when that cannot be done."""
        try:
            proxy.server = await self._serve(listener, functools.partial(self._route_own, proxy))
        except OSError as error:
            raise ProxyError(f"the port of account {proxy.name} cannot be served: {error.strerror}") from None

    async def admit(self, admissions: Admissions) -> None:
        """See Engine.admit."""
        self.let_in(admissions)

    def let_in(self, admissions: Admissions) -> None:
        """What `admit()` does, and it is so at once."""
        self._admission.change(admissions)
        for proxy in self.proxies:
            if proxy.guarded and proxy.name in admissions:
                proxy.send_away(admissions[proxy.name])

    def tally(self) -> Tally:
        """See Engine.tally."""
        total = Tally.total([self.counted])
        for proxy in self.busy:
            add(total, proxy.sessions)
        return total

    async def rest(self, *, on: bool) -> None:
        """See Engine.rest."""
        await self.share(on=not on)
        if on:
            await asyncio.gather(*(proxy.stop_accepting() for proxy in self.by_path.values()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ACCEPTED_GRACE):
                    await self._heard_all()

    async def share(self, *, on: bool) -> None:
        """Accept on the shared port, or leave it to others for a while."""
        if not on and self._shared is not None:
            server, self._shared = self._shared, None
            await stop_accepting(server)
        elif on and self._shared is None and self._listener is not None:
            self._shared = await self._serve(self._listener, self._route_shared)

    async def drain(self) -> None:
        """Accept nothing more at all; ends when the last browser has gone."""
        await self.rest(on=True)
        # A connection whose request is still to come may become a session of any account.
        while self._under_way or self.connections:
            await self._heard_all()
            await asyncio.gather(*(proxy.idle() for proxy in self.by_path.values()))

    async def aclose(self) -> None:
        """Stop serving the shared port."""
        if self._sampler is not None:
            self._sampler.cancel()
        await self.share(on=False)

    def count(self, proxy: RelayProxy, difference: int) -> None:
        """So many more browsers are connected to an account."""
        self.connections += difference
        self.moved.add(proxy)
        if proxy.sessions:
            self.busy.add(proxy)
        else:
            self.busy.discard(proxy)
        self.on_change()

    def _sample(self, due: float) -> None:
        """Count how late this is called: so late the relay is with whatever became ready at `due`."""
        now = time.monotonic()
        self.counted.latency.observe(max(0.0, now - due))
        self._sampler = asyncio.get_running_loop().call_later(SAMPLE_INTERVAL, self._sample, now + SAMPLE_INTERVAL)

    async def _serve(
        self,
        listener: socket.socket,
        route: Callable[[WSUpgradeRequest], WSListener | WSUpgradeResponseWithListener | None],
    ) -> asyncio.Server:
        limits = self.limits
        server = await ws_create_server(
            route,
            sock=Listening(listener, self._accepted, self._unheard),
            backlog=ACCEPTS_AT_ONCE,
            websocket_handshake_timeout=limits.handshake_timeout,
            logger_name=_silent,
            enable_auto_pong=False,  # the session answers, and pings: it knows when not to
            max_frame_size=limits.max_frame,
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
            return self._answer(None, request, "There is nothing here but /websockify.")
        return self._answer(proxy, request)

    def _route_shared(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        path = _path(request)
        found = path.startswith(SHARED_PORT_PREFIX)
        return self._answer(self.by_path.get(path.removeprefix(SHARED_PORT_PREFIX)) if found else None, request)

    def _answer(
        self,
        proxy: RelayProxy | None,
        request: WSUpgradeRequest,
        nothing: str = "There is no such desktop, or it is stopped.",
    ) -> WSUpgradeResponseWithListener:
        connection = caller.get()
        connection.heard = True
        self._heard()
        headers = request.headers
        client = self._trusted.client(connection.peer, headers.getall("X-Forwarded-For", []))
        if wait := self._rates.wait(None if self._trusted.trusts(client) else client, time.monotonic()):
            return self._refuse(self._too_many(client, wait))
        if proxy is not None and proxy.is_closed:  # since this browser's connection was accepted
            proxy = None
        visitor = self._visitor(proxy, request, connection.peer, nothing)
        if proxy is None or isinstance(visitor, Refused):
            refused = visitor if isinstance(visitor, Refused) else NOT_SIGNED_IN
            self._log(refused, proxy.name if proxy else "", client)
            return self._refuse(refused)
        headers["Connection"] = "Upgrade"  # picows knows the single token only
        subprotocol = chosen_subprotocol(headers.getall("Sec-WebSocket-Protocol", []))
        extra = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else None
        return WSUpgradeResponseWithListener(
            WSUpgradeResponse.create_101_response(extra), Browser(proxy, client, visitor)
        )

    def _visitor(
        self, proxy: RelayProxy | None, request: WSUpgradeRequest, peer: str, nothing: str
    ) -> Visitor | Refused:
        """Whose browser it is, or why it is refused."""
        headers, limits = request.headers, self.limits
        if not limits.guarded and (proxy is None or not proxy.guarded):
            if proxy is None:
                return Refused(404, nothing, Refusal.NOT_FOUND)
            return proxy.full(Mode.CONTROL) or objection(request.path, headers, limits) or ANYBODY
        name = proxy.name if proxy and proxy.guarded else None
        visitor = self._admission.visitor(name, request.path, headers, peer)
        return visitor if isinstance(visitor, Refused) or proxy is None else proxy.full(visitor.mode) or visitor

    def _log(self, refused: Refused, name: str, client: str) -> None:
        """Tell of who is refused; of strangers at guarded accounts, who may be many, of one in a while."""
        if refused.reason is Refusal.NOT_FOUND:
            return
        if refused in (NOT_SIGNED_IN, INSECURE):
            now = time.monotonic()
            if now - self._refused_at < STRANGER_INTERVAL:
                return
            self._refused_at = now
        said = {"account": name, "client": client}
        log.warning("refused a browser (%s): %s", refused.reason, refused.text, extra=said)

    def _too_many(self, client: str, wait: float) -> Refused:
        now = time.monotonic()
        if now - self._complained >= COMPLAINT_INTERVAL:
            self._complained = now
            why = "too many handshakes (settings `handshakes`, `client_handshakes`): some are refused"
            log.warning(why, extra={"client": client})
        text = "Too many browsers come at once; try again in a moment."
        return Refused(429, text, Refusal.HANDSHAKES, {"Retry-After": str(math.ceil(wait))})

    def _refuse(self, refused: Refused) -> WSUpgradeResponseWithListener:
        self.counted.refused[refused.reason] += 1
        headers = {"Content-Type": "text/plain; charset=utf-8", **refused.headers}
        response = WSUpgradeResponse.create_error_response(refused.status, (refused.text + "\n").encode(), headers)
        return WSUpgradeResponseWithListener(response, None)

    def _accepted(self) -> None:
        self._under_way += 1

    def _heard(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._all_heard.set()

    async def _heard_all(self) -> None:
        while self._under_way:
            self._all_heard.clear()
            await self._all_heard.wait()

    def _unheard(self, age: float) -> None:
        """A connection ended after `age` seconds, and its request was none, too long, or never complete."""
        self._heard()
        late = age >= self.limits.handshake_timeout - 0.01  # uvloop's timers have whole milliseconds, rounded down
        self.counted.refused[Refusal.TIMED_OUT if late else Refusal.BAD_REQUEST] += 1


def _path(request: WSUpgradeRequest) -> str:
    return request.path.decode("ascii", "replace").partition("?")[0]
