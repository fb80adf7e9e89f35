"""An application on a socket, for as long as a context lasts."""

from __future__ import annotations

import asyncio
import logging

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


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a request"])
async def test_who_sends_no_request_is_let_go(free_port, said):
    """And whoever has sent one is not."""
    sock = listeners.bind("127.0.0.1", free_port(), "the test")
    app = web.Application()
    app.router.add_get("/", answer)
    async with serving(app, sock, shutdown_timeout=0.1, request_timeout=0.2):
        good, other = await asyncio.open_connection(*sock.getsockname())
        other.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await good.readuntil(b"here")
        silent, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(said)
        async with asyncio.timeout(10):
            assert await silent.read() == b""
        other.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await good.readuntil(b"here")
        writer.close()
        other.close()


async def test_what_is_no_http_is_no_error_and_a_defect_is_one(free_port, caplog):
    async def broken(_):
        raise ZeroDivisionError

    caplog.set_level(logging.DEBUG, "vncgate.serving")
    sock = listeners.bind("127.0.0.1", free_port(), "the test")
    app = web.Application()
    app.router.add_get("/", broken)
    async with serving(app, sock, shutdown_timeout=0.1):
        for request in (
            b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
            b"\x16\x03\x01\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(request)
            await reader.readuntil(b"\r\n")
            writer.close()
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG", "ERROR"]


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
