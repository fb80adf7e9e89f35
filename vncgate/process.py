"""Child processes: started, read, ended and reaped, so that none outlives its owner.

A child runs in a session of its own, with all it starts: they are signalled together, and when the child has ended
whatever is left of them is killed. When this process dies, by whatever signal, the kernel sends the child SIGTERM.

That last promise is PR_SET_PDEATHSIG (prctl(2)), which a child can ask for only itself. So the command is started by
a few lines of Python that ask for it, close what was inherited, and become the command by execve(2), which keeps the
request. This costs 10 ms a start, where a preexec_fn would run Python in the fork of a process that has threads. The
request is bound to the thread that started the child: spawn from the main thread's event loop. Programs with
set-user-ID lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from vncgate import tasks
from vncgate.text import printable

LONGEST_LINE = 4096
"""Bytes of a line of output that are read; the rest of it is dropped."""
DRAIN_TIMEOUT = 1.0
"""Seconds after a child's end that its output is read on, should one who left its session hold it open."""
KILL_TIMEOUT = 5.0
"""Seconds after SIGKILL that a child is waited for; only the kernel can hold it longer (a dead disk or share)."""
LONGEST_OUTPUT = 64 * 1024 * 1024
"""Bytes that a command may answer with: a hundred thousand jobs of a cluster have half of it."""
MEASURE = 0.5
"""Seconds between two looks at how long the answer has become."""
_OURS_ALONE = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)
"""What systemd tells one process of a service (sd_notify(3), sd_listen_fds(3), systemd.exec(5)). Whoever inherits it
would speak for that one: Podman says that a container's process is the service's."""

_STARTER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
    if fd > 2:
        try:
            os.close(fd)
        except OSError:
            pass
for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, and so by what it becomes
    signal.signal(number, signal.SIG_DFL)
try:
    os.execv(sys.argv[2], sys.argv[3:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


class Lines:
    """Cuts a stream of bytes into lines of text, each given to `log`.

    Bytes that are not UTF-8 become U+FFFD, tabs blanks, and what else is not printable its escape; an over-long line is
    cut, with an ellipsis.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._rest = b""
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._emit(line)
            self._cut = False
        if len(self._rest) > LONGEST_LINE:
            self._emit(self._rest)
            self._rest, self._cut = b"", True

    def end(self) -> None:
        """Give the last line, if no newline ended it."""
        if self._rest:
            self._emit(self._rest)
            self._rest = b""

    def _emit(self, line: bytes) -> None:
        if self._cut:  # its beginning was given already
            return
        text = line[:LONGEST_LINE].decode(errors="replace").rstrip("\r").expandtabs()
        self._log(printable(text) + ("…" if len(line) > LONGEST_LINE else ""))


class Process(asyncio.SubprocessProtocol):
    """A running child. `exited` is done with its exit status (a signal's number negated) when it was reaped."""

    def __init__(self, name: str, log: Callable[[str], None]) -> None:
        self.name = name
        self.pid = 0
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._log = log
        self._lines = Lines(log)
        self._transport: asyncio.SubprocessTransport | None = None
        self._drain: asyncio.TimerHandle | None = None

    async def stop(self, grace: float) -> None:
        """End it, with all it started: SIGTERM, and SIGKILL after `grace` seconds, or when cancelled."""
        try:
            self._signal(signal.SIGTERM)
            if await self._wait(grace):
                return
        finally:
            self._signal(signal.SIGKILL)
        if not await self._wait(KILL_TIMEOUT):
            self._log(f"{self.name} (process {self.pid}) does not end, not even by SIGKILL")

    async def _wait(self, seconds: float) -> bool:
        await asyncio.wait([self.exited], timeout=seconds)
        return self.exited.done()

    def _signal(self, number: signal.Signals) -> None:
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It runs (its pid is known before spawn() returns)."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002
        """It wrote something."""
        self._lines.feed(data)

    def process_exited(self) -> None:
        """It was reaped; its output may not be read to the end yet."""
        # Its session is not empty while anything is left that it started, so the number is still ours.
        self._signal(signal.SIGKILL)
        self._drain = asyncio.get_running_loop().call_later(DRAIN_TIMEOUT, self._close)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It was reaped, and its output read to the end."""
        self._close()

    def _close(self) -> None:
        """Called when it has exited and its output was read to the end, or for long enough."""
        assert self._transport is not None  # noqa: S101
        if self._drain is not None:
            self._drain.cancel()
        self._transport.close()
        self._lines.end()
        if not self.exited.done():
            self.exited.set_result(self._transport.get_returncode() or 0)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What a child may have of our environment: not what systemd told this process alone."""
    return {name: value for name, value in environ.items() if name not in _OURS_ALONE}


async def spawn(
    argv: Sequence[str | Path],
    *,
    name: str,
    log: Callable[[str], None],
    stdin: int = asyncio.subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start `argv` and give it back as soon as it runs; `log` gets every line it writes to stdout or stderr.

    `stdin` is a descriptor, which stays the caller's; no other is inherited. `env` is its
    whole environment, `inherited(os.environ)` where it is None. Raises OSError: no such command, or no process to be
    had. Cancelled while it starts, the child is ended and reaped before CancelledError goes on.
    """
    command = shutil.which(argv[0])
    if command is None:
        raise FileNotFoundError(f"{argv[0]}: command not found")
    starter = [sys.executable, "-I", "-S", "-c", _STARTER, str(os.getpid()), command]
    loop = asyncio.get_running_loop()
    starting = tasks.spawn(
        loop.subprocess_exec(
            lambda: Process(name, log),
            *starter,
            *(os.fspath(word) for word in argv),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=inherited(os.environ) if env is None else env,
            cwd=cwd,
            start_new_session=True,
        ),
        f"start {name}",
        expected=OSError,
    )
    try:
        _, process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # The loop raises before the child is there to be ended, so its start is waited for.
        with contextlib.suppress(OSError):
            _, process = await starting
            await process.stop(0)
        raise
    return process


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left: its exit status (a signal's number negated), and all it wrote."""

    status: int
    stdout: str
    stderr: str


async def run(
    argv: Sequence[str | Path], *, timeout: float, stdin: str = "", env: Mapping[str, str] | None = None
) -> Result:
    """Run a command that answers and ends; `stdin` is all that it can read.

    `env` is its whole environment, `inherited(os.environ)` where it is None. Raises OSError (no such command, or no
    process to be had; an answer longer than LONGEST_OUTPUT, of which a part might be taken for the whole), and
    TimeoutError when it has not ended after `timeout` seconds. Then, and when cancelled, it is killed with all it
    started before that is raised.
    """
    # Files, not pipes: a command may end without having read, and what it leaves running may hold its output open.
    with contextlib.ExitStack() as stack:
        names = "stdin", "stdout", "stderr"
        files = [stack.enter_context(os.fdopen(os.memfd_create(name), "w+b")) for name in names]
        files[0].write(stdin.encode(errors="surrogateescape"))  # as os.fsencode() has names of files
        files[0].seek(0)
        process = await start(argv, files, env)
        try:
            async with asyncio.timeout(timeout):
                status = await _ended(process, files[1:])
        except BaseException:
            await kill(process)
            raise
        out, err = (_content(file) for file in files[1:])
    return Result(status, out, err)


async def start(
    argv: Sequence[str | Path], files: Sequence[int | IO[bytes]], env: Mapping[str, str] | None
) -> asyncio.subprocess.Process:
    """Start a command with these files as stdin, stdout and stderr, in a session of its own; its owner ends it with
    `kill()`. Raises OSError. Cancelled, it leaves no process.
    """
    stdin, stdout, stderr = files
    starting = tasks.spawn(
        asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=inherited(os.environ) if env is None else env,
            start_new_session=True,
        ),
        f"start {argv[0]}",
        expected=OSError,
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # As in spawn(): the loop raises before the child is there to be ended.
        with contextlib.suppress(OSError):
            await kill(await starting)
        raise


async def _ended(process: asyncio.subprocess.Process, outputs: Sequence[IO[bytes]]) -> int:
    status = None
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEASURE):
                status = await process.wait()
        if any(os.fstat(file.fileno()).st_size > LONGEST_OUTPUT for file in outputs):
            raise OSError(errno.EFBIG, f"it answers with more than {LONGEST_OUTPUT >> 20} MiB")
        if status is not None:
            return status


async def kill(process: asyncio.subprocess.Process) -> None:
    """Kill what `start()` started, with all in its session, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_TIMEOUT):
            await process.wait()


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def describe_exit(status: int) -> str:
    """An exit status in words: `ended with exit status 3`, `was killed by SIGKILL`."""
    if status >= 0:
        return f"ended with exit status {status}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"
