"""A worker process: the relay on a loop of its own, told by the master what to serve and reporting what passes.

It has listening sockets and connections, no roster, no passwords, no pages. When the master dies it accepts nothing
more, so that the next one can bind the ports, and keeps its desktops until they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import itertools
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import uvloop

from vncgate import __version__, log, tasks
from vncgate.channel import Channel
from vncgate.engines.base import GOING_AWAY, Limits
from vncgate.engines.relay import Relay
from vncgate.engines.relay_proxy import RelayProxy
from vncgate.errors import DesktopError, ProxyError
from vncgate.listeners import raise_descriptor_limit
from vncgate.messages import (
    MOST_ACCOUNTS,
    MOST_ROUTES,
    Admit,
    Admitted,
    Adopt,
    Answer,
    Begin,
    Challenge,
    Close,
    Closed,
    Drain,
    Elsewhere,
    Failed,
    Holds,
    Leave,
    Left,
    Message,
    Open,
    Opened,
    Ready,
    Report,
    Rest,
    Stop,
    Suspect,
    admissions_from,
    route_from_json,
    route_to_json,
)
from vncgate.model import Readiness, Route, Traffic
from vncgate.tally import Tally

logger = logging.getLogger(__name__)

HEARTBEAT = 1.0
"""Seconds between two reports of a worker that lives."""
_NOTHING = Traffic()
RENEWED = "the gate is being renewed: connect again"
"""What a browser is told that cannot be logged in, because the master is gone or has no time."""
TABLE_SIZE = 4095
"""Descriptors that the process's table has room for from the start; a desktop in use takes two."""
PROMPT = 0.02
"""Seconds after which a browser's coming or going is reported: many come at once."""
MOVED = 4
"""Connections, beside an eighth of those reported, by which the number may change until it is reported at once: before
the master knows, it cannot leave newcomers to the others.
"""


class Worker:
    """What the process does. `run()` ends when it has nothing left to do."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock, self._receive, self._orphaned)
        self._ready = Ready(os.getpid(), __version__, time.time())
        self._relay: Relay | None = None
        self._shared: socket.socket | None = None
        self._drain_timeout = 0.0
        self._proxies: dict[str, RelayProxy] = {}
        self._routes: dict[str, Route] = {}
        self._reported: dict[str, Traffic] = {}
        self._reported_in_all = 0
        self._elsewhere: dict[str, int] = {}
        self._admits: list[Admit] = []
        self._tickets = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._is_orphan = False
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._draining: asyncio.Task[None] | None = None
        self._prompt: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._farewell = (GOING_AWAY, "the gate is being stopped")

    async def run(self) -> None:
        """Serve until told to stop, or until the last desktop of a worker that drains."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._ended.set)
        self._channel.send(self._ready)
        heartbeat = tasks.spawn(self._beat(), "heartbeat")
        try:
            await self._ended.wait()
        finally:
            await tasks.end(heartbeat, *filter(None, [self._draining]))
            if self._prompt is not None:
                self._prompt.cancel()
            await asyncio.gather(*(proxy.close(*self._farewell) for proxy in self._proxies.values()))
            if self._relay is not None:
                await self._relay.aclose()
            await tasks.end(*self._turns.values())
            self._report_all()
            self._channel.close()

    def _receive(self, message: Message, beside: socket.socket | None) -> None:
        match message:
            case Begin():
                self._relay = self._begin(message)
                self._in_turn("", self._start(self._relay, beside))
            case Rest():
                self._in_turn("", self._rest(message.on, list(self._turns.values())))
            case Leave():
                self._in_turn("", self._leave(message, list(self._turns.values())))
            case Adopt():
                self._tell_all()
            case Drain():
                self._drain(message.timeout)
            case Stop():
                self._farewell = (message.code, message.reason)
                self._ended.set()
            case _:
                self._serve(message, beside)

    def _serve(self, message: Message, beside: socket.socket | None) -> None:
        """Follow a message that is about accounts."""
        match message:
            case Open():
                route = route_from_json(message.route)
                self._in_turn(route.name, self._open(message, route, beside))
            case Close():
                self._elsewhere.pop(message.name, None)
                self._in_turn(message.name, self._close(message))
            case Elsewhere():
                self._elsewhere.update(message.connections)  # also for accounts whose Open has not had its turn
                for name in message.connections:
                    self._tell_of_elsewhere(name)
            case Admit():
                self._admit(message)
            case Answer():
                if (answer := self._asked.get(message.ticket)) and not answer.done():
                    answer.set_result(message)

    def _in_turn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` after what is under way for the same account (the shared port is the account without a name)."""
        before = self._turns.get(name)

        async def wait_and_work() -> None:
            if before is not None:
                await asyncio.wait([before])
            await work

        task = tasks.spawn(wait_and_work(), f"message {name}")
        self._turns[name] = task
        task.add_done_callback(lambda done: self._turns.pop(name) if self._turns.get(name) is done else None)

    def _begin(self, message: Begin) -> Relay:
        logging.getLogger(log.OURS).setLevel(message.log_level.upper())
        self._drain_timeout = message.drain_timeout
        known = {field.name for field in dataclasses.fields(Limits)}
        limits: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in message.limits.items()
            if name in known
        }
        relay = Relay(Limits(**limits))
        relay.on_change = self._report_soon
        return relay

    async def _start(self, relay: Relay, shared: socket.socket | None) -> None:
        self._shared = shared
        await relay.start(shared)

    async def _open(self, message: Open, route: Route, listener: socket.socket | None) -> None:
        try:
            if self._relay is None:
                raise ProxyError("a worker could not begin; the log says why")
            if message.listens and listener is None:
                raise ProxyError(f"port {route.port} cannot be served: a worker has no file descriptors left")
            if listener is not None and self._routes.get(route.name) == route:  # the worker that listened is gone
                await self._relay.listen(self._proxies[route.name], listener)
                self._channel.send(Opened(message.ticket))
                return
            suspect = functools.partial(self._suspect, route.name)
            log_in = functools.partial(self._log_in, route.name)
            self._proxies[route.name] = await self._relay.open(route, listener, suspect, log_in)
            self._routes[route.name] = route
            self._tell_of_elsewhere(route.name)
            self._channel.send(Opened(message.ticket))
        except (ProxyError, OSError) as error:
            self._channel.send(Failed(message.ticket, str(error)))
        finally:
            if listener is not None:
                listener.close()

    async def _close(self, message: Close) -> None:
        self._routes.pop(message.name, None)
        if proxy := self._proxies.pop(message.name, None):
            await proxy.close(message.code, message.reason)
            self._reported.pop(message.name, None)
        self._channel.send(Closed(message.ticket))

    def _admit(self, message: Admit) -> None:
        """Follow it out of turn: an account that is opened next accepts by it."""
        self._admits.append(message)
        if not message.more:
            if self._relay is not None:
                self._relay.let_in(admissions_from(self._admits))
            self._admits.clear()
            self._channel.send(Admitted(message.ticket))

    async def _log_in(self, name: str, challenge: bytes) -> bytes:
        """See engines.base.Login: the master has the password."""
        assert self._relay is not None  # noqa: S101
        ticket = next(self._tickets)
        asked = self._asked[ticket] = asyncio.get_running_loop().create_future()
        if self._is_orphan:
            asked.set_result(Answer(ticket, "", RENEWED))
        self._channel.send(Challenge(ticket, name, challenge.hex()))
        try:
            async with asyncio.timeout(self._relay.limits.handshake_timeout):
                answer = await asked
        except TimeoutError:
            raise DesktopError(RENEWED, Readiness.UNKNOWN) from None
        finally:
            del self._asked[ticket]
        if answer.objection:
            raise DesktopError(answer.objection, Readiness.WRONG_PASSWORD if answer.is_refused else Readiness.UNKNOWN)
        return bytes.fromhex(answer.response)

    def _tell_of_elsewhere(self, name: str) -> None:
        if proxy := self._proxies.get(name):
            proxy.elsewhere = self._elsewhere.get(name, 0)

    def _suspect(self, name: str, reason: str, readiness: Readiness = Readiness.OFFLINE) -> None:
        is_refused = readiness is Readiness.WRONG_PASSWORD
        # Where nobody listens now, the next browser will find the same; but a wrong password is not tried at will.
        if is_refused or not self._channel.is_behind:
            self._channel.send(Suspect(name, reason, is_refused))

    async def _rest(self, on: bool, opens: Sequence[asyncio.Task[None]]) -> None:
        if opens and not on:
            await asyncio.wait(opens)
        if self._relay is not None and self._draining is None:
            await self._relay.share(on=not on)

    async def _leave(self, message: Leave, opens: Sequence[asyncio.Task[None]]) -> None:
        if opens:  # an account that is being opened would go on to accept
            await asyncio.wait(opens)
        if self._relay is not None:
            await self._relay.rest(on=True)
        self._channel.send(Left(message.ticket))

    def _tell_all(self) -> None:
        routes = [route_to_json(route) for route in self._routes.values()]
        for start in range(0, len(routes), MOST_ROUTES):
            self._channel.send(Holds(routes[start : start + MOST_ROUTES]))
        self._reported.clear()
        self._report(self._proxies.values())
        self._channel.send(self._ready)

    def _orphaned(self) -> None:
        self._is_orphan = True
        for ticket, asked in self._asked.items():
            if not asked.done():
                asked.set_result(Answer(ticket, "", RENEWED))
        logger.warning("the master is gone; %d desktops are kept until they end", self._connections())
        self._drain(self._drain_timeout)

    def _drain(self, timeout: float) -> None:
        if self._draining is None:
            self._draining = tasks.spawn(self._drained(timeout), "drain")

    async def _drained(self, timeout: float) -> None:
        if self._relay is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout or None):
                    if self._turns:  # an account that is being opened would go on to accept
                        await asyncio.wait(self._turns.values())
                    await self._relay.share(on=False)
                    if self._shared is not None:
                        self._shared.close()  # so that whoever comes next may bind the port
                    await self._relay.drain()
            if left := self._connections():
                logger.warning("%d desktops are still in use after %g s and are ended", left, timeout)
                self._farewell = (GOING_AWAY, "the gate was renewed: connect again")
        self._ended.set()

    def _connections(self) -> int:
        return self._relay.connections if self._relay else 0

    async def _beat(self) -> None:
        while True:
            self._report_all()
            await asyncio.sleep(HEARTBEAT)

    def _report_soon(self) -> None:
        if abs(self._connections() - self._reported_in_all) >= MOVED + self._reported_in_all // 8:
            if self._prompt is not None:
                self._prompt.cancel()
            self._report_moved()
        elif self._prompt is None:
            self._prompt = asyncio.get_running_loop().call_later(PROMPT, self._report_moved)

    def _report_moved(self) -> None:
        """Tell of the accounts whose browsers came or went, and of no others: they may be thousands."""
        self._prompt = None
        if self._relay is not None and not self._channel.is_behind:  # else it is told a second later
            self._report(self._relay.moved)
            self._relay.moved.clear()

    def _report_all(self) -> None:
        """Tell of all accounts in use, and of what was counted; every second, whether or not there is news."""
        if self._channel.is_behind:
            return  # nobody listens now, and all of it is news later, too
        if self._relay is None:
            self._channel.send(Report(0, {}))
            return
        self._report(self._relay.moved | self._relay.busy, self._relay.tally())
        self._relay.moved.clear()

    def _report(self, proxies: Iterable[RelayProxy], tally: Tally | None = None) -> None:
        self._reported_in_all = self._connections()
        changed: dict[str, tuple[int, int | None, int | None]] = {}
        used: dict[str, float] = {}
        delay: dict[str, float] = {}
        for proxy in proxies:
            now = proxy.traffic()
            if now != self._reported.get(proxy.name, _NOTHING):
                self._reported[proxy.name] = now
                changed[proxy.name] = (now.connections, now.bytes_up, now.bytes_down)
                if now.used:
                    used[proxy.name] = now.used
                if now.delay:
                    delay[proxy.name] = now.delay
                if len(changed) == MOST_ACCOUNTS:
                    self._channel.send(Report(self._connections(), changed, None, used, delay))
                    changed, used, delay = {}, {}, {}
        self._channel.send(Report(self._connections(), changed, tally.to_json() if tally else None, used, delay))


def main(sock: socket.socket) -> None:
    """Be a worker on its end of the channel, in a process that has nothing else."""
    raise_descriptor_limit()
    with contextlib.suppress(OSError):
        # Grown once, while there is one thread: later the kernel waits some ms for each doubling (expand_fdtable()).
        os.close(fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, TABLE_SIZE))

    async def work() -> None:
        await Worker(sock).run()

    with (
        contextlib.closing(log.setup("info", os.environ)),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(work())
