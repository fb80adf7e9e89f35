"""A relay before a desktop, in this process, on sockets: what browsers send, what each side gets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import uvloop

from tests.engines.desktop import BANNER, limits
from tests.engines.raw import World
from vncgate.model import Desktop

MAX_FRAME = 4096
MANY = 1_000_000


class Relayed:
    """Made once in a process; `play()` is a browser's whole life."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._wrong: list[object] = []
        self._loop.set_exception_handler(lambda loop, context: self._wrong.append(context))
        handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: self._wrong.append(record.getMessage())
        logging.getLogger().addHandler(handler)
        self._loop.run_until_complete(self._start())

    def play(self, *parts: bytes, greeted: bool) -> tuple[bytes, bytes, bool]:
        """Send `parts`, of which the first is the handshake, and then the end; where it is `greeted`, the others wait
        for the desktop's first bytes. Gives what the browser got, what the desktop got, and whether it was asked.
        """
        answer = self._loop.run_until_complete(asyncio.wait_for(self._play(parts, greeted), 20))
        assert not self._wrong, self._wrong
        return answer

    async def _start(self) -> None:
        self._desktops: list[asyncio.Future[bytes]] = []
        server = await asyncio.start_server(self._desktop, "127.0.0.1", 0)
        held_to = limits(max_frame=MAX_FRAME, handshakes=MANY, client_handshakes=MANY, ping_interval=3600.0)
        self._world = World(held_to)
        await self._world.open(Desktop("127.0.0.1", server.sockets[0].getsockname()[1]))

    async def _desktop(self, reader, writer) -> None:
        got: asyncio.Future[bytes] = self._loop.create_future()
        self._desktops.append(got)
        writer.write(BANNER)
        data = b""
        try:
            data = await reader.read()
        except ConnectionError:
            data = b"reset"
        finally:
            got.set_result(data)
            writer.close()

    async def _play(self, parts, greeted) -> tuple[bytes, bytes, bool]:
        loop = self._loop
        self._desktops.clear()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", self._world.port))
            got = b""
            try:
                for n, part in enumerate(parts):
                    await loop.sock_sendall(sock, part)
                    while n == 0 and greeted and not got.endswith(BANNER):
                        data = await loop.sock_recv(sock, 65536)
                        assert data, got
                        got += data
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it was refused before it had said all
            with contextlib.suppress(ConnectionResetError):
                while data := await loop.sock_recv(sock, 65536):
                    got += data
        while self._world.proxy.traffic().connections:
            await asyncio.sleep(0)
        reached = bool(self._desktops)
        up = b"".join([await desktop for desktop in self._desktops])
        return got, up, reached
