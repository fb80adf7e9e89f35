"""Connections to hosts by ssh, and commands that go through them.

There is one connection for each host and user: kept alive, made anew when it was lost, closed when idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shlex
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from vncgate import process, tasks
from vncgate.dial import why_not
from vncgate.errors import LaunchError, SilentError
from vncgate.kinds import SshLogin
from vncgate.launchers.base import Whom
from vncgate.text import printable

LOGIN_TIMEOUT = 15.0
"""Seconds that a host has to accept a connection, and as many for the login."""
KEEPALIVE = 15
"""Seconds of silence after which a host is asked whether it is there; with the third without an answer it is lost."""
OPEN_TIMEOUT = 15.0
"""Seconds that a host has to start a command."""
OPEN_ATTEMPTS = 20
"""How often a session is asked for where sshd has too many already."""
OPEN_PAUSE = 0.1
"""Seconds between two of these."""
SESSIONS_AT_ONCE = 8
"""Commands of a connection at the same time: sshd's MaxSessions is 10."""
REST = 5.0
"""Seconds after a failed login before the next one."""
LOGINS_AT_ONCE = 4
"""Logins to a host at the same time: sshd turns some away from the 10th on (MaxStartups 10:30:100)."""
IDLE_TIMEOUT = 120.0
"""Seconds after which a connection that nobody uses is closed; a desktop that runs is looked at more often."""

PIECE = 65536
"""Bytes that are read at a time."""

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it tells of every channel


class Rest:
    """After a failed login, the next one is not made before REST is over."""

    def __init__(self) -> None:
        self._error = LaunchError()
        self._until = 0.0

    def begin(self, error: LaunchError) -> None:
        """It failed now."""
        self._error, self._until = error, asyncio.get_running_loop().time() + REST

    def check(self) -> None:
        """While it lasts, raise what it failed with."""
        if asyncio.get_running_loop().time() < self._until:
            raise type(self._error)(str(self._error))


@dataclass(frozen=True, slots=True)
class Door:
    """What all connections to a host share: how many log in at a time, and the rest after it could not be reached."""

    logins: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOGINS_AT_ONCE))
    rest: Rest = field(default_factory=Rest)


class Line:
    """The one connection to a host as a user: made when it is needed, and again when it was lost.

    It is closed some time after the last of those who `hold()` it has called `release()`.
    """

    def __init__(self, settings: SshLogin, whom: Whom, door: Door | None = None) -> None:
        self._settings = settings
        self._host, self._user = whom
        self._door = door or Door()
        # Named in any case: "UserKnownHostsFile none" in a user's configuration would have every key accepted.
        self._known = settings.known_hosts or Path("~/.ssh/known_hosts").expanduser()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._connecting: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._rest = Rest()
        self._turns = asyncio.Semaphore(SESSIONS_AT_ONCE)
        self._holders = 0
        self._idle: asyncio.TimerHandle | None = None

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The connection, as it stands or made now. Raises LaunchError, at once when that was tried a moment ago, and
        SilentError where nobody answers.
        """
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._connecting is None:
            self._check_rests()
            self._connecting = tasks.spawn(self._connect(), f"ssh to {self._host}", expected=LaunchError)
        return await asyncio.shield(self._connecting)

    @contextlib.asynccontextmanager
    async def session(
        self, command: str, *, tidies_up: bool = False, **more: Any
    ) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        """A command that the host runs, with `more` arguments of asyncssh's create_process(); at the end of the block
        it is let go of, and where it still runs, killed with what it started (RFC 4254 6.9; OpenSSH does that from 7.9
        on, not for root, nor where a key or a Match block forces a command). One that `tidies_up` at the end of its
        input is left to do that. Raises LaunchError where it is not started, SilentError where nobody said no.
        """
        with self.in_use():
            async with self._turns:
                running = await self._open(await self.connection(), command, more)
                try:
                    yield running
                finally:
                    if (
                        running.returncode is None and not tidies_up
                    ):  # it hangs, maybe in a start-up file of its user's shell
                        with contextlib.suppress(OSError):  # the channel is closed
                            running.kill()
                    running.close()

    async def _open(
        self, connection: asyncssh.SSHClientConnection, command: str, more: Mapping[str, Any]
    ) -> asyncssh.SSHClientProcess[bytes]:
        left = OPEN_ATTEMPTS
        while True:
            left -= 1
            try:
                async with asyncio.timeout(OPEN_TIMEOUT):
                    return await connection.create_process(command, encoding=None, **more)
            except asyncssh.ChannelOpenError as error:
                if connection.is_closed():
                    raise SilentError(f"the connection to {self._host} was lost") from None
                # sshd counts a session for a moment after its end.
                if not left:
                    raise LaunchError(f"{self._host} starts no session: {printable(error.reason)}") from None
                await asyncio.sleep(OPEN_PAUSE)
            except (TimeoutError, asyncssh.Error, OSError) as error:
                raise SilentError(
                    f"{self._host} starts no session: {printable(str(error)) or 'it does not answer'}"
                ) from None

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold it for a while."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def hold(self) -> None:
        """It is needed."""
        self._holders += 1
        self._keep()

    def release(self) -> None:
        """It is needed no more by one of those who do."""
        self._holders -= 1
        if not self._holders:
            self._keep()
            self._idle = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._hang_up)

    def _keep(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def aclose(self) -> None:
        """Hang up."""
        self._keep()
        if self._connecting is not None:
            await tasks.end(self._connecting)
        if self._connection is not None:
            self._connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._connection.wait_closed()

    def _check_rests(self) -> None:
        self._door.rest.check()
        self._rest.check()

    async def _connect(self) -> asyncssh.SSHClientConnection:
        try:
            async with self._door.logins:
                self._check_rests()  # somebody before us may have found nobody there
                self._connection = await self._log_in()
        finally:
            self._connecting = None
        return self._connection

    async def _log_in(self) -> asyncssh.SSHClientConnection:
        settings = self._settings
        try:
            return await asyncssh.connect(
                self._host,
                settings.port,
                username=self._user or (),
                client_keys=[str(settings.key)] if settings.key else (),
                preferred_auth="publickey",
                known_hosts=str(self._known) if self._known.is_file() else b"",
                connect_timeout=LOGIN_TIMEOUT,
                login_timeout=LOGIN_TIMEOUT,
                keepalive_interval=KEEPALIVE,
                keepalive_count_max=3,
            )
        except (asyncssh.Error, asyncssh.KeyImportError, OSError, ValueError) as error:
            is_file = isinstance(error, OSError) and error.filename is not None  # of ours, so nobody was asked
            is_silent = isinstance(error, OSError | asyncssh.ConnectionLost) and not is_file
            failure = (SilentError if is_silent else LaunchError)(self._why(error))
            (self._door.rest if is_silent else self._rest).begin(failure)
            raise failure from None

    def _why(self, error: Exception) -> str:
        """Why there is no connection, in words."""
        host, known = self._host, self._known
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            port = self._settings.port
            if known.is_file() and any(asyncssh.match_known_hosts(str(known), host, "", port)[:2]):
                return (
                    f"{host} has another key than the one in {known}: somebody may be in between. Where the host was "
                    f"set up anew, remove the old key from that file, and add the new one"
                )
            return (
                f"the key of {host} is not in {known}: add it, as `ssh-keyscan -p {port} {host}` tells it, "
                f"after comparing it with the host's own"
            )
        if isinstance(error, asyncssh.PermissionDenied):
            user = f" as {self._user}" if self._user else ""
            return (
                f"{host} refuses the login{user}: is there such a user, and the public key in the authorized_keys? "
                f"({printable(error.reason)})"
            )
        if isinstance(error, TimeoutError):
            return f"{host} did not answer within {LOGIN_TIMEOUT:g} s"
        if isinstance(error, FileNotFoundError) and error.filename:
            return f"there is no key file {error.filename}: mend the place's `key`, or put it there"
        if isinstance(error, OSError) and error.filename:
            return f"{error.filename} cannot be read: {error.strerror}"
        if isinstance(error, OSError | UnicodeError):
            return f"no ssh connection to {host} port {self._settings.port}: it {why_not(error)}"
        return f"no ssh connection to {host}: {printable(str(error))}"


class Lines:
    """The connections of one place, or of whoever else asks several hosts."""

    def __init__(self, settings: SshLogin) -> None:
        self._settings = settings
        self._lines: dict[Whom, Line] = {}
        self._doors: defaultdict[str, Door] = defaultdict(Door)

    def line(self, whom: Whom) -> Line:
        """The connection to a host as a user; to be held as long as it is in use."""
        if whom not in self._lines:
            self._lines[whom] = Line(self._settings, whom, self._doors[whom[0]])
        return self._lines[whom]

    async def run(
        self, whom: Whom, argv: Sequence[str], *, timeout: float, stdin: str, env: Mapping[str, str]
    ) -> process.Result:
        """Run a command there, as `process.run()` does here, and with what it raises; `env` is beside PATH and who one
        is there. Raises LaunchError where there is no connection.

        A command that does not end in time, or whose connection is lost (ConnectionError), may have done its work.
        """
        own = ' PATH="$PATH" HOME="$HOME" USER="$USER" LOGNAME="$LOGNAME" '
        given = shlex.join([*(f"{name}={value}" for name, value in env.items()), *argv])
        # A user's shell may be any: it sees one quoted word.
        program = f"exec /bin/sh -c {shlex.quote('exec env -i' + own + given)}"
        async with self.line(whom).session(program) as running:
            try:
                async with asyncio.timeout(timeout):
                    return await _result(running, stdin)
            except asyncssh.Error as error:
                words = f"the connection to {whom[0]} was lost: {printable(str(error))}"
                raise ConnectionResetError(errno.ECONNRESET, words) from None

    async def aclose(self) -> None:
        """Hang up; what runs stays."""
        await asyncio.gather(*(line.aclose() for line in self._lines.values()))


async def _result(running: asyncssh.SSHClientProcess[bytes], stdin: str) -> process.Result:
    with contextlib.suppress(BrokenPipeError):  # it has ended already
        running.stdin.write(stdin.encode(errors="surrogateescape"))
        running.stdin.write_eof()
    out, err = await asyncio.gather(_all_of(running.stdout), _all_of(running.stderr))
    await running.wait_closed()
    if running.returncode is None:
        raise asyncssh.ConnectionLost("it ended in the middle of a command")
    return process.Result(running.returncode, out, err)


async def _all_of(output: asyncssh.SSHReader[bytes]) -> str:
    data = bytearray()
    while piece := await output.read(PIECE):
        data += piece
        if len(data) > process.LONGEST_OUTPUT:
            raise OSError(errno.EFBIG, f"it answers with more than {process.LONGEST_OUTPUT >> 20} MiB")
    return data.decode(errors="replace")
