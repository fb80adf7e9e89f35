"""A VNC server that asks for a password, and a VNC client in a browser, both by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os

import picows

from tests.engines.desktop import client
from vncgate import cookies
from vncgate.rfb import PixelFormat, ServerInit, vnc_auth

PASSWORD = "secret01"
PATIENCE = 60.0
INIT = ServerInit(64, 48, PixelFormat(32, 24, False, True, 255, 255, 255, 16, 8, 0), "Ada's \u20ac desktop\n").pack()
COOKIE, OTHER = "A" * 43, "B" * 43
DIGEST, OTHER_DIGEST = cookies.digest(COOKIE), cookies.digest(OTHER)


class Vnc:
    """Counts `logins`, `wrong` passwords, and `unfinished` logins, which a blacklist would count as well."""

    def __init__(self, password=PASSWORD, *, security=2, init=INIT):
        self.password, self.security, self.init = password, security, init
        self.connections = self.logins = self.wrong = self.unfinished = 0
        self.received = bytearray()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.gone = asyncio.Event()
        self.news = asyncio.Event()
        self.writers = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self.server.close()
        self.go_on.set()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            try:
                welcome = await self._log_in(reader, writer)
            except (EOFError, ConnectionError):
                self.unfinished += 1
                return
            finally:
                self._tell()
            while welcome and (data := await reader.read(65536)):
                self.received += data
                self._tell()
        self.gone.set()
        writer.close()

    async def _log_in(self, reader, writer):
        writer.write(b"RFB 003.008\n")
        assert await reader.readexactly(12) == b"RFB 003.008\n"
        await self.go_on.wait()
        writer.write(bytes([1, self.security]))
        assert await reader.readexactly(1) == bytes([self.security])
        if self.security == 2:
            challenge = os.urandom(16)
            writer.write(challenge)
            if await reader.readexactly(16) != vnc_auth(self.password, challenge):
                self.wrong += 1
                writer.write(b"\0\0\0\1" + b"\0\0\0\4Nope")
                return False
        writer.write(bytes(4))
        assert await reader.readexactly(1) == b"\1", "it shares the desktop"
        self.logins += 1
        writer.write(self.init)
        return True

    def _tell(self):
        self.news.set()
        self.news.clear()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.news.wait()


class Keeper:
    """Who has the password: a Login that says how often it was asked."""

    def __init__(self, password=PASSWORD):
        self.password = password
        self.asked = []
        self.objection = None
        self.ready = asyncio.Event()
        self.ready.set()

    async def __call__(self, challenge):
        self.asked.append(challenge)
        if self.objection:
            raise self.objection
        if not challenge:
            return b""
        await self.ready.wait()
        return vnc_auth(self.password, challenge)


@contextlib.asynccontextmanager
async def browser(port, path="/websockify", cookie=COOKIE, name=cookies.SESSION, **headers):
    """A websocket with a session's cookie: (transport, listener)."""
    if cookie:
        headers["Cookie"] = f"other=1; {name}={cookie}"
    async with client(port, path, **headers) as (socket, heard):
        yield socket, heard


async def enter(socket, heard, version=b"RFB 003.008\n"):
    """The browser's side of the login; ends when it has ServerInit."""
    await heard.until(lambda: len(heard.data) >= 12, PATIENCE)
    assert heard.data[:12] == b"RFB 003.008\n"
    del heard.data[:12]
    say(socket, version)
    if version == b"RFB 003.003\n":
        await heard.until(lambda: len(heard.data) >= 4, PATIENCE)
        assert bytes(heard.data[:4]) == b"\0\0\0\1"
        del heard.data[:4]
    else:
        await heard.until(lambda: len(heard.data) >= 2, PATIENCE)
        assert bytes(heard.data[:2]) == b"\1\1"
        del heard.data[:2]
        say(socket, b"\1")
    if version == b"RFB 003.008\n":
        await heard.until(lambda: len(heard.data) >= 4, PATIENCE)
        assert bytes(heard.data[:4]) == bytes(4)
        del heard.data[:4]
    say(socket, b"\0")
    await heard.until(lambda: len(heard.data) >= len(INIT) or heard.closed, PATIENCE)


def say(socket, data):
    socket.send(picows.WSMsgType.BINARY, data)
