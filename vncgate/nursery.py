"""A process that forks workers: small, of one thread, with all that they need imported once and shared by all of them.

The daemon itself cannot fork them: it has threads, and passwords in memory. It starts the nursery before it has either
(`fork()`), or later as a program of its own (`execute()`, where the first was killed). A worker is asked for with one
end of its channel, and runs `vncgate.worker.main` on it. What became of it is told by a line. When the daemon is gone
the nursery stays until its workers have ended, so that somebody reaps them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from vncgate import channel
from vncgate.messages import LONGEST
from vncgate.process import describe_exit

log = logging.getLogger(__name__)

_PROGRAM = """
import sys
sys.path[:] = sys.argv[2:]
import socket
from vncgate import nursery, worker
nursery.serve(socket.socket(fileno=int(sys.argv[1])), worker.main)
"""
"""What `execute()` runs: with the daemon's own modules, whatever the working directory has by their names."""


class Nursery:
    """The daemon's end. It belongs to no loop until `listen()`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def fork(cls, work: Callable[[socket.socket], None]) -> Nursery:
        """Start one as a copy of this process, which has a single thread and no loop yet; its workers do `work`."""
        ours, theirs = channel.pair()
        gc.freeze()  # the collector would touch, and so copy, every page that is shared (gc.freeze in Python's manual)
        pid = os.fork()
        if not pid:
            ours.close()
            _end_with(lambda: serve(theirs, work))
        theirs.close()
        os.waitpid(pid, 0)
        return cls(ours)

    @classmethod
    async def execute(cls) -> Nursery:
        """Start one as a program. Raises OSError when that cannot be done."""
        ours, theirs = channel.pair()
        try:
            with theirs:
                pid = os.posix_spawn(  # noqa: ASYNC221  (it returns when the program has begun)
                    sys.executable,
                    [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), *sys.path],
                    os.environ,
                    file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), theirs.fileno())],  # which makes it inherited
                )
                await asyncio.to_thread(os.waitpid, pid, 0)
        except BaseException:
            ours.close()
            raise
        return cls(ours)

    def listen(self, ended: Callable[[int, str], None], gone: Callable[[], None]) -> None:
        """From now on tell what became of workers (pid, in words), and when the nursery itself is gone."""
        self._loop = asyncio.get_running_loop()
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock.fileno(), self._read, ended, gone)

    def start(self) -> socket.socket:
        """A new worker; returns our end of its channel. Raises OSError when the nursery is gone."""
        ours, theirs = channel.pair()
        try:
            with theirs:
                socket.send_fds(self._sock, [b"worker\n"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """Let go of it; it ends with its last worker."""
        if self._loop is not None and self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _read(self, ended: Callable[[int, str], None], gone: Callable[[], None]) -> None:
        try:
            line = self._sock.recv(LONGEST)
        except BlockingIOError:
            return
        except OSError:
            line = b""
        if not line:
            self.close()
            gone()
            return
        body = json.loads(line)
        ended(body["pid"], describe_exit(body["status"]))


def serve(sock: socket.socket, work: Callable[[socket.socket], None]) -> NoReturn:
    """Be the nursery on `sock`, whose workers do `work`; as a grandchild of the caller, who need not wait for it.

    A worker that cannot be forked is said so on stderr, and its channel is closed.
    """
    if os.fork():
        os._exit(0)
    _be_called("vncgate-nursery")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # what a daemon that starts anew has blocked
    os.setsid()  # the keyboard's signals are not for workers
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _close_all_but(sock)
    signal.signal(signal.SIGCHLD, lambda *_: _tell_of_the_dead(sock))
    while True:
        try:
            line, descriptors, _, _ = socket.recv_fds(sock, 64, 1)
        except ConnectionResetError:  # the daemon died with a line of ours unread
            line = b""
        if not line:
            break
        if descriptors:
            with socket.socket(fileno=descriptors[0]) as end:
                _fork(sock, end, work)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)


def _fork(sock: socket.socket, end: socket.socket, work: Callable[[socket.socket], None]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        if os.fork() == 0:
            sock.close()
            _be_called("vncgate-worker")
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            _end_with(lambda: work(end))
    except OSError as error:  # too many processes, or no memory: the daemon asks again
        sys.stderr.write(f"vncgate: a worker process cannot be forked: {error.strerror}\n")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])


def _end_with(work: Callable[[], None]) -> NoReturn:
    """Do `work`, and end the process, which is a fork: nothing of what its original would do next happens here."""
    try:
        work()
    except BaseException:  # noqa: BLE001  (there is nobody above)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _be_called(name: str) -> None:
    """The process's name in ps and top: 15 bytes at most (proc_pid_comm(5))."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _tell_of_the_dead(sock: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            line = json.dumps({"pid": pid, "status": os.waitstatus_to_exitcode(status)}).encode()
            with contextlib.suppress(OSError):  # nobody is left to tell, or it does not listen
                sock.send(line + b"\n", socket.MSG_DONTWAIT)


def _close_all_but(sock: socket.socket) -> None:
    """Close what was inherited, save for stderr and its like: a listening socket held here could never be closed."""
    keep = sock.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
