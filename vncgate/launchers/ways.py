"""What places have of ssh: the connections to hosts, commands that are run there, and ways to desktops."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from vncgate import process
from vncgate.errors import LaunchError
from vncgate.kinds import SshLogin
from vncgate.launchers.base import Whom
from vncgate.launchers.lines import Door, Line
from vncgate.launchers.scripts import LONGEST_SOCKET
from vncgate.model import Desktop
from vncgate.text import printable

PIECE = 65536
"""Bytes that are read at a time."""


@dataclass(frozen=True, slots=True)
class _Way:
    """A socket of ours that leads to a desktop, through this connection."""

    line: Line
    connection: asyncssh.SSHClientConnection
    listener: asyncssh.SSHListener
    there: tuple[str, int] | str


class Ways:
    """Ssh connections, and what goes through them. The sockets are in `folder`, which nobody else may enter."""

    def __init__(self, settings: SshLogin, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._lines: dict[Whom, Line] = {}
        self._doors: defaultdict[str, Door] = defaultdict(Door)
        self._ways: dict[str, _Way] = {}
        self._making: defaultdict[Whom, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def lead(self, nonce: str, through: Whom, there: tuple[str, int] | str) -> Desktop:
        """Where the gate reaches a desktop that `through` reaches `there`, at a host's port or on a unix socket, as the
        way stands or is made now. Raises LaunchError.
        """
        path, line = self._socket(nonce), self.line(through)
        async with self._making[through]:
            with line.in_use():
                connection, way = await line.connection(), self._ways.get(nonce)
                if way is None or (way.connection, way.there) != (connection, there):
                    self.end(nonce)
                    self._ways[nonce] = _Way(line, connection, await self._listen(path, connection, there), there)
                    line.hold()
        return Desktop(unix=str(path), owner=os.geteuid())

    async def _listen(
        self, path: Path, connection: asyncssh.SSHClientConnection, there: tuple[str, int] | str
    ) -> asyncssh.SSHListener:
        try:
            self._make_room(path)
            if isinstance(there, str):
                return await connection.forward_local_path(str(path), there)
            return await connection.forward_local_path_to_port(str(path), *there)
        except (OSError, asyncssh.Error) as error:
            raise LaunchError(f"{path}: no socket that leads to {there}: {error}") from None

    def _make_room(self, path: Path) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of a daemon that was killed

    def end(self, nonce: str) -> None:
        """The desktop is gone, or elsewhere: so is the way to it."""
        way = self._ways.pop(nonce, None)
        if way is not None:
            way.listener.close()
            way.line.release()
            self._socket(nonce).unlink(missing_ok=True)

    async def run(
        self, through: Whom, argv: Sequence[str], *, timeout: float, stdin: str, env: Mapping[str, str]
    ) -> process.Result:
        """Run a command there, as `process.run()` does here, and with what it raises; `env` is beside PATH and who one
        is there. Raises LaunchError where there is no connection.

        A command that does not end in time, or whose connection is lost (ConnectionError), may have done its work.
        """
        own = ' PATH="$PATH" HOME="$HOME" USER="$USER" LOGNAME="$LOGNAME" '
        given = shlex.join([*(f"{name}={value}" for name, value in env.items()), *argv])
        # A user's shell may be any: it sees one quoted word.
        program = f"exec /bin/sh -c {shlex.quote('exec env -i' + own + given)}"
        async with self.line(through).session(program) as running:
            try:
                async with asyncio.timeout(timeout):
                    return await _result(running, stdin)
            except asyncssh.Error as error:
                words = f"the connection to {through[0]} was lost: {printable(str(error))}"
                raise ConnectionResetError(errno.ECONNRESET, words) from None

    async def aclose(self) -> None:
        """Hang up; what runs stays."""
        for nonce in list(self._ways):
            self.end(nonce)
        await asyncio.gather(*(line.aclose() for line in self._lines.values()))

    def line(self, through: Whom) -> Line:
        """The connection to a host as a user; to be held as long as it is in use."""
        if through not in self._lines:
            self._lines[through] = Line(self._settings, through, self._doors[through[0]])
        return self._lines[through]

    def _socket(self, nonce: str) -> Path:
        path = self._folder / f"{nonce}.sock"
        if len(bytes(path)) > LONGEST_SOCKET:
            raise LaunchError(f"{path}: longer than the {LONGEST_SOCKET} bytes that the path of a unix socket may have")
        return path


async def _result(running: asyncssh.SSHClientProcess[bytes], stdin: str) -> process.Result:
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
