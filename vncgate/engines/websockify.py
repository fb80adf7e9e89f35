"""The engine `websockify`: one websockify process an account, as the HPC wiki's guide has it.

The process takes the account's listening socket on its stdin (`--inetd`); the socket stays the daemon's. It forks for
each connection. What it cannot do, and `relay` can:

- an account needs a websocketport of its own, and the path that a browser asks for is not looked at;
- it knows the address that connected, Apache's, and not the browser's behind it; it does not check the Origin;
- when it ends, its connections end with it at once, without a close code: browsers see 1006 (RFC 6455, section 7.1.5);
- whoever connects has a process and counts as connected, from before the handshake on;
- it does not count bytes, and waits for a desktop that does not answer as long as the kernel does;
- it lets in whoever comes: guarded accounts need the other engine;
- it cannot tell when somebody used a desktop: `idle_timeout` needs the other engine;
- the limits of connections, handshakes, headers, frames and buffers are not its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

from vncgate.engines.base import Admissions, Limits, Login, Suspect, no_login
from vncgate.errors import ProxyError
from vncgate.model import Desktop, Route, Traffic
from vncgate.process import Process, describe_exit, inherited, spawn
from vncgate.tally import Tally

START_TIMEOUT = 10.0
"""Seconds from the start of a process until it serves; it takes 0.2, and longer when many start at once."""
STOP_GRACE = 2.0
"""Seconds that a process has to end its connections."""

# websockify's own command line after three repairs. Its server object cannot be pickled, so from Python 3.14 on, where
# fork is no longer the default, its multiprocessing must be told to; it takes every socket for an IPv4 one, which fills
# the addresses of IPv6 clients with garbage; and it waits for the end of a handshake for ever, so an alarm ends the
# process that waits.
_PROGRAM = """
import multiprocessing, os, signal, socket
from websockify.websocketproxy import ProxyRequestHandler as Handler, websockify_init
def begin(self, real=Handler.setup):
    signal.setitimer(signal.ITIMER_REAL, {handshake_timeout})
    real(self)
def proceed(self, real=Handler.new_websocket_client):
    signal.setitimer(signal.ITIMER_REAL, 0)
    real(self)
Handler.setup, Handler.new_websocket_client = begin, proceed
multiprocessing.set_start_method("fork")
socket.fromfd = lambda fd, family, kind: socket.socket(fileno=os.dup(fd))
websockify_init()
"""
_SERVES = "  - proxying from inetd to "
_EVENT = re.compile(r"(?P<client>\S*) - - \[[^]]*\] (?P<text>.*)")
_FAILED = re.compile(r"Failed to connect to .*?: (?:\[Errno -?\d+\] )?(?P<why>.*)")
_REFUSED = re.compile(r"code (?P<code>\d{3}), message ")
_FROM_A_REQUEST = re.compile(r"""["'/?].*""")

log = logging.getLogger(__name__)


class Websockify:
    """The engine. It holds nothing itself."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def start(self, shared: socket.socket | None) -> None:
        """See Engine.start. A process has an account of its own, so there is nothing to share."""

    async def rest(self, *, on: bool) -> None:
        """See Engine.rest: there is no shared port."""

    async def open(
        self,
        route: Route,
        listener: socket.socket | None,
        suspect: Suspect,
        login: Login = no_login,  # noqa: ARG002
    ) -> WebsockifyProxy:
        """See Engine.open. The proxy serves when this returns."""
        if route.guarded:
            raise ProxyError(
                f'account {route.name}: engine websockify lets anybody in; `access = "seat"` needs engine relay'
            )
        if listener is None:
            raise ProxyError(
                f"account {route.name}: engine websockify needs a websocketport of its own; "
                "give one in the token file, or use engine relay"
            )
        if route.desktop is None:
            raise ProxyError(f"account {route.name}: no desktop: the token file leaves it to a launcher ('-')")
        translator = Translator(route.name, route.desktop, suspect)
        heartbeat = max(1, round(self._limits.ping_interval))
        program = _PROGRAM.format(handshake_timeout=self._limits.handshake_timeout)
        desktop = route.desktop
        target = f"--unix-target={desktop.unix}" if desktop.unix else str(desktop)
        try:
            process = await spawn(
                [sys.executable, "-I", "-c", program, "--inetd", "--verbose", f"--heartbeat={heartbeat}", target],
                name=f"websockify of account {route.name}",
                log=translator,
                stdin=listener.fileno(),
                env={**inherited(os.environ), "LC_ALL": "C.UTF-8"},  # its errors, which we read, in English
                cwd=Path("/"),  # it speaks TLS where it finds a self.pem
            )
        except OSError as error:
            raise ProxyError(f"account {route.name}: websockify cannot be started: {error}") from None
        try:
            waited_for: list[asyncio.Future[Any]] = [process.exited, translator.serves]
            await asyncio.wait(waited_for, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await process.stop(0)
            raise
        if process.exited.done():
            ended = describe_exit(process.exited.result())
            raise ProxyError(f"account {route.name}: websockify {ended}: {translator.last_line}")
        if not translator.serves.done():
            await process.stop(0)
            raise ProxyError(f"account {route.name}: websockify did not serve within {START_TIMEOUT:g} s")
        return WebsockifyProxy(process)

    async def admit(self, admissions: Admissions) -> None:
        """See Engine.admit: there are no guarded accounts here."""

    def tally(self) -> Tally:
        """See Engine.tally. The processes keep no count."""
        return Tally()

    async def aclose(self) -> None:
        """See Engine.aclose: nothing is held."""


class WebsockifyProxy:
    """One account's running process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._died: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        process.exited.add_done_callback(self._ended)
        self._closing = False

    @property
    def died(self) -> asyncio.Future[str]:
        """See Proxy.died."""
        return self._died

    def _ended(self, exited: asyncio.Future[int]) -> None:
        if not self._closing and not self._died.done():
            self._died.set_result(f"websockify {describe_exit(exited.result())}")

    def traffic(self) -> Traffic:
        """See Proxy.traffic: each connection is a child of the process (proc_pid_task(5), `children`)."""
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        except OSError:  # it has just ended
            children = []
        return Traffic(len(children), None, None)

    async def close(self, code: int, reason: str) -> None:  # noqa: ARG002
        """See Proxy.close. websockify drops its connections without a close frame: code and reason are lost."""
        self._closing = True
        await self._process.stop(STOP_GRACE)


class Translator:
    """Makes of websockify's lines the events of our log, without a path, which may carry what is secret."""

    def __init__(self, account: str, desktop: Desktop, suspect: Suspect) -> None:
        self.serves: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_line = ""
        self._account = account
        self._desktop = desktop
        self._suspect = suspect

    def __call__(self, line: str) -> None:
        """Take a line of its output."""
        if line.startswith(_SERVES) and not self.serves.done():
            self.serves.set_result(None)
        elif event := _EVENT.fullmatch(line):
            self._event(event["client"], event["text"])
        elif line:
            self.last_line = line
            self._log(logging.DEBUG, f"websockify: {_FROM_A_REQUEST.sub('…', line)}")

    def _event(self, client: str, text: str) -> None:
        if text.endswith(" WebSocket connection"):
            self._log(logging.INFO, f"connection to {self._desktop}", client)
        elif failed := _FAILED.fullmatch(text):
            why = failed["why"].lower()
            words = "refused the connection" if why == "connection refused" else f"cannot be reached: {why}"
            self._log(logging.WARNING, f"desktop {self._desktop} {words}", client)
            self._suspect(f"desktop {self._desktop} {words}")
        elif text.endswith(": Client closed connection"):
            self._log(logging.INFO, "the browser closed the connection", client)
        elif text.endswith(": Target closed connection"):
            self._log(logging.INFO, f"desktop {self._desktop} closed the connection", client)
        elif refused := _REFUSED.match(text):
            self._log(logging.INFO, f"refused a request that is no websocket ({refused['code']})", client)
        else:
            self._log(logging.DEBUG, f"websockify: {_FROM_A_REQUEST.sub('…', text)}", client)

    def _log(self, level: int, message: str, client: str = "") -> None:
        log.log(level, "%s", message, extra={"account": self._account, "client": client})
