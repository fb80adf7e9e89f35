"""Ways to desktops through ssh: unix sockets here, each of which leads through a connection to a desktop there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from vncgate.errors import LaunchError
from vncgate.launchers.base import Whom
from vncgate.launchers.lines import Line, Lines
from vncgate.launchers.scripts import LONGEST_SOCKET
from vncgate.model import Desktop


@dataclass(frozen=True, slots=True)
class _Way:
    """A socket of ours that leads to a desktop, through this connection."""

    line: Line
    connection: asyncssh.SSHClientConnection
    listener: asyncssh.SSHListener
    there: tuple[str, int] | str


class Ways:
    """Sockets in `folder`, which nobody else may enter, and what they lead to through `lines`."""

    def __init__(self, lines: Lines, folder: Path) -> None:
        self._lines = lines
        self._folder = folder
        self._ways: dict[str, _Way] = {}
        self._making: defaultdict[Whom, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._looks: Counter[str] = Counter()
        self._ended: set[str] = set()  # while they are looked at
        self._is_swept = False

    @contextlib.contextmanager
    def look(self, nonce: str) -> Iterator[None]:
        """While a desktop is looked at. When it ends meanwhile, what was seen before makes no way to it any more."""
        self._looks[nonce] += 1
        try:
            yield
        finally:
            self._looks[nonce] -= 1
            if not self._looks[nonce]:
                del self._looks[nonce]
                self._ended.discard(nonce)

    async def lead(self, nonce: str, through: Whom, there: tuple[str, int] | str) -> Desktop:
        """Where the gate reaches a desktop that `through` reaches `there`, at a host's port or on a unix socket, as the
        way stands or is made now. Raises LaunchError, also where it has ended since the `look()` at it began.
        """
        path, line = self._socket(nonce), self._lines.line(through)
        async with self._making[through]:
            with line.in_use():
                connection, way = await line.connection(), self._ways.get(nonce)
                if way is None or (way.connection, way.there) != (connection, there):
                    self._close(nonce)
                    listener = await self._listen(path, connection, there)
                    self._ways[nonce] = _Way(line, connection, listener, there)
                    line.hold()
                if nonce in self._ended:
                    self._close(nonce)
                    raise LaunchError("it has ended while it was looked at")
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
        """What lies there before the first way is of a daemon that was killed, and so leads nowhere."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in () if self._is_swept else self._folder.glob("*.sock"):
            old.unlink(missing_ok=True)
        self._is_swept = True
        path.unlink(missing_ok=True)

    def end(self, nonce: str) -> None:
        """The desktop is gone: so is the way to it, and the one that somebody who looks at it may be about to make."""
        if nonce in self._looks:
            self._ended.add(nonce)
        self._close(nonce)

    def _close(self, nonce: str) -> None:
        way = self._ways.pop(nonce, None)
        if way is not None:
            way.listener.close()
            way.line.release()
        self._path(nonce).unlink(missing_ok=True)  # also that of a daemon before this one

    def close(self) -> None:
        """Let go of all of them; the connections are whose they are."""
        for nonce in list(self._ways):
            self._close(nonce)

    def _socket(self, nonce: str) -> Path:
        path = self._path(nonce)
        if len(bytes(path)) > LONGEST_SOCKET:
            raise LaunchError(f"{path}: longer than the {LONGEST_SOCKET} bytes that the path of a unix socket may have")
        return path

    def _path(self, nonce: str) -> Path:
        return self._folder / f"{nonce}.sock"
