"""One participant: a viewer that logs in, asks for updates, and counts what comes, over a websocket or plain TCP.

A player has no task and no timer of its own once it plays: `stage.Rehearsal` asks all of them in turn, and what arrives
is dealt with in the transport's callback.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import aiofastnet
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from vncgate.rehearsal import words
from vncgate.rehearsal.plan import Plan, Play, Target
from vncgate.rehearsal.report import Report
from vncgate.rehearsal.script import Script, script
from vncgate.rehearsal.updates import Updates
from vncgate.rfb import ClientHandshake, Refusal, Refused, ServerInit
from vncgate.text import printable

READ_SIZE = 262144
"""Bytes read from a plain connection at once."""
READ_BUFFER = 16384
"""Bytes that each websocket's read buffer begins with: a small update with its frame."""

_BINARY = WSMsgType.BINARY
_DATA = (WSMsgType.BINARY, WSMsgType.CONTINUATION)
_CLOSE = WSMsgType.CLOSE
_shared_buffer = memoryview(bytearray(READ_SIZE))
_clock = time.perf_counter
_silent = logging.LoggerAdapter(logging.getLogger("picows.rehearsal"))  # what it says is in the report
_silent.logger.setLevel(logging.CRITICAL + 1)


class Company:
    """What all players of a run share. `changed` is called whenever one lost its desktop or its connection."""

    def __init__(self, plan: Plan, context: ssl.SSLContext | None, changed: Callable[[], None]) -> None:
        self.plan = plan
        self.context = context
        self.changed = changed
        self.report = Report()
        self.playing = 0
        """Players that are logged in now."""
        self.open = 0
        """Connections that are not closed yet."""
        self.interval = 1 / plan.rate if plan.rate else 0.0
        """Seconds between two questions of a player; 0 where the answer brings on the next."""
        self.refused: dict[Target, str] = {}
        """Seats whose password was refused: nobody else tries it, lest the server lock everybody out."""


class Player:
    """See above. `arrive()` once, then `ask()` as often as wanted, then `leave()`."""

    def __init__(self, name: str, target: Target, company: Company) -> None:
        self.name = name
        self._target = target
        self._company = company
        self._plan = company.plan
        self._lively = company.plan.play is Play.LIVELY
        self._handshake = ClientHandshake(target.password)
        self._receive: Callable[[bytes | memoryview], None] = self._log_in
        self._send: Callable[[bytes], None]
        self._hang_up: Callable[[], None] | None = None
        self._arrived: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._script: Script | None = None  # there is one while it plays
        self._began = 0.0
        self._heard = self._seen = False
        self._asked = 0.0
        self._turn = 0

    async def arrive(self) -> None:
        """Connect and log in; ends when that is done, or has failed, which the report then says."""
        company, report, patience = self._company, self._company.report, self._plan.patience
        trouble = company.refused.get(self._target, "")
        self._began = _clock()
        try:
            if not trouble:
                async with asyncio.timeout(patience + 1):  # picows, which has `patience`, lets go of the connection
                    await self._connect()
                async with asyncio.timeout(patience):
                    trouble = await self._arrived
        except TimeoutError:
            if self._heard:
                what = "the desktop did not finish the login"
            else:
                what = "the site did not open the way" if self._hang_up is None else "no word from the desktop came"
            trouble = f"{what} within {patience:g} s"
        except (OSError, WSError, ValueError) as error:
            trouble = words.of_error(error)
        if trouble:
            report.failed.setdefault(trouble, []).append(self.name)
            self.leave()

    def ask(self) -> None:
        """Ask for the corner, unless the answer to the last time is still outstanding."""
        if self._script is None:
            return
        report = self._company.report
        if self._asked:
            report.late += self._seen or not self._lively  # before the first picture nobody asks for more
            return
        report.asked += 1
        questions = self._script.questions
        self._turn = (self._turn + 1) % len(questions)
        self._asked = _clock()
        self._tell(questions[self._turn])

    def waits(self, seconds: float) -> bool:
        """Whether it is logged in, and has been without the answer to its last question for so long."""
        return self._script is not None and bool(self._asked) and _clock() - self._asked > seconds

    def leave(self) -> None:
        """Hang up; what becomes of the connection after this is no drop."""
        if self._script is not None:
            self._script = None
            self._company.playing -= 1
        hang_up, self._hang_up = self._hang_up, None
        if hang_up is not None:
            hang_up()

    # ---- what the connection calls

    def connected(self, send: Callable[[bytes], None], hang_up: Callable[[], None]) -> None:
        """The way stands; `send` takes RFB's bytes, `hang_up` ends the connection."""
        self._send, self._hang_up = send, hang_up
        self._company.open += 1
        self._company.report.connecting.observe(_clock() - self._began)

    def receive(self, data: bytes | memoryview) -> None:
        """Take what the desktop sent."""
        self._company.report.bytes_down += len(data)
        try:
            self._receive(data)
        except ValueError as error:
            self._end(f"the desktop does not keep to RFB: {error}")

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        self._hang_up = None
        self._company.open -= 1
        self._end(reason)
        self._company.changed()

    # ---- the desktop

    def _tell(self, data: bytes) -> None:
        self._company.report.bytes_up += len(data)
        self._send(data)

    def _log_in(self, data: bytes | memoryview) -> None:
        if not self._heard:
            self._heard = True
            self._company.report.banner.observe(_clock() - self._began)
        handshake = self._handshake
        handshake.receive_data(bytes(data))
        if answer := handshake.data_to_send():
            self._tell(answer)
        if isinstance(handshake.result, ServerInit):
            self._begin(handshake.result, handshake.rest)
        elif isinstance(handshake.result, Refused):
            trouble = f"the desktop {handshake.result}"
            if handshake.result.kind is Refusal.WRONG_PASSWORD:
                self._company.refused[self._target] = trouble
            self._end(trouble)

    def _begin(self, desktop: ServerInit, rest: bytes) -> None:
        company = self._company
        company.report.login.observe(_clock() - self._began)
        company.report.connected += 1
        company.playing += 1
        self._arrived.set_result("")
        self._script = script(desktop.width, desktop.height, self._plan)
        self._receive = Updates(self._updated, self._plan.corner).feed
        self._tell(self._script.opening)
        if self._lively:
            self._asked = _clock()  # for the whole screen, with the opening
        self._receive(rest)

    def _updated(self, touched: bool) -> None:
        company = self._company
        company.report.updates += 1
        if not self._seen:
            self._seen = True
            company.report.picture.observe(_clock() - self._began)
            if self._lively:
                self._asked = 0.0
        if touched and self._asked:
            company.report.latency.observe_all(_clock() - self._asked, company.interval)
            self._asked = 0.0
        if self._script is not None and self._script.want:
            self._tell(self._script.want)

    def _end(self, reason: str) -> None:
        """However it ended, it is told once: as a drop, or to `arrive()`."""
        if self._script is not None:
            self._company.report.drops.setdefault(reason, []).append(self.name)
        elif not self._arrived.done():
            self._arrived.set_result(reason)
        self.leave()

    async def _connect(self) -> None:
        target = self._target
        parts = urlsplit(target.url)
        if parts.scheme == "tcp":
            loop = asyncio.get_running_loop()
            await aiofastnet.create_connection(loop, lambda: _Plain(self), parts.hostname, parts.port)
            return
        await ws_connect(
            lambda: _WebSocket(self),
            target.url,
            ssl_context=self._company.context,
            websocket_handshake_timeout=self._plan.patience,
            logger_name=_silent,
            extra_headers={"Origin": target.origin} if target.origin else None,
            max_redirects=0,  # browsers follow none here
            read_buffer_init_size=READ_BUFFER,
        )
        if self._hang_up is None and not self._arrived.done():  # picows calls that connected, too
            raise ConnectionResetError


class _WebSocket(WSListener):
    def __init__(self, player: Player) -> None:
        self._player = player
        self._said = ""

    def on_ws_connected(self, transport: WSTransport) -> None:
        def hang_up() -> None:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

        self._player.connected(functools.partial(transport.send, _BINARY), hang_up)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind in _DATA:
            self._player.receive(frame.get_payload_as_memoryview())
        elif kind == _CLOSE:
            said = printable((frame.get_close_message() or b"").decode("utf-8", "replace"), " ").strip()
            self._said = f"the gate said: {said}" if said else f"it was closed with code {frame.get_close_code()}"
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002
        self._player.lost(self._said or words.CUT)


class _Plain(asyncio.BufferedProtocol):
    def __init__(self, player: Player) -> None:
        self._player = player

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast("asyncio.Transport", transport)
        self._player.connected(plain.write, plain.abort)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return _shared_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._player.receive(_shared_buffer[:nbytes])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._player.lost(words.CUT)
