"""Files of desktops in a folder that others write to as well, on a file system that may hang.

What is in a session's folder belongs to the session's user, who may have put anything there: a link to a file that
only the gate may read, a pipe that nobody writes to. So nothing is followed, and only regular files of the folder's
own owner are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vncgate import rfb, tasks
from vncgate.errors import LaunchError, SilentError
from vncgate.model import Secret
from vncgate.text import printable

TIMEOUT = 20.0
"""Seconds that the file system may take for one thing, before it counts as hanging."""
THREADS = 4
"""Things that are done at the same time, at most: so many threads does a file system hold that hangs."""
LONGEST_LOG = 2 * 1024 * 1024
"""Bytes that a log may have before it is shortened: a talkative session does not fill the disk."""
LONGEST_TAIL = 256 * 1024
"""Bytes of a log's end that are read."""

Result = TypeVar("Result")


class Share:
    """Does work on `folder` in threads of its own, a few at a time.

    Not in the loop's pool of threads: a file system that hangs would hold them all, and the end of the process too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._free = asyncio.Semaphore(THREADS)

    async def do(self, work: Callable[..., Result], *args: Any) -> Result:
        """What `work(*args)` returns. Raises LaunchError where it raises OSError, SilentError where it does not end
        in time.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._free.acquire()
                working = tasks.in_thread(functools.partial(work, *args), f"files in {self._folder}")
                working.add_done_callback(lambda _: self._free.release())
                # Shielded: who waits no longer does not end the thread, which is in use until it ends itself.
                return await asyncio.shield(working)
        except TimeoutError:
            raise SilentError(
                f"{self._folder} does not answer within {TIMEOUT:g} s: does its file system hang?"
            ) from None
        except OSError as error:
            raise LaunchError(self._words(error)) from None

    async def log(self, session: Path, lines: int) -> str:
        """The last lines of a session's log, fit to be shown. Raises as `do()`."""
        return last_lines(await self.do(read_end, session / "log"), lines)

    async def rekey(self, session: Path, password: Secret) -> None:
        """From now on a session's VNC server asks for `password`: Xvnc reads it at every login. Raises as `do()`."""
        await self.do(replace_in_session, session, "passwd", rfb.password_file(password))

    def _words(self, error: OSError) -> str:
        where = error.filename or self._folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{where} cannot be written: {error.strerror}. Make room on the file system of {self._folder}"
        if error.errno == errno.EPERM:
            return f"{where}: {error.strerror}. May the gate give files to others there (NFS: no_root_squash)?"
        return f"{where}: {error.strerror or error}"


def make_session(folder: Path, files: Mapping[str, bytes], owner: tuple[int, int] | None) -> None:
    """Make a session's folder (0700) with `files` (0600), of the user and group `owner`, where one is given."""
    with contextlib.suppress(FileExistsError):
        folder.parent.mkdir(parents=True)
        folder.parent.chmod(0o711)  # other users go through it to theirs; whatever the umask
    folder.mkdir(mode=0o700)
    for name, data in files.items():
        _write_new(folder / name, data, owner)
    if owner is not None:
        os.chown(folder, *owner)


def replace_in_session(folder: Path, name: str, data: bytes) -> None:
    """Put another file in the place of one, in one step; it is the folder's owner's."""
    its = folder.stat()
    new = folder / f"{name}.new"
    new.unlink(missing_ok=True)
    owner = (its.st_uid, its.st_gid)
    _write_new(new, data, None if owner == (os.geteuid(), os.getegid()) else owner)
    new.replace(folder / name)


def _write_new(path: Path, data: bytes, owner: tuple[int, int] | None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, no path)
        file.write(data)
        if owner is not None:
            os.fchown(descriptor, *owner)


def read_end(path: Path, most: int = LONGEST_TAIL) -> bytes:
    """The last `most` bytes of a file in a session's folder; empty where there is no such file, or it is another's."""
    with _opened(path, os.O_RDONLY) as file:
        return b"" if file is None else _end(file, most)


def shorten(path: Path, most: int = LONGEST_LOG) -> None:
    """Of a log in a session's folder that has become longer than `most` bytes, keep the end.

    Whoever writes it must append (O_APPEND), and may lose lines that are written at the same moment. One that its owner
    lets nobody write stays as it is.
    """
    with contextlib.suppress(PermissionError), _opened(path, os.O_RDWR) as file:
        if file is not None and os.fstat(file).st_size > most:
            end = _end(file, LONGEST_TAIL)
            os.ftruncate(file, os.pwrite(file, end, 0))


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int | None]:
    """A file in a session's folder, opened; None where it is not a regular file of the folder's owner, with one name.

    It is opened once, and looked at then: its owner may put another in its place at any moment.
    """
    try:
        owner = path.parent.stat().st_uid
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR):  # ENXIO: a socket
            raise
        yield None
        return
    try:
        its = os.fstat(file)
        yield file if stat.S_ISREG(its.st_mode) and its.st_uid == owner and its.st_nlink == 1 else None
    finally:
        os.close(file)


def _end(file: int, most: int) -> bytes:
    return os.pread(file, most, max(0, os.fstat(file).st_size - most))


def last_lines(data: bytes, lines: int) -> str:
    """The last lines of a log, fit to be shown."""
    kept = data.decode(errors="replace").splitlines()[-lines:]
    return "".join(printable(line.expandtabs()) + "\n" for line in kept)
