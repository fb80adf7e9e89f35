"""The gate's own login at a guarded account's desktop: what comes of it is a connection that a session goes on with.

VNC servers count whatever ends before it has authenticated (TigerVNC's blacklist: the fifth locks out everybody who
comes by the gate). So a desktop is connected to only once its browser has said all that it has to say, and whoever
has the password says that it is to be tried; and a login that was begun is finished, even when its browser has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from vncgate import rfb, tasks
from vncgate.dial import connect
from vncgate.engines.base import Limits, Login, Suspect
from vncgate.errors import DesktopError
from vncgate.model import Desktop, Readiness
from vncgate.rfb import Refusal


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A connection behind its login: reading is paused. `said` is ServerInit, as the desktop sent it."""

    transport: asyncio.Transport
    said: bytes


class Logins:
    """Those of one account, one after another: so that a wrong password is tried once, and not by a whole class at
    once, before it is known to be wrong.
    """

    def __init__(self, desktop: Desktop | None, answer: Login, suspect: Suspect, limits: Limits) -> None:
        self._desktop = desktop
        self._answer = answer
        self._suspect = suspect
        self._limits = limits
        self._turn = asyncio.Lock()
        self._under_way: set[asyncio.Task[LoggedIn]] = set()

    async def log_in(self) -> LoggedIn:
        """Log in. Raises DesktopError, with UNKNOWN where the desktop has no part in it.

        Cancelled, it leaves the login to come to its end, and hangs up.
        """
        task = tasks.spawn(self._in_turn(), f"log in to {self._desktop}", DesktopError)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_hang_up)
            raise

    async def idle(self) -> None:
        """Wait until none is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def aclose(self) -> None:
        """Break off what is under way."""
        await tasks.end(*self._under_way)

    async def _in_turn(self) -> LoggedIn:
        patience = self._limits.connect_timeout + self._limits.handshake_timeout
        try:
            async with asyncio.timeout(patience), self._turn:
                await self._answer(b"")
                return await self._log_in()
        except TimeoutError:
            raise DesktopError(f"desktop {self._desktop} is slow: others wait for it, too", Readiness.OFFLINE) from None

    async def _log_in(self) -> LoggedIn:
        limits = self._limits
        try:
            attempt = _Attempt()
            transport = await connect(self._desktop, lambda: attempt, limits.connect_timeout)
            try:
                async with asyncio.timeout(limits.handshake_timeout):
                    if challenge := await attempt.challenge():
                        attempt.answer(await self._answer(challenge))
                    await attempt.finish()
            except TimeoutError:
                reason = f"desktop {self._desktop} did not finish the login within {limits.handshake_timeout:g} s"
                transport.abort()
                raise DesktopError(reason, Readiness.OFFLINE) from None
            except BaseException:
                transport.abort()
                raise
            if isinstance(result := attempt.result, rfb.ServerInit):
                return LoggedIn(transport, attempt.said)
            transport.abort()
            wrong = result.kind is Refusal.WRONG_PASSWORD
            readiness = Readiness.WRONG_PASSWORD if wrong else Readiness.OFFLINE
            raise DesktopError(f"desktop {self._desktop} {result}", readiness)
        except DesktopError as error:
            if error.readiness is not Readiness.UNKNOWN:
                self._suspect(str(error), error.readiness)
            raise


class _Attempt(asyncio.Protocol):
    """Carries one handshake over one connection."""

    def __init__(self) -> None:
        self._handshake = rfb.ClientHandshake(None)
        self._news = asyncio.Event()

    @property
    def result(self) -> rfb.ServerInit | rfb.Refused:
        """How it ended; once it has ended."""
        assert self._handshake.result is not None  # noqa: S101
        return self._handshake.result

    @property
    def said(self) -> bytes:
        """What the browser is to hear of it, and whatever the desktop said since."""
        return self._handshake.server_init + self._handshake.rest

    async def challenge(self) -> bytes | None:
        """What the desktop asks; None where it asks nothing, or refused."""
        await self._until(lambda: self._handshake.challenge is not None)
        return self._handshake.challenge

    def answer(self, response: bytes) -> None:
        """Answer the challenge, if the desktop still waits for that."""
        if self._handshake.result is None:
            self._handshake.answer(response)
            self._transport.write(self._handshake.data_to_send())
            self._transport.resume_reading()

    async def finish(self) -> None:
        """Wait for the end."""
        await self._until(lambda: False)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while self._handshake.result is None and not condition():
            self._news.clear()
            await self._news.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        handshake = self._handshake
        handshake.receive_data(data)
        self._transport.write(handshake.data_to_send())
        if handshake.challenge is not None or handshake.result is not None:
            self._transport.pause_reading()  # it has nothing to say now, and later another one listens
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended, it ended
        self._handshake.receive_eof()
        self._news.set()


def _hang_up(task: asyncio.Task[LoggedIn]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().transport.close()
