"""The account's folder: names on the way there, the walk through it, and what may not be had.

Nothing outside of it is reached, whatever the account's own processes do meanwhile: every step down is an openat(2) of
one name with O_NOFOLLOW, every step up is verified, and other file systems are left out. Nothing here is recursive.
"""

import contextlib
import errno
import os
import stat
import time
from urllib.parse import quote_from_bytes, unquote_to_bytes

MYPY = False  # typing costs time, and what it has is not in every version
if MYPY:
    from collections.abc import Callable, Iterator
    from typing import Any

UPLOADS = ".vncgate-uploads"
"""Folder in the root for what is not whole yet. It is neither listed nor packed."""
DESCEND = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
UP = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
KINDS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.ELOOP: "missing",
    errno.EXDEV: "missing",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "denied",
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",
    errno.ENAMETOOLONG: "name",
}


class Refusal(Exception):  # noqa: N818 - it is an answer
    """What was asked for cannot be had: missing, denied, full, quota, clash, name, offset, busy, failed."""

    def __init__(self, kind: str, about: str = "", **more: "Any") -> None:
        Exception.__init__(self, kind, about)
        self.answer = dict(more, error=kind, about=about)


def quote(path: str) -> str:
    """A path as it travels."""
    return quote_from_bytes(os.fsencode(path), safe="/")


def shown(path: str) -> str:
    """A path as text, with a backslash before the numbers of bytes that are none, and of control characters."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def names_of(quoted: str) -> "list[str]":
    """The names on a path below the root. Raises Refusal for one that leads out of it, or to what is ours."""
    data = unquote_to_bytes(quoted)
    names = [os.fsdecode(name) for name in data.split(b"/") if name]
    if b"\0" in data or "." in names or ".." in names or names[:1] == [UPLOADS]:
        raise Refusal("missing", quoted)
    return names


def why(error: OSError) -> str:
    """Why something could not be read, in words."""
    return {errno.EACCES: "it may not be read", errno.ENOENT: "it was removed while the folder was read"}.get(
        error.errno or 0, error.strerror or "it cannot be read"
    )


def kind_of(mode: int) -> str:
    """What something in a folder is, in a word."""
    kinds = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe"}
    return {**kinds, stat.S_IFSOCK: "socket"}.get(stat.S_IFMT(mode), "device")


def identity(status: os.stat_result) -> "tuple[int, int]":
    """What tells a folder from every other."""
    return status.st_dev, status.st_ino


class Folder:
    """The account's folder. `told` is called with a path, and why what is there could not be reached."""

    def __init__(self, root: str, told: "Callable[[str, str], object]" = lambda *_: None) -> None:
        self._told = told
        self.path = root.replace("{home}", os.path.expanduser("~"))
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Refusal(KINDS.get(error.errno or 0, "failed"), quote(self.path)) from None
        self._device = os.fstat(self.fd).st_dev

    def open(self, names: "list[str]") -> int:
        """A descriptor of a folder below, which the caller closes. Raises OSError where there is no such folder."""
        fd = os.dup(self.fd)
        for name in names:
            try:
                below = os.open(name, DESCEND, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
            if os.fstat(fd).st_dev != self._device:
                os.close(fd)
                raise OSError(errno.EXDEV, "another file system is mounted there")
        return fd

    def walk(self, names: "list[str]") -> "Iterator[tuple[str, int, str, os.stat_result]]":
        """All below a folder, in order: its path, a descriptor of the folder that it is in, its name there, its
        lstat(2). A folder comes before what is in it; one at a time is open, so that the depth has no limit.
        """
        fd = self.open(names)
        path = "".join(name + "/" for name in names)
        frames = [(path, identity(os.fstat(fd)), self._entries(fd, path))]
        above = {frames[0][1]}
        try:
            while frames:
                path, its, left = frames[-1]
                if not left:
                    frames.pop()
                    above.discard(its)
                    fd = self._up(fd, frames[-1]) if frames else fd
                    continue
                name = left.pop()
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    below = os.open(name, DESCEND, dir_fd=fd) if stat.S_ISDIR(status.st_mode) else -1
                except OSError as error:
                    self._told(path + name, why(error))
                    continue
                yield path + name, fd, name, status
                if below < 0:
                    continue
                its, path = identity(os.fstat(below)), path + name + "/"
                if its[0] != self._device or its in above:
                    os.close(below)
                    loop = "it leads back to a folder that it is in"
                    self._told(path, loop if its in above else "another file system is mounted there")
                    continue
                os.close(fd)
                fd = below
                above.add(its)
                frames.append((path, its, self._entries(fd, path)))
        finally:
            os.close(fd)

    def _entries(self, fd: int, path: str) -> "list[str]":
        """Names in a folder, the last one first."""
        try:
            names = os.listdir(fd)
        except OSError as error:
            self._told(path, why(error))
            return []
        return sorted((name for name in names if path or name != UPLOADS), reverse=True)

    def _up(self, fd: int, frame: "tuple[str, tuple[int, int], list[str]]") -> int:
        """The folder of `frame` from the one below it; by its path where that one was moved meanwhile."""
        path, its, left = frame
        for is_second in (False, True):
            try:
                if is_second:
                    above = self.open([name for name in path.split("/") if name])
                else:
                    above = os.open("..", UP, dir_fd=fd)
            except OSError:
                continue
            if identity(os.fstat(above)) == its:
                os.close(fd)
                return above
            os.close(above)
        self._told(path, f"it was moved while it was read; {len(left)} of its entries are missing")
        del left[:]
        return fd

    def measure(self, names: "list[str]", end: float) -> "int | None":
        """Bytes of all files below a folder; None where they could not be added up until `end` (time.monotonic())."""
        total = 0
        with contextlib.suppress(OSError):
            for number, (_, _, _, status) in enumerate(self.walk(names)):
                if stat.S_ISREG(status.st_mode):
                    total += status.st_size
                if not number % 256 and time.monotonic() > end:
                    return None
        return total
