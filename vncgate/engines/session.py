"""One browser connected to one desktop: bytes both ways, back-pressure both ways, and an end that says why.

Two protocols share a session: `Browser` is picows' listener for the websocket, `_DesktopSide` the plain
socket to the VNC server. Each pauses the other's reading while its own writing is full, so that a reader
that does not read costs a bounded buffer. The desktop's bytes are received into one buffer that all
sessions of the loop share: they are passed on before the next session reads.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
import time
from typing import Protocol

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from vncgate import tasks
from vncgate.dial import connect
from vncgate.engines.base import Limits
from vncgate.errors import DesktopError
from vncgate.model import Desktop

log = logging.getLogger(__name__)

READ_SIZE = 262144
"""Bytes read from a desktop at once."""
WRITE_LIMIT = 262144
"""Bytes that may wait for a slow reader before the other side is no longer read."""
CLOSE_GRACE = 2.0
"""Seconds that a browser has to answer our close frame."""
DRAIN_GRACE = 30.0
"""Seconds that the last bytes have to reach a slow reader after the other side hung up."""

_BINARY = WSMsgType.BINARY
_CONTINUATION = WSMsgType.CONTINUATION
_DATA = (_BINARY, _CONTINUATION)
_shared_buffer = memoryview(bytearray(READ_SIZE))


class Host(Protocol):
    """What a session needs of the proxy that it belongs to."""

    name: str
    desktop: Desktop | None
    limits: Limits
    bytes_up: int
    bytes_down: int

    def client_address(self, transport: WSTransport) -> str:
        """The browser's address, for the log."""

    def opened(self, session: Browser) -> None:
        """A browser came."""

    def closed(self, session: Browser) -> None:
        """A browser went, and the desktop's side is closed or closing."""

    def suspect(self, reason: str) -> None:
        """The desktop could not be connected to."""


class Browser(WSListener):
    """The websocket's side of a session, and the session itself."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.socket: WSTransport | None = None
        self.desktop: asyncio.Transport | None = None
        self._early = bytearray()
        self._connecting: asyncio.Task[None] | None = None
        self._in_message = False
        self.ending = ""
        self._timer: asyncio.TimerHandle | None = None
        self._keeper: asyncio.TimerHandle | None = None
        self._heard = True
        self._asked = False
        self._taken = 0
        self._up = 0
        self.down = 0
        self._began = 0.0
        self._fields: dict[str, str] = {}

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Connect to the desktop; nothing is read from the browser until that is done."""
        self.socket = transport
        self._began = time.monotonic()
        self._fields = {"account": self.host.name, "client": self.host.client_address(transport)}
        self.host.opened(self)
        underlying = transport.underlying_transport
        underlying.set_write_buffer_limits(high=WRITE_LIMIT)
        underlying.pause_reading()
        self._keep_alive()
        self._connecting = tasks.spawn(self._connect(), f"connect {self.host.name}")

    async def _connect(self) -> None:
        try:
            transport = await connect(self.host.desktop, lambda: _DesktopSide(self), self.host.limits.connect_timeout)
        except DesktopError as error:
            self.host.suspect(str(error))
            self.close(WSCloseCode.BAD_GATEWAY, str(error))
            return
        self.desktop = transport
        transport.set_write_buffer_limits(high=WRITE_LIMIT)
        if self._early:
            transport.write(bytes(self._early))
            self._early.clear()
        if self.socket is not None:
            self.socket.underlying_transport.resume_reading()
        log.info("connected to %s", self.host.desktop, extra=self._fields)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass a binary frame on; refuse what RFB over websockets does not have."""
        kind = frame.msg_type
        self._heard = True
        if self.ending or transport.is_close_frame_sent:  # the latter: picows refused a frame, and goes on parsing
            if kind == WSMsgType.CLOSE:
                transport.disconnect()
        elif kind in _DATA:
            if frame.rsv1 or frame.rsv2 or frame.rsv3 or (kind == _CONTINUATION) is not self._in_message:
                self.close(WSCloseCode.PROTOCOL_ERROR, "a websocket frame out of order, or with unknown flags")
                return
            self._in_message = not frame.fin
            self._up += frame.payload_size
            self.host.bytes_up += frame.payload_size
            if self.desktop is not None:
                self.desktop.write(frame.get_payload_as_memoryview())
            else:
                self._early += frame.get_payload_as_memoryview()
        elif kind == WSMsgType.CLOSE:
            self._browser_closes(transport, frame)
        elif kind == WSMsgType.TEXT:
            self.close(WSCloseCode.UNSUPPORTED_DATA, "VNC is binary: text frames are not understood")
        elif kind == WSMsgType.PING and not transport.underlying_transport.get_write_buffer_size():
            # Who floods us with pings and reads no answer gets none (RFC 6455, section 5.5.3, asks for the last only).
            transport.send_pong(frame.get_payload_as_memoryview())

    def _browser_closes(self, transport: WSTransport, frame: WSFrame) -> None:
        code = frame.get_close_code()
        self.ending = "the browser closed it"
        transport.send_close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code)
        transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The browser is gone: give the desktop its last bytes, then hang up."""
        self.socket = None
        if not self.ending:
            sent = transport.close_handshake and transport.close_handshake.sent
            self.ending = f"refused: {sent.reason}" if sent else "the browser vanished"
        for timer in (self._timer, self._keeper):
            if timer is not None:
                timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self.desktop is not None:
            _hang_up(self.desktop)
        log.info(
            "%s; %d s, %d bytes down, %d up",
            self.ending,
            time.monotonic() - self._began,
            self.down,
            self._up,
            extra=self._fields,
        )
        self.host.closed(self)

    def pause_writing(self) -> None:
        """The browser does not read: stop reading from the desktop."""
        if self.desktop is not None:
            self.desktop.pause_reading()

    def resume_writing(self) -> None:
        """The browser reads again."""
        if self.desktop is not None:
            self.desktop.resume_reading()

    def _keep_alive(self) -> None:
        """Every `ping_interval`: ping a browser that was silent, so that no proxy in between gives the tunnel up,
        and end the session of one that was asked and has shown no life since.

        Life is a frame, or bytes of ours that it took: on a slow network a ping waits behind megabytes. While we
        do not listen ourselves (the desktop does not read, or is being connected to) nobody is judged.
        """
        if self.socket is None or self.ending:
            return
        underlying = self.socket.underlying_transport
        taken = self.down - underlying.get_write_buffer_size() - _unsent(underlying)
        alive = self._heard or taken > self._taken or not underlying.is_reading()
        interval = self.host.limits.ping_interval
        if not alive and self._asked:
            self.close(WSCloseCode.GOING_AWAY, f"the browser did not answer a ping within {interval:g} s")
            return
        self._asked = not self._heard
        if self._asked:
            self.socket.send_ping()
        self._heard, self._taken = False, taken
        self._keeper = asyncio.get_running_loop().call_later(interval, self._keep_alive)

    def close(self, code: WSCloseCode, reason: str, grace: float = CLOSE_GRACE) -> None:
        """End the session with a close frame; after `grace` seconds without an answer it is cut."""
        if self.socket is None or self.ending:
            return
        self.ending = reason
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()
        if self.desktop is not None:
            _hang_up(self.desktop)
        self.socket.send_close(code, reason.encode()[:123].decode(errors="ignore"))
        self.socket.underlying_transport.resume_reading()  # the answer must be heard
        self._timer = asyncio.get_running_loop().call_later(grace, self.socket.disconnect, False)

    def abort(self) -> None:
        """Cut the session at once."""
        if self.socket is not None:
            self.socket.disconnect(graceful=False)

    def desktop_gone(self, error: Exception | None) -> None:
        """The desktop hung up (`error` is None) or its connection broke."""
        if self.ending:
            return
        what = "dropped the connection" if error else "closed the connection"
        code = WSCloseCode.BAD_GATEWAY if error else WSCloseCode.OK
        self.close(code, f"desktop {self.host.desktop} {what}", DRAIN_GRACE)


class _DesktopSide(asyncio.BufferedProtocol):
    """The VNC server's side of a session."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.host = browser.host

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return _shared_buffer

    def buffer_updated(self, nbytes: int) -> None:
        browser = self._browser
        browser.down += nbytes
        self.host.bytes_down += nbytes
        if browser.socket is not None:
            browser.socket.send(_BINARY, _shared_buffer[:nbytes])

    def eof_received(self) -> bool:
        self._browser.desktop_gone(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._browser.desktop_gone(exc)

    def pause_writing(self) -> None:
        if self._browser.socket is not None:
            self._browser.socket.underlying_transport.pause_reading()

    def resume_writing(self) -> None:
        if self._browser.socket is not None:
            self._browser.socket.underlying_transport.resume_reading()


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes that the kernel holds for the peer, not yet acknowledged (SIOCOUTQ, tcp(7))."""
    answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])


def _hang_up(transport: asyncio.Transport) -> None:
    """Close after the last bytes are written, but cut a reader that does not take them."""
    if not transport.is_closing():
        transport.close()
        if transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(DRAIN_GRACE, transport.abort)
