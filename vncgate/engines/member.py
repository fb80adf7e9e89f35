"""One worker, as the master sees it: what it said last, what it was asked, and whether it lives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
from collections.abc import Collection
from typing import Protocol, TypeAlias

from vncgate.channel import Channel
from vncgate.engines.base import Admissions
from vncgate.errors import DesktopError
from vncgate.messages import (
    Admitted,
    Answer,
    Challenge,
    Close,
    Closed,
    Failed,
    Holds,
    Leave,
    Left,
    Message,
    Open,
    Opened,
    Ready,
    Report,
    Suspect,
    admits,
    route_from_json,
    route_to_json,
)
from vncgate.model import Readiness, Route, Traffic
from vncgate.tally import Tally

log = logging.getLogger(__name__)

LONGEST_DELAY = 3600.0
"""Seconds that a browser may take to answer a ping, as far as anybody believes it."""
_NOTHING = Traffic()
_tickets = itertools.count(1)


Reply: TypeAlias = Opened | Failed | Closed | Left | Admitted | None
"""None: it ended before it gave one."""


class Events(Protocol):
    """What a member tells of unasked."""

    def reported(self, names: Collection[str]) -> None:
        """It reported; browsers of these accounts came or went."""

    def suspects(self, name: str, reason: str, readiness: Readiness) -> None:
        """The desktop of an account could not be connected to, or refused the password."""

    def asks(self, member: Member, challenge: Challenge) -> None:
        """A desktop is to be logged in to; the member waits for the Answer."""


class Member:
    """A worker at the other end of `sock`. Process `pid` (0: not known yet)."""

    def __init__(self, sock: socket.socket, events: Events, pid: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self.version = ""
        self.since = 0.0
        self.connections = 0
        """As of its last report, which may have been its last word."""
        self.traffic: dict[str, Traffic] = {}
        self.tally = Tally()
        self.routes: dict[str, Route] = {}
        """What it held when it was adopted."""
        self.ready: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.heard = loop.time()
        """When it last said anything, on the loop's clock."""
        self.resting = True
        self.own_ports = 0
        self.told: dict[str, int] = {}
        """The connections elsewhere that it knows of."""
        self.channel = Channel(sock, self._receive, self.end)
        self._events = events
        self._asked: dict[int, asyncio.Future[Reply]] = {}

    def open(self, route: Route, listener: socket.socket | None) -> asyncio.Future[Reply]:
        """Ask it to serve an account; the answer is None when it ends before it gave one."""
        ticket, answer = self._ask()
        self.channel.send(Open(ticket, route_to_json(route), listens=listener is not None), listener)
        return answer

    def close(self, name: str, code: int, reason: str) -> asyncio.Future[Reply]:
        """Ask it to end an account; see `open()` for the answer."""
        ticket, answer = self._ask()
        self.channel.send(Close(ticket, name, code, reason))
        answer.add_done_callback(lambda _: self.traffic.pop(name, None))
        return answer

    def leave(self) -> asyncio.Future[Reply]:
        """Have it accept nothing more; see `open()` for the answer."""
        ticket, answer = self._ask()
        self.channel.send(Leave(ticket))
        return answer

    def admit(self, admissions: Admissions) -> asyncio.Future[Reply]:
        """Tell it who may open guarded accounts; see `open()` for the answer."""
        ticket, answer = self._ask()
        for message in admits(ticket, admissions):
            self.channel.send(message)
        return answer

    def answer(self, ticket: int, response: bytes | DesktopError) -> None:
        """What it is to say to a desktop's challenge, or why it is to leave that desktop alone."""
        if isinstance(response, DesktopError):
            is_refused = response.readiness is Readiness.WRONG_PASSWORD
            self.channel.send(Answer(ticket, "", str(response), is_refused))
        else:
            self.channel.send(Answer(ticket, response.hex()))

    def kill(self) -> None:
        """End it at once: it hangs, or does not end as it should."""
        if self.pid and not self.gone.done():  # while the channel stands the process is there, and the number its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.channel.close()
        self.end()

    def end(self) -> None:
        """Nothing more will come from it."""
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(None)
        self._asked.clear()
        if not self.gone.done():
            self.gone.set_result(None)

    def _ask(self) -> tuple[int, asyncio.Future[Reply]]:
        ticket = next(_tickets)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self.gone.done():
            answer.set_result(None)
        else:
            self._asked[ticket] = answer
        return ticket, answer

    def _receive(self, message: Message, beside: socket.socket | None) -> None:
        if beside is not None:  # no worker has one to give
            beside.close()
        self.heard = asyncio.get_running_loop().time()
        try:
            self._follow(message)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            # Workers read what strangers send. One that makes no sense any more is not worked with.
            log.error("worker %d says what makes no sense, and is ended: %s", self.pid, error)
            self.kill()

    def _follow(self, message: Message) -> None:
        match message:
            case Ready():
                self.pid, self.version, self.since = int(message.pid), str(message.version), float(message.since)
                if not self.ready.done():
                    self.ready.set_result(None)
            case Opened() | Failed() | Closed() | Left() | Admitted():
                answer = self._asked.pop(message.ticket, None)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case Holds():
                self.routes.update((body["name"], route_from_json(body)) for body in message.routes)
            case Report():
                self._take(message)
            case Suspect():
                readiness = Readiness.WRONG_PASSWORD if message.is_refused else Readiness.OFFLINE
                self._events.suspects(message.name, message.reason, readiness)
            case Challenge():
                bytes.fromhex(message.challenge)
                self._events.asks(self, message)

    def _take(self, report: Report) -> None:
        self.connections = int(report.connections)
        moved = []
        for name, (connections, up, down) in report.traffic.items():
            before = self.traffic.get(name, _NOTHING)
            used = min(self.heard, float(report.used.get(name, before.used)))  # never in the future, and so for good
            delay = float(report.delay.get(name, 0.0))
            delay = delay if 0.0 <= delay < LONGEST_DELAY else 0.0  # neither is what is no number
            now = self.traffic[name] = Traffic(int(connections), int(up or 0), int(down or 0), used, delay)
            if now.connections != before.connections:
                moved.append(name)
        if report.tally is not None:
            self.tally = Tally.from_json(report.tally)
        self._events.reported(moved)
