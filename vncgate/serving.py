"""An aiohttp application on a listening socket of ours, for as long as a context lasts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

REQUEST_TIMEOUT = 10.0
"""Seconds from a connection to its first whole request."""
IDLE_TIMEOUT = 75.0
"""Seconds from an answer to the next whole request: long, because a proxy that sends one just then has it lost."""

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def serving(
    app: web.Application, sock: socket.socket, shutdown_timeout: float, request_timeout: float = REQUEST_TIMEOUT
) -> AsyncIterator[None]:
    """Serve `app` on `sock`, which is closed at the end; requests under way have `shutdown_timeout` seconds then.

    Who does not send a whole request within `request_timeout` seconds is let go.
    """
    loop = asyncio.get_running_loop()
    silent: set[asyncio.BaseProtocol] = set()

    @web.middleware
    async def heard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        silent.discard(request.protocol)
        return await handler(request)

    def accept() -> asyncio.BaseProtocol:
        connection = runner.server()  # type: ignore[misc]  # there is one after setup()
        silent.add(connection)
        loop.call_later(request_timeout, let_go, connection)
        return connection

    def let_go(connection: web.RequestHandler) -> None:
        if connection in silent:
            silent.discard(connection)
            connection.force_close()

    app.middlewares.insert(0, heard)
    runner = web.AppRunner(
        app, access_log=None, logger=log, keepalive_timeout=IDLE_TIMEOUT, shutdown_timeout=shutdown_timeout
    )
    try:
        await runner.setup()
        server = await loop.create_server(accept, sock=sock, backlog=128)
        try:
            yield
        finally:
            server.close()
    finally:
        await runner.cleanup()
        sock.close()


def _demote(record: logging.LogRecord) -> bool:
    """What strangers send that is no HTTP is no error of ours, though aiohttp logs it as one."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return log.isEnabledFor(record.levelno)


log.addFilter(_demote)
