"""Why a desktop could not be connected to, in words for a person."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from vncgate import dial
from vncgate.errors import DesktopError
from vncgate.model import Desktop, Readiness


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused the connection"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "is not known: no such host"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "cannot be looked up now"),
        (UnicodeError("label empty or too long"), "is not known: that is no host name"),
        (OSError(errno.EHOSTUNREACH, "x"), "cannot be reached: No route to host"),
        (OSError("Multiple exceptions: ..."), "cannot be reached: Multiple exceptions: ..."),
    ],
)
async def test_in_words(monkeypatch, error, words):
    async def fail(*args):
        raise error

    monkeypatch.setattr(dial.aiofastnet, "create_connection", fail)
    with pytest.raises(DesktopError) as caught:
        await dial.connect(Desktop("node01", 5901), asyncio.Protocol, 5.0)
    assert str(caught.value) == f"desktop node01:5901 {words}"
    assert caught.value.readiness is Readiness.OFFLINE


async def test_no_desktop_at_all():
    with pytest.raises(DesktopError, match="leaves it to a launcher"):
        await dial.connect(None, asyncio.Protocol, 5.0)


async def test_a_desktop_whose_host_vanishes_is_noticed(free_port):
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = await dial.connect(Desktop("127.0.0.1", port), asyncio.Protocol, 5.0)
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    idle, interval, count = (
        sock.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert idle + interval * count <= 60
    transport.abort()
    server.close()
