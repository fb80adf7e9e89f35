"""An application on a socket, for as long as a context lasts."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from vncgate import listeners
from vncgate.serving import serving


async def answer(_):
    return web.Response(text="here")


async def test_an_application_is_served_while_the_context_lasts(free_port):
    sock = listeners.bind("127.0.0.1", free_port(), "the test")
    address = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    app = web.Application()
    app.router.add_get("/", answer)
    async with aiohttp.ClientSession() as session:
        async with serving(app, sock, shutdown_timeout=0.1), session.get(address) as response:
            assert await response.text() == "here"
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(address)
    assert sock.fileno() == -1


async def test_the_socket_is_closed_when_the_application_cannot_start(free_port):
    async def broken(_):
        raise OSError("no disk")
        yield

    sock = listeners.bind("127.0.0.1", free_port(), "the test")
    app = web.Application()
    app.cleanup_ctx.append(broken)
    with pytest.raises(OSError, match="no disk"):
        async with serving(app, sock, shutdown_timeout=0.1):
            pytest.fail("served")
    assert sock.fileno() == -1
