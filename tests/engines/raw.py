"""A relay on sockets of its own, and browsers that speak to it byte by byte."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import struct

from tests.engines.desktop import BANNER, limits
from vncgate.engines.base import GOING_AWAY
from vncgate.engines.relay import Relay
from vncgate.listeners import bind
from vncgate.model import Route


class World:
    """A relay with one account, on its own port and on the shared one."""

    def __init__(self, held_to=None):
        self.relay = Relay(held_to or limits())
        self.own, self.shared = bind("127.0.0.1", 0, "own"), bind("127.0.0.1", 0, "shared")
        self.port, self.shared_port = self.own.getsockname()[1], self.shared.getsockname()[1]
        self.suspects = []

    async def open(self, desktop):
        await self.relay.start(self.shared)
        await self.relay.rest(on=False)
        await self.relay.rest(on=False)
        route = Route("ws01", desktop, "websocketpath01", self.port)
        self.proxy = await self.relay.open(route, self.own, self.suspects.append)
        return self

    async def close(self):
        await self.relay.aclose()
        await self.proxy.close(GOING_AWAY, "end of the test")
        self.own.close()
        self.shared.close()


@contextlib.asynccontextmanager
async def relay_to(desktop, **changes):
    """A World before `desktop`, held to limits with `changes`."""
    world = await World(limits(**changes)).open(desktop)
    try:
        yield world
    finally:
        await world.close()


async def eventually(condition, seconds=10.0):
    """Wait until `condition()` is true, where nothing tells of it."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def handshake(path="/websockify"):
    """The bytes of a browser's handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


async def request(port, *lines, body=b"", method="GET", path="/websockify"):
    """A handshake by hand; returns (reader, writer, the response's head)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    head = [f"{method} {path} HTTP/1.1", "Host: x", "Upgrade: websocket", f"Sec-WebSocket-Key: {key}"]
    writer.write("\r\n".join([*head, "Sec-WebSocket-Version: 13", *lines, "", ""]).encode() + body)
    async with asyncio.timeout(60):
        return reader, writer, (await reader.readuntil(b"\r\n\r\n")).decode()


def frame(opcode, payload, fin=True, mask=True, rsv=0):
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    size = len(payload)
    bit = 0x80 if mask else 0
    head += (
        bytes([bit | size])
        if size < 126
        else struct.pack("!BH", bit | 126, size)
        if size < 65536
        else struct.pack("!BQ", bit | 127, size)
    )
    return head + (bytes(4) if mask else b"") + payload


async def close_of(reader):
    """The close frame that ends the stream, as (code, reason)."""
    async with asyncio.timeout(5):
        while True:
            first, second = await reader.readexactly(2)
            size = second & 127
            if size == 126:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
            payload = await reader.readexactly(size)
            if first & 15 == 8:
                return struct.unpack("!H", payload[:2])[0], payload[2:].decode()


async def slow_browser(port):
    """A browser with a small receive buffer, after the handshake."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=65536)
    writer.write(handshake())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2 + len(BANNER))
    return reader, writer
