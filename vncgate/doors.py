"""Where the gate lets people in: operators on the control socket, participants on the pages, Prometheus on the metrics.

The websockets are no door of these: they are the engine's.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator

from aiohttp import web

from vncgate import control, scrape
from vncgate.listeners import Listeners
from vncgate.scrape import Handler
from vncgate.serving import serving
from vncgate.settings import HostPort, Settings, is_loopback

log = logging.getLogger(__name__)

SHARED, PAGES, METRICS = "the shared port", "the pages (setting web)", "the metrics (setting metrics.address)"
"""Whose an address is, as messages say it."""


class Doors:
    """They are open from `open()` to `aclose()`, or until `hand_over()`; the pages from `show()` on."""

    def __init__(
        self,
        settings: Settings,
        listeners: Listeners,
        operator: control.Operator,
        metrics: Handler,
        pages: Callable[[], web.Application],
    ) -> None:
        """`pages` makes the application of the web port; it is asked for at each `show()`, if there is such a port."""
        self._settings = settings
        self._listeners = listeners
        self._operator = operator
        self._metrics = metrics
        self._pages = pages
        self._stack = contextlib.AsyncExitStack()
        self._control: tuple[socket.socket, control.Served] | None = None

    @property
    def are_open(self) -> bool:
        """Whether they were opened ever."""
        return self._control is not None

    async def open(self, sock: socket.socket) -> None:
        """Let operators and Prometheus in; `sock` is the control socket. Participants knock, and wait for `show()`."""
        settings = self._settings
        self._control = sock, await self._stack.enter_async_context(control.serve(sock, self._operator, self._metrics))
        if address := settings.web:
            self._listeners.open(address.port, PAGES, address.host)
        if (scraped := settings.metrics.address) and scraped != address:
            door = self._door(scraped, METRICS)
            await self._stack.enter_async_context(serving(scrape.application(self._metrics), door, 1.0))

    async def show(self) -> None:
        """Let participants in: their accounts are known now, so that nobody is told that there is no such desktop."""
        if address := self._settings.web:
            door = self._door(address, PAGES)
            timeout = self._settings.handshake_timeout
            await self._stack.enter_async_context(serving(self._pages(), door, 1.0, timeout))

    async def hand_over(self) -> socket.socket:
        """Close them, but so that who knocks waits in the backlogs; returns the control socket."""
        assert self._control is not None  # noqa: S101
        sock, served = self._control
        kept, served.stays = sock.dup(), True
        await self._stack.aclose()
        return kept

    async def aclose(self) -> None:
        """Close them."""
        await self._stack.aclose()

    def _door(self, address: HostPort, owner: str) -> socket.socket:
        return self._listeners.open(address.port, owner, address.host).dup()


def addresses(settings: Settings) -> Iterator[tuple[HostPort, str]]:
    """Where the gate itself listens, and for what; not the control socket, nor the ports of accounts."""
    if settings.accounts_port:
        yield HostPort(host=settings.listen, port=settings.accounts_port), SHARED
    if settings.web:
        yield settings.web, PAGES
    if settings.metrics.address and settings.metrics.address != settings.web:
        yield settings.metrics.address, METRICS


def warn_of_exposure(settings: Settings) -> None:
    """Log what other machines can reach."""
    exposed = [] if is_loopback(settings.listen) else [f"websocket ports on {settings.listen}"]
    if settings.web and not settings.web.is_loopback:
        exposed.append(f"pages on {settings.web}")
    if (metrics := settings.metrics.address) and not metrics.is_loopback:
        exposed.append(f"metrics on {metrics}")
    if exposed:
        log.warning("%s: other machines can reach them, and without TLS all can be read", ", ".join(exposed))
