"""One browser connected to one desktop: bytes both ways, back-pressure both ways, and an end that says why.

Two protocols share a session: `Browser` is picows' listener for the websocket, `_DesktopSide` the plain
socket to the VNC server. Each pauses the other's reading while its own writing is full, so that a reader
that does not read costs a bounded buffer. The desktop's bytes are received into one `Room` that all
sessions of the loop share: they are passed on before the next session reads.

At a guarded account the gate speaks RFB with the browser first, which needs no password, and logs in to the desktop
then; from there on the session is as any other, but for who may only watch.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
import time
from collections.abc import Callable
from typing import Protocol

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from vncgate import tasks
from vncgate.dial import connect
from vncgate.engines.admission import Visitor
from vncgate.engines.base import POLICY, Limits, Suspect
from vncgate.engines.login import Logins
from vncgate.engines.room import Room
from vncgate.errors import DesktopError
from vncgate.model import Desktop, Readiness
from vncgate.people import Mode
from vncgate.rfb import Refused, ServerHandshake
from vncgate.rfb_input import InputReader
from vncgate.rfb_view import ViewFilter
from vncgate.tally import End, Tally

log = logging.getLogger(__name__)

CLOSE_GRACE = 2.0
"""Seconds that a browser has to answer our close frame."""
DRAIN_GRACE = 30.0
"""Seconds that the last bytes have to reach a slow reader after the other side hung up."""
LARGEST_CLOSE_CODE = 4999
"""RFC 6455, section 7.4.2. (picows refuses those below 3000 that have no meaning.)"""

_BINARY = WSMsgType.BINARY
_CONTINUATION = WSMsgType.CONTINUATION
_DATA = (_BINARY, _CONTINUATION)
_NEVER_SENT = (WSCloseCode.NO_INFO, WSCloseCode.ABNORMAL_CLOSURE)


_room = Room()


class Host(Protocol):
    """What a session needs of the proxy that it belongs to."""

    name: str
    desktop: Desktop | None
    watch_input: bool
    limits: Limits
    counted: Tally
    logins: Logins | None
    """Of a guarded account."""
    suspect: Suspect

    def opened(self, session: Browser) -> None:
        """A browser came."""

    def closed(self, session: Browser) -> None:
        """A browser went, and the desktop's side is closed or closing; its counts stay as they are."""


class Browser(WSListener):
    """The websocket's side of a session, and the session itself."""

    def __init__(self, host: Host, client: str, visitor: Visitor) -> None:
        self.host = host
        self.visitor = visitor
        self.socket: WSTransport | None = None
        self.desktop: asyncio.Transport | None = None
        self.end = End.BROWSER_VANISHED
        self.ending = ""
        self.frames_up = 0
        self.frames_down = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.used = 0.0
        """See model.Traffic."""
        self._delay = 0.0
        guarded = host.logins is not None
        self._inspect: Callable[[bytes | memoryview], bytes | memoryview] | None = None
        """What is done with each piece from the browser; it gives what is to be passed on."""
        self._input: InputReader | None = None
        self._filter: ViewFilter | None = None
        if visitor.mode is Mode.VIEW:
            self._filter = ViewFilter()
            self._inspect = self._watches
        elif host.watch_input:
            self._input = InputReader(self._blind, logged_in=guarded)
            self._inspect = self._uses
        self._early = b""
        self._connecting: asyncio.Task[None] | None = None
        self._in_message = False
        self._timer: asyncio.TimerHandle | None = None
        self._keeper: asyncio.TimerHandle | None = None
        self._heard = True
        self._asked = False
        self._pinged = 0.0
        self._taken = 0
        self._began = 0.0
        self._fields = {"account": host.name, "client": client}

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Connect to the desktop; nothing is read from the browser until that is done. Of a guarded one the browser
        says first what it has to say.
        """
        self.socket = transport
        transport.request.headers.clear()  # picows would keep them as long as the connection lives
        self._began = time.monotonic()
        self.host.counted.opened += 1
        self.host.opened(self)
        underlying = transport.underlying_transport
        underlying.set_write_buffer_limits(high=self.host.limits.max_buffer)
        self._keep_alive()
        if self.host.logins is not None:
            self._greet(self.host.logins)
        else:
            underlying.pause_reading()
            self._connecting = tasks.spawn(self._connect(), f"connect {self.host.name}")

    def _greet(self, logins: Logins) -> None:
        """Be a VNC server to the browser, up to where the desktop's own word is wanted."""
        handshake, then = ServerHandshake(), self._inspect
        limit = self.host.limits.handshake_timeout

        def hear(data: bytes | memoryview) -> bytes | memoryview:
            handshake.receive_data(data)
            self._say(handshake.data_to_send())
            if isinstance(handshake.result, Refused):
                self._refuse(f"the browser {handshake.result}")
            elif handshake.result is not None and self.socket is not None:
                self.socket.underlying_transport.pause_reading()
                self._cancel_timer()
                self._inspect = then
                self._connecting = tasks.spawn(self._log_in(logins), f"connect {self.host.name}")
                return then(handshake.rest) if then and handshake.rest else handshake.rest
            return b""

        self._inspect = hear
        self._later(limit, lambda: self._refuse(f"the browser did not finish the VNC handshake within {limit:g} s"))
        self._say(handshake.data_to_send())

    async def _log_in(self, logins: Logins) -> None:
        began = time.monotonic()
        try:
            found = await logins.log_in()
        except DesktopError as error:
            self._connecting = None
            if error.readiness is Readiness.UNKNOWN:
                self.close(WSCloseCode.SERVICE_RESTART, str(error))
            else:
                self.close(WSCloseCode.BAD_GATEWAY, str(error), End.DESKTOP_UNREACHABLE)
            return
        self._connecting = None
        self.host.counted.connect.observe(time.monotonic() - began)
        found.transport.set_protocol(_DesktopSide(self))
        self._say(found.said)
        self._attach(found.transport)
        if found.transport.is_closing():
            self.desktop_gone(None)
        else:
            found.transport.resume_reading()

    async def _connect(self) -> None:
        try:
            transport = await connect(self.host.desktop, lambda: _DesktopSide(self), self.host.limits.connect_timeout)
        except DesktopError as error:
            self._connecting = None
            self._unusable(str(error))
            return
        self._connecting = None
        self.host.counted.connect.observe(time.monotonic() - self._began)
        self._attach(transport)
        self._later(self.host.limits.handshake_timeout, self._expect_greeting)

    def _attach(self, transport: asyncio.Transport) -> None:
        """The desktop is there: from now on bytes pass."""
        self._cancel_timer()
        self.desktop = transport
        transport.set_write_buffer_limits(high=self.host.limits.max_buffer)
        if self._early:
            transport.write(self._early)
            self._early = b""
        if self.socket is not None:
            self.socket.underlying_transport.resume_reading()
        watches = ", to watch" if self.visitor.mode is Mode.VIEW else ""
        log.info("connected to %s%s", self.host.desktop, watches, extra=self._fields)

    def _say(self, data: bytes) -> None:
        """Send the browser words of ours, or of a login."""
        if self.socket is not None and data:
            self.frames_down += 1
            self.bytes_down += len(data)
            self.socket.send(_BINARY, data)

    def _uses(self, data: bytes | memoryview) -> bytes | memoryview:
        if self._input is not None and self._input.feed(data):
            self.used = time.monotonic()
        return data

    def _watches(self, data: bytes | memoryview) -> bytes:
        assert self._filter is not None  # noqa: S101
        passed = self._filter.feed(data)
        if self._filter.wrong:
            self.close(WSCloseCode(POLICY), f"who only watches may not send {self._filter.wrong}", End.PROTOCOL_ERROR)
            return b""
        return passed

    def _expect_greeting(self) -> None:
        """A VNC server speaks first (RFC 6143, section 7.1.1); one that does not would leave the browser waiting."""
        if not self.bytes_down:
            limit = self.host.limits.handshake_timeout
            self._unusable(f"desktop {self.host.desktop} takes connections, but said nothing within {limit:g} s")

    def _unusable(self, reason: str) -> None:
        self.host.suspect(reason)
        self.close(WSCloseCode.BAD_GATEWAY, reason, End.DESKTOP_UNREACHABLE)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass a binary frame on; refuse what RFB over websockets does not have."""
        kind = frame.msg_type
        self._heard = True
        if self.ending or transport.is_close_frame_sent:  # the latter: picows refused a frame, and goes on parsing
            if kind == WSMsgType.CLOSE:
                transport.disconnect()
        elif kind in _DATA:
            if frame.rsv1 or frame.rsv2 or frame.rsv3 or (kind == _CONTINUATION) is not self._in_message:
                self._refuse("a websocket frame out of order, or with unknown flags")
                return
            self._in_message = not frame.fin
            self.frames_up += 1
            self.bytes_up += frame.payload_size
            data: bytes | memoryview = frame.get_payload_as_memoryview()
            if self._inspect is not None:
                data = self._inspect(data)
                if not data:
                    return
            if self.desktop is not None:
                _room.sent += len(data)
                self.desktop.write(data)
            else:
                self._early += data
        else:
            self._obey(transport, frame)

    def _obey(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame that has no data of VNC's."""
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._refuse("a websocket frame with unknown flags")
        elif kind == WSMsgType.CLOSE:
            self._browser_closes(transport, frame)
        elif kind == WSMsgType.TEXT:
            self._refuse("VNC is binary: text frames are not understood", WSCloseCode.UNSUPPORTED_DATA)
        elif kind == WSMsgType.PING and not transport.underlying_transport.get_write_buffer_size():
            # Who floods us with pings and reads no answer gets none (RFC 6455, section 5.5.3, asks for the last only).
            transport.send_pong(frame.get_payload_as_memoryview())
        elif kind == WSMsgType.PONG and self._pinged:
            self._delay, self._pinged = time.monotonic() - self._pinged, 0.0

    def _blind(self, reason: str) -> None:
        log.debug("%s: from here on whatever the browser sends counts as use", reason, extra=self._fields)

    def _refuse(self, reason: str, code: WSCloseCode = WSCloseCode.PROTOCOL_ERROR) -> None:
        self.close(code, reason, End.PROTOCOL_ERROR)

    def _browser_closes(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer with the browser's own code (RFC 6455, section 5.5.1), where it is one that may be sent."""
        code = frame.get_close_code()
        if frame.payload_size and (code in _NEVER_SENT or code.value > LARGEST_CLOSE_CODE):
            self._refuse(f"close code {code.value} may not be sent")
            return
        self.ending, self.end = "the browser closed it", End.BROWSER_CLOSED
        transport.send_close(code if frame.payload_size else WSCloseCode.OK)
        transport.disconnect()
        self._later(DRAIN_GRACE, self.abort)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The browser is gone: give the desktop its last bytes, then hang up."""
        self.socket = None
        if not self.ending:
            refused = transport.close_handshake and transport.close_handshake.sent  # by picows
            self.ending = f"refused: {refused.reason}" if refused else "the browser vanished"
            self.end = End.PROTOCOL_ERROR if refused else End.BROWSER_VANISHED
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
            self.bytes_down,
            self.bytes_up,
            extra=self._fields,
        )
        self.host.counted.ended[self.end] += 1
        self.host.closed(self)

    @property
    def delay(self) -> float:
        """See model.Traffic; while a ping is under way for longer than the last one was, that long."""
        return max(self._delay, time.monotonic() - self._pinged if self._pinged else 0.0)

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
        and end the session of one that was asked and has shown no life since. At a guarded account every browser is
        pinged: organizers see how far away each is.

        Life is a frame, or bytes of ours that it took: on a slow network a ping waits behind megabytes. While we
        do not listen ourselves (the desktop does not read, or is being connected to) nobody is judged; but a socket
        that closes, and has not got rid of its last bytes an interval later, is cut.
        """
        if self.socket is None or self.ending:
            return
        underlying = self.socket.underlying_transport
        interval = self.host.limits.ping_interval
        taken = self.bytes_down - underlying.get_write_buffer_size() - _unsent(underlying)
        listens = underlying.is_reading() or underlying.is_closing()
        alive = self._heard or taken > self._taken or not listens
        if not alive and self._asked:
            if underlying.is_closing():
                self.abort()
            else:
                reason = f"the browser did not answer a ping within {interval:g} s"
                self.close(WSCloseCode.GOING_AWAY, reason, End.NO_ANSWER)
            return
        self._asked = not self._heard
        if self._asked or self.host.logins is not None:
            self._pinged = self._pinged or time.monotonic()
            self.socket.send_ping()
        self._heard, self._taken = False, taken
        self._keeper = asyncio.get_running_loop().call_later(interval, self._keep_alive)

    def close(self, code: WSCloseCode, reason: str, end: End = End.GATE, grace: float = CLOSE_GRACE) -> None:
        """End the session with a close frame; after `grace` seconds without an answer it is cut."""
        if self.socket is None or self.ending:
            return
        self.ending, self.end = reason, end
        if self._connecting is not None:
            self._connecting.cancel()
        if self.desktop is not None:
            _hang_up(self.desktop)
        self.socket.send_close(code, reason.encode()[:123].decode(errors="ignore"))
        self.socket.underlying_transport.resume_reading()  # the answer must be heard
        self._later(grace, self.abort)

    def abort(self) -> None:
        """Cut the session at once."""
        if self.socket is not None:
            self.socket.disconnect(graceful=False)

    def _later(self, seconds: float, deed: Callable[[], None]) -> None:
        """Do one thing later, instead of what was to be done then."""
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, deed)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def desktop_gone(self, error: Exception | None) -> None:
        """The desktop hung up (`error` is None) or its connection broke."""
        if self.ending:
            return
        name = f"desktop {self.host.desktop}"
        if error:
            self.close(WSCloseCode.BAD_GATEWAY, f"{name} dropped the connection", End.DESKTOP_DROPPED, DRAIN_GRACE)
        else:
            self.close(WSCloseCode.OK, f"{name} closed the connection", End.DESKTOP_CLOSED, DRAIN_GRACE)


class _DesktopSide(asyncio.BufferedProtocol):
    """The VNC server's side of a session."""

    __slots__ = ("_browser",)

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return _room.free()

    def buffer_updated(self, nbytes: int) -> None:
        browser = self._browser
        browser.frames_down += 1
        browser.bytes_down += nbytes
        if browser.socket is not None:
            browser.socket.send(_BINARY, _room.filled(nbytes))

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
