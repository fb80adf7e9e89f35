"""An aiohttp application on a listening socket of ours, for as long as a context lasts."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

from aiohttp import web


@contextlib.asynccontextmanager
async def serving(app: web.Application, sock: socket.socket, shutdown_timeout: float) -> AsyncIterator[None]:
    """Serve `app` on `sock`, which is closed at the end; requests under way have `shutdown_timeout` seconds then."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_timeout)
    try:
        await runner.setup()
        await web.SockSite(runner, sock).start()
        yield
    finally:
        await runner.cleanup()
        sock.close()
