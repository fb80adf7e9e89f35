"""Desktops on hosts reached by ssh: one connection for each host and user, kept alive, and made anew when it was lost.

A lost connection ends no desktop; what is asked meanwhile is answered as unknown. One that nobody needs any more is
closed. Where the settings say so, the gate reaches a desktop through that connection: a unix socket here for the unix
socket there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from vncgate import hostlist, tasks
from vncgate.errors import LaunchError, SilentError
from vncgate.kinds import SshLogin, SshPlace
from vncgate.launchers.base import Handle
from vncgate.launchers.host import HostPlace, UnsureError, Whom, all_of
from vncgate.launchers.scripts import LONGEST_SOCKET, Listen, Scripts
from vncgate.model import Desktop
from vncgate.text import printable

LOGIN_TIMEOUT = 15.0
"""Seconds that a host has to accept a connection, and as many for the login."""
KEEPALIVE = 15
"""Seconds of silence after which a host is asked whether it is there; with the third without an answer it is lost."""
OPEN_ATTEMPTS = 20
"""How often a session is asked for where sshd has too many already."""
OPEN_PAUSE = 0.1
"""Seconds between two of these."""
REST = 5.0
"""Seconds after a failed login before the next one."""
LOGINS_AT_ONCE = 4
"""Logins to a host at the same time: sshd turns some away from the 10th on (MaxStartups 10:30:100)."""
IDLE_TIMEOUT = 120.0
"""Seconds after which a connection that nobody uses is closed; a desktop that runs is looked at more often."""

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it tells of every channel


@dataclass(frozen=True, slots=True)
class _Forward:
    """A socket of ours that leads to a desktop's."""

    line: Line
    connection: asyncssh.SSHClientConnection
    listener: asyncssh.SSHListener


class Ssh(HostPlace):
    """Desktops on the hosts of the settings. What reaches them is in `gate_folder`, which nobody else may enter."""

    def __init__(self, name: str, settings: SshPlace, gate_folder: Path, scripts: Scripts) -> None:
        through = settings.reach == "ssh"
        super().__init__(name, settings, scripts, Listen.SOCKET if through else Listen.NETWORK)
        self.hosts = tuple(hostlist.expand(settings.hosts))
        self._settings = settings
        self._gate_folder = gate_folder
        self._lines: dict[Whom, Line] = {}
        self._doors: defaultdict[str, Door] = defaultdict(Door)
        self._forwards: dict[str, _Forward] = {}
        self._forwarding = asyncio.Lock()

    async def aclose(self) -> None:
        """Let go of connections and tasks; desktops stay."""
        await super().aclose()
        for nonce in list(self._forwards):
            self._end_forward(nonce)
        await asyncio.gather(*(line.aclose() for line in self._lines.values()))

    def _folder(self, whom: Whom) -> str:  # noqa: ARG002 - every user has one
        return self._settings.folder

    async def _execute(self, whom: Whom, program: bytes, timeout: float) -> bytes:
        host, _ = whom
        line = self._line(whom)
        with line.in_use():
            process = await self._shell(await line.connection(), host)
            try:
                async with asyncio.timeout(timeout):
                    process.stdin.write(program)
                    process.stdin.write_eof()
                    said = await all_of(process.stdout, host)
                    await process.wait_closed()
            except TimeoutError:
                raise UnsureError(f"{host} did not do within {timeout:g} s what it was asked") from None
            except (asyncssh.Error, OSError) as error:
                raise UnsureError(f"the connection to {host} was lost: {error}") from None
            finally:
                process.close()
            if process.returncode is None:
                raise UnsureError(f"the connection to {host} was lost")
            return said

    async def _shell(self, connection: asyncssh.SSHClientConnection, host: str) -> asyncssh.SSHClientProcess[bytes]:
        left = OPEN_ATTEMPTS
        while True:
            left -= 1
            try:
                async with asyncio.timeout(LOGIN_TIMEOUT):
                    return await connection.create_process("exec /bin/sh -s", encoding=None, stderr=asyncssh.STDOUT)
            except asyncssh.ChannelOpenError as error:
                if connection.is_closed():
                    raise SilentError(f"the connection to {host} was lost") from None
                # sshd counts a session for a moment after its end.
                if not left:
                    raise LaunchError(f"{host} starts no session: {printable(error.reason)}") from None
                await asyncio.sleep(OPEN_PAUSE)
            except (TimeoutError, asyncssh.Error, OSError) as error:
                raise SilentError(
                    f"{host} starts no session: {printable(str(error)) or 'it does not answer'}"
                ) from None

    async def _reach(self, handle: Handle, reported: Desktop) -> Desktop:
        if self._settings.reach == "direct":
            return Desktop(handle.host, reported.port)
        whom = handle.host, handle.user
        path = self._socket(handle.nonce)
        there = f"{await self._root(whom)}/{handle.nonce}/vnc.sock"
        line = self._line(whom)
        async with self._forwarding:
            with line.in_use():
                connection = await line.connection()
                forward = self._forwards.get(handle.nonce)
                if forward is None or forward.connection is not connection:
                    self._end_forward(handle.nonce)
                    self._forwards[handle.nonce] = _Forward(
                        line, connection, await self._listen_at(path, connection, there)
                    )
                    line.hold()
        return Desktop(unix=str(path), owner=os.geteuid())

    async def _listen_at(
        self, path: Path, connection: asyncssh.SSHClientConnection, there: str
    ) -> asyncssh.SSHListener:
        try:
            self._make_way(path)
            return await connection.forward_local_path(str(path), there)
        except (OSError, asyncssh.Error) as error:
            raise LaunchError(f"{path}: no socket that leads to {there}: {error}") from None

    def _make_way(self, path: Path) -> None:
        self._gate_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of a daemon that was killed

    async def _let_go(self, handle: Handle) -> None:
        self._end_forward(handle.nonce)

    def _end_forward(self, nonce: str) -> None:
        forward = self._forwards.pop(nonce, None)
        if forward is not None:
            forward.listener.close()
            forward.line.release()
            self._socket(nonce).unlink(missing_ok=True)

    def _socket(self, nonce: str) -> Path:
        path = self._gate_folder / f"{nonce}.sock"
        if len(bytes(path)) > LONGEST_SOCKET:
            raise LaunchError(f"{path}: longer than the {LONGEST_SOCKET} bytes that the path of a unix socket may have")
        return path

    def _line(self, whom: Whom) -> Line:
        if whom not in self._lines:
            self._lines[whom] = Line(self._settings, whom, self._doors[whom[0]])
        return self._lines[whom]


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
            is_silent = isinstance(error, OSError | asyncssh.ConnectionLost)
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
            return f"{host} refuses the login{user}: is the public key in its authorized_keys? ({error.reason})"
        if isinstance(error, TimeoutError):
            return f"{host} did not answer within {LOGIN_TIMEOUT:g} s"
        return f"no ssh connection to {host}: {printable(str(error))}"
