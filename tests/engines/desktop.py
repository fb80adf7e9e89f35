"""Stand-ins for a VNC server's socket, and a websocket client that keeps all it hears."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import picows

from vncgate.engines.base import Limits
from vncgate.settings import Settings

BANNER = b"RFB 003.008\n"


def limits(**changes) -> Limits:
    """What an engine is held to by default, with `changes`."""
    return dataclasses.replace(Limits.of(Settings()), **changes)


class Peer:
    """A server that greets, echoes, and does to its connections what a test wants."""

    def __init__(self):
        self.connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.received = bytearray()
        self.echo = True
        self.reading = asyncio.Event()
        self.reading.set()
        self.gone = asyncio.Queue()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=65536, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self.server.close()
        for _, writer in self.connections:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self.connections.append((reader, writer))
        writer.write(BANNER)
        try:
            while True:
                await self.reading.wait()
                data = await reader.read(65536)
                if not data:
                    self.gone.put_nowait("eof")
                    break
                self.received += data
                if self.echo:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            self.gone.put_nowait("reset")
        except asyncio.CancelledError:
            pass
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    @property
    def writer(self):
        return self.connections[-1][1]


class Listener(picows.WSListener):
    def __init__(self):
        self.data = bytearray()
        self.closed: tuple[int, str] | None = None
        self.pings = 0
        self._news = asyncio.Event()
        self.gone = asyncio.Event()

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == picows.WSMsgType.CLOSE:
            message = frame.get_close_message() or b""
            self.closed = (int(frame.get_close_code()), message.decode())
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.PING:
            self.pings += 1
            transport.send_pong(frame.get_payload_as_bytes())
        else:
            self.data += frame.get_payload_as_memoryview()
        self._news.set()

    def on_ws_disconnected(self, transport):
        self.gone.set()
        self._news.set()

    async def until(self, condition, seconds=10.0):
        """Wait until something heard makes `condition()` true."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def client(port, path="/websockify", **headers):
    """A connected websocket: (transport, listener)."""
    transport, listener = await picows.ws_connect(
        Listener,
        f"ws://127.0.0.1:{port}{path}",
        enable_auto_pong=False,
        extra_headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    try:
        yield transport, listener
    finally:
        transport.disconnect(graceful=False)
        await listener.gone.wait()
