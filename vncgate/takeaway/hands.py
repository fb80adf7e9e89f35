"""Hands: how a program gets to a host and runs there as the account's user. On this one, or by ssh."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from vncgate import hostlist, process
from vncgate.errors import FilesError, LaunchError
from vncgate.kinds import SlurmPlace, SshLogin, SshPlace
from vncgate.launchers import users
from vncgate.launchers.base import expand
from vncgate.model import Account, DesktopStatus
from vncgate.settings import Settings
from vncgate.text import printable

if TYPE_CHECKING:
    import asyncssh

    from vncgate.launchers.base import Whom
    from vncgate.launchers.lines import Lines

PIECE = 1 << 20
"""Bytes that are read at a time."""
PIPE = 1 << 20
"""Bytes that a pipe holds, where the kernel allows so much."""
KEPT = "LANG", "PATH", "TZ"
"""What an agent here has of our environment."""


PYTHON = os.path.realpath(sys.executable)
"""An interpreter for agents here: not that of a virtual environment, which another user may not be able to read."""


class Hand(Protocol):
    """A program that runs somewhere."""

    async def write(self, data: bytes) -> None:
        """Write all of it to its input. Raises OSError where it reads no more."""

    async def end_input(self) -> None:
        """There is no more for it to read."""

    async def read(self) -> bytes:
        """Some of what it wrote; nothing at the end."""

    async def ended(self) -> int:
        """Its exit status, once it has ended."""

    async def words(self) -> str:
        """What there is to say of one that did not do what it should."""


class Hands:
    """Starts agents where the settings say."""

    def __init__(self, settings: Settings, status: Callable[[str], DesktopStatus | None]) -> None:
        """`status` tells of the desktop of an account, where that is ours."""
        self._settings = settings
        self._status = status
        self._lines: dict[str, Lines] = {}

    @contextlib.asynccontextmanager
    async def agent(self, account: Account, program: str) -> AsyncIterator[Hand]:
        """An interpreter of Python that runs `program`; it is ended with the block. Raises FilesError."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                hand = await stack.enter_async_context(self._started(account, program))
            except (LaunchError, OSError) as error:
                words = error.strerror or str(error) if isinstance(error, OSError) else str(error)
                raise FilesError(f"the files of {account.name}: no agent can be started: {words}", "away") from None
            yield hand

    async def aclose(self) -> None:
        """Let go of connections."""
        await asyncio.gather(*(lines.aclose() for lines in self._lines.values()))

    def _started(self, account: Account, program: str) -> contextlib.AbstractAsyncContextManager[Hand]:
        settings, files = self._settings.desktops, self._settings.files
        if files.through == "host":
            return _here(expand(files.user, account.name), program)
        status = self._status(account.name)
        kind = settings.kinds.get(status.kind if status else account.kind or settings.default_kind)
        place = settings.place(kind.place) if kind else None
        if kind is None or place is None:
            raise LaunchError(f'{account.name} has no desktop of ours, and so no place: set files.through = "host"')
        user = expand(place.user, account.name)
        if not isinstance(place, SshPlace | SlurmPlace):
            return _here(user, program)
        host = status.host if status else ""
        return self._there(kind.place, place, _way(place, host, user), program)

    @contextlib.asynccontextmanager
    async def _there(self, name: str, place: SshLogin, whom: Whom, program: str) -> AsyncIterator[Hand]:
        from vncgate.launchers.lines import Lines  # it takes a tenth of a second and 20 MB

        lines = self._lines.setdefault(name, Lines(place))
        # A user's shell may be any: it sees one quoted word.
        command = shlex.join(["exec", "/bin/sh", "-c", "exec python3 -I -S -c " + shlex.quote(program)])
        async with lines.line(whom).session(command) as running:
            yield _Remote(running)


def _way(place: SshPlace | SlurmPlace, host: str, user: str) -> Whom:
    """Whom to ask, where the desktop is on `host` (empty: it does not run). Raises LaunchError."""
    if isinstance(place, SshPlace):
        return host or hostlist.expand(place.hosts)[0], user
    from vncgate.launchers.slurm import login

    if through := place.login or place.submit_host:
        return login(through, user)
    if place.reach != "ssh":
        raise LaunchError('no host of this place is reached by ssh: set its `login`, or files.through = "host"')
    if not host:
        raise LaunchError("the desktop does not run, and its files are reached through its host: start it first")
    return host, user


@contextlib.asynccontextmanager
async def _here(user: str, program: str) -> AsyncIterator[Hand]:
    """On this host; as root only where the settings name that."""
    person = await asyncio.to_thread(users.find, user, may_be_root=user == "root")
    become: list[str] = []
    if person.pw_uid != os.geteuid():
        ids = f"--reuid={person.pw_uid}", f"--regid={person.pw_gid}"
        become = ["setpriv", *ids, "--init-groups", "--no-new-privs", "--"]
    environ = {name: os.environ[name] for name in KEPT if name in os.environ}
    environ |= {"HOME": person.pw_dir, "USER": person.pw_name, "LOGNAME": person.pw_name}
    with contextlib.ExitStack() as pipes:
        theirs_in, ours_in = (pipes.enter_context(_End(fd)) for fd in os.pipe2(os.O_CLOEXEC))
        ours_out, theirs_out = (pipes.enter_context(_End(fd)) for fd in os.pipe2(os.O_CLOEXEC))
        null = pipes.enter_context(_End(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)))
        argv = [*become, PYTHON, "-I", "-S", "-c", program]
        running = await process.start(argv, [theirs_in.fd, theirs_out.fd, null.fd], environ)
        try:
            theirs_in.close()
            theirs_out.close()
            yield _Local(running, ours_in, ours_out)
        finally:
            await process.kill(running)


class _End:
    """One end of a pipe, that is waited for."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        with contextlib.suppress(OSError):  # beyond what this user's pipes may hold
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)

    def __enter__(self) -> _End:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; once more does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    async def read(self) -> bytes:
        """Some of what there is; nothing at the end."""
        os.set_blocking(self.fd, False)
        while True:
            try:
                return os.read(self.fd, PIECE)
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._ready(loop.add_reader, loop.remove_reader)

    async def write(self, data: bytes) -> None:
        """Write all of it."""
        os.set_blocking(self.fd, False)
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._ready(loop.add_writer, loop.remove_writer)

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        is_ready = asyncio.Event()
        add(self.fd, is_ready.set)
        try:
            await is_ready.wait()
        finally:
            remove(self.fd)


class _Local:
    """A process of this host."""

    def __init__(self, running: asyncio.subprocess.Process, stdin: _End, stdout: _End) -> None:
        self._running = running
        self._stdin = stdin
        self._stdout = stdout
        self.write = stdin.write
        self.read = stdout.read

    async def end_input(self) -> None:
        self._stdin.close()

    async def ended(self) -> int:
        return await self._running.wait()

    async def words(self) -> str:
        return process.describe_exit(await self.ended())


@contextlib.contextmanager
def _by_ssh() -> Iterator[None]:
    """Have what asyncssh raises be an OSError."""
    import asyncssh

    try:
        yield
    except asyncssh.Error as error:
        raise ConnectionResetError(errno.ECONNRESET, f"the connection was lost: {printable(error.reason)}") from None


class _Remote:
    """A command of another host."""

    def __init__(self, running: asyncssh.SSHClientProcess[bytes]) -> None:
        self._running = running

    async def write(self, data: bytes) -> None:
        with _by_ssh():
            self._running.stdin.write(data)
            await self._running.stdin.drain()

    async def end_input(self) -> None:
        with contextlib.suppress(OSError):  # it reads no more
            self._running.stdin.write_eof()

    async def read(self) -> bytes:
        with _by_ssh():
            return await self._running.stdout.read(PIECE)

    async def ended(self) -> int:
        with _by_ssh():
            await self._running.wait_closed()
        return 1 if self._running.returncode is None else self._running.returncode

    async def words(self) -> str:
        status = await self.ended()
        return "there is no python3 on that host" if status == 127 else process.describe_exit(status)
