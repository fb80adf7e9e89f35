"""Noticing that a file changed: through inotify, or by looking again and again where inotify is blind.

What `path` leads to depends on every step of the way: a link in it may be swapped, a directory renamed, a file
replaced. So the whole way is traced, all its directories are watched, and after each change it is traced anew. All
of it happens in a thread of its own, because a share that hangs must not hang the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from watchdog.events import (
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.inotify import InotifyObserver

from vncgate.settings import WatchMode

QUIET = 0.15
"""Seconds without another change that end a burst."""
QUIET_WHEN_WHOLE = 0.03
"""The same, where the last change was one that leaves a whole file: it was renamed to the path, or closed."""
LONGEST_BURST = 1.0
"""Seconds after which a burst is reported though it goes on."""
SECOND_LOOK = 60.0
"""Seconds between two looks beside inotify, which says nothing when a file system is mounted over the path."""
STOP_TIMEOUT = 2.0
"""Seconds that stop() waits for a look under way, which a hanging share may hold for ever."""
LARGEST = 16 * 1024 * 1024
"""Bytes of a file that is compared by what it holds; a larger one, which is no token file, by its size and time."""
MOST_LINKS = 40
"""Links in a path that the kernel follows: path_resolution(7)."""

# fmt: off
SHARES = frozenset({
    "9p", "acfs", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "gfs", "gfs2", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
    "wekafs",
})
"""Types of file systems whose files other hosts write, unseen by this one's inotify; beside these all of FUSE."""
# fmt: on

# Not "opened" and "closed without a write": every reader, the daemon first, would be a change.
_EVENTS: list[type[FileSystemEvent]] = [
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]

log = logging.getLogger(__name__)


class Trace(NamedTuple):
    """What a path leads to now: every step of the way to it, links followed, and what is there.

    A step is an absolute path whose directory has no links in it; whoever changes one changes the way.
    `content` is a digest of the file's, or why there is none.
    """

    steps: tuple[str, ...]
    content: str


UNKNOWN = Trace((), "")
"""What equals no trace."""


def trace(path: Path) -> Trace:
    """Follow the absolute `path` as the kernel would, and read the file. It blocks.

    Raises OSError only when this process is out of descriptors, which says nothing of the file.
    """
    steps: list[str] = []
    current = Path("/")
    ahead = deque(path.parts)
    links = 0
    while ahead and links <= MOST_LINKS:
        match ahead.popleft():
            case "/":
                current = Path("/")
            case "..":
                current = current.parent
            case name:
                _look_again(current)
                step = current / name
                steps.append(str(step))
                try:
                    ahead.extendleft(reversed(step.readlink().parts))
                    links += 1
                except OSError:  # no link, or not there
                    current = step
    return Trace(tuple(steps), _content(path))


def _look_again(directory: Path) -> None:
    # NFS believes what it knows of a directory for up to a minute; opening it makes it ask: nfs(5), "Close-to-open".
    with contextlib.suppress(OSError):
        os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))


def _content(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would wait for a writer
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return "no regular file"
            if status.st_size > LARGEST:
                return f"{status.st_size} bytes, changed at {status.st_mtime_ns}"
            with open(descriptor, "rb", closefd=False) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return str(error.errno)


def share_of(path: str, mountinfo: str) -> str | None:
    """The type of the network share that `path` lies on, or None where it is local.

    `path` is absolute and has no links in it; `mountinfo` is the text of /proc/self/mountinfo, see
    proc_pid_mountinfo(5). The longest mount point wins, of equal ones the last, which covers the others.
    """
    longest, kind = "", ""
    for line in mountinfo.split("\n"):
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]).rstrip("/")
        if len(point) >= len(longest) and (path + "/").startswith(point + "/"):
            longest, kind = point, after.split(" ")[0]
    return kind if kind in SHARES or kind.startswith("fuse") else None


class Watcher:
    """Calls `on_change` in the event loop's thread whenever the file at `path` may have changed.

    A burst of changes is one. It may call once too often, and never once too seldom: who asks compares the
    content. `poll_interval` is in seconds, and is used where `mode`, a network share or a lack of inotify's
    resources makes it look again and again.
    """

    def __init__(self, path: Path, on_change: Callable[[], None], mode: WatchMode, poll_interval: float) -> None:
        self._path = path.absolute()
        self._on_change = on_change
        self._mode = mode
        self._poll_interval = min(poll_interval, threading.TIMEOUT_MAX)
        self._observer: InotifyObserver | None = None
        self._how = ""
        self._woken = _Woken()
        self._stopping = False
        self._started = asyncio.Event()
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Return when every change from now on is noticed. To be called once."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name=f"watch {self._path}", daemon=True).start()
        await self._started.wait()

    async def stop(self) -> None:
        """Watch no more; `on_change` is not called again."""
        self._stopping = True
        self._woken.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._ended.wait()

    # Below, all runs in the watching thread.

    def _run(self) -> None:
        seen = UNKNOWN
        with contextlib.suppress(OSError):  # the loop finds it too, and says so
            seen = self._follow()
        self._tell(self._started.set)
        while not self._stopping:
            try:
                interval = SECOND_LOOK if self._observer else self._poll_interval
                if not self._woken.wait(interval) and trace(self._path) == seen:
                    continue
                self._settle()
                seen = self._follow()
            except Exception as error:  # noqa: BLE001  (without this thread no change would be noticed any more)
                self._explain(logging.ERROR, f"{type(error).__name__}: {error}")
                seen = UNKNOWN  # and if nothing changed: who was told before may not have been able to read it
                time.sleep(min(self._poll_interval, STOP_TIMEOUT))
            else:
                self._tell(self._changed)
        self._replace_observer(None)
        self._tell(self._ended.set)

    def _tell(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(callback)

    def _changed(self) -> None:
        if not self._stopping:
            self._on_change()

    def _settle(self) -> None:
        """Wait until the burst is over."""
        deadline = time.monotonic() + LONGEST_BURST
        before = trace(self._path)
        while time.monotonic() < deadline and not self._stopping:
            self._woken.clear()
            woken = self._woken.wait(QUIET_WHEN_WHOLE if self._woken.whole else QUIET)
            now = trace(self._path)
            if not woken and now == before:
                return
            before = now

    def _follow(self) -> Trace:
        """Watch the way to the file as it is now."""
        self._woken.clear()
        seen = trace(self._path)
        directories = sorted({Path(step).parent for step in seen.steps})
        # The new watches stand before the old ones go. All are made anew: a directory that went and came back may
        # have got its old number again, so that nothing would tell its dead watch from a live one.
        self._replace_observer(self._observe(seen, directories))
        if trace(self._path) != seen:  # it changed before the new watches stood
            self._woken.set()
        return seen

    def _replace_observer(self, observer: InotifyObserver | None) -> None:
        old, self._observer = self._observer, observer
        if old is not None:
            old.stop()
            old.join()

    def _observe(self, seen: Trace, directories: list[Path]) -> InotifyObserver | None:
        """Watch these directories for changes of the steps; None where it is to be polled."""
        if self._mode is WatchMode.POLL:
            return None
        try:
            share = _share(directories) if self._mode is WatchMode.AUTO else None
            if share is not None:
                self._explain(logging.INFO, share)
                return None
            observer = _observer(seen, directories, self._woken)
        except (OSError, RuntimeError) as error:  # out of descriptors, watches or threads
            self._explain(logging.WARNING, f"inotify is not available ({error})")
            return None
        self._how = ""
        return observer

    def _explain(self, level: int, why: str) -> None:
        if why != self._how:
            log.log(level, "looking at %s every %g seconds: %s", self._path, self._poll_interval, why)
        self._how = why


class _Woken(threading.Event):
    """That something changed; `whole`: the last that did was a file that is written to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = False


class _Waker(FileSystemEventHandler):
    """Sets an event when a step of the way changes; what else happens in its directories is nobody's business."""

    def __init__(self, steps: frozenset[str], woken: _Woken) -> None:
        self._steps = steps
        self._woken = woken

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.src_path in self._steps or event.dest_path in self._steps:
            self._woken.whole = isinstance(event, (FileMovedEvent, FileClosedEvent))
            self._woken.set()


def _share(directories: list[Path]) -> str | None:
    mountinfo = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    for directory in directories:
        if kind := share_of(str(directory), mountinfo):
            return f"{directory} lies on a share ({kind})"
    return None


def _observer(seen: Trace, directories: list[Path], woken: _Woken) -> InotifyObserver:
    observer = InotifyObserver()
    observer.start()
    try:
        for directory in directories:
            _schedule(observer, _Waker(frozenset(seen.steps), woken), directory)
    except BaseException:
        observer.stop()
        observer.join()
        raise
    return observer


def _schedule(observer: InotifyObserver, handler: FileSystemEventHandler, directory: Path) -> None:
    if not directory.is_dir():  # a step before it is missing, and is watched for
        return
    if not os.access(directory, os.R_OK, effective_ids=True):
        raise PermissionError(f"{directory} may not be read")  # watchdog would pass over it in silence
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        observer.schedule(handler, directory, event_filter=_EVENTS)
