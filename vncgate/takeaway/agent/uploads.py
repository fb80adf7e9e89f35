"""What is sent to the folder: kept aside until it is whole, in a folder of ours there, and put in its place at once.

So what came survives a lost connection and a gate that is started anew, counts for the account's own quota, and belongs
to the account's user.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
import time
from urllib.parse import unquote_to_bytes

from vncgate.takeaway.agent.folder import DESCEND, READ, UPLOADS, Folder, Refusal, names_of, quote

MYPY = False  # typing costs time, and what it has is not in every version
if MYPY:
    from typing import Any, BinaryIO

PIECE = 1 << 20
"""Bytes that are read at a time."""
LONGEST_PART = 1 << 16
"""Bytes of what is noted of an upload."""
LONGEST_NAME = 240
"""Bytes of a file's name, with room for a number where that name is taken."""
ABANDONED = 3 * 24 * 3600.0
"""Seconds after which an upload that nobody goes on with is removed."""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
NO_LINKS = errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK


class Uploads:
    """What is not whole yet: of each upload a file of that name, with what came of it, and NAME.json, which stays for a
    while when it has landed: whoever did not hear of it asks again.
    """

    def __init__(self, folder: Folder, *, make: bool = False) -> None:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(UPLOADS, 0o700, dir_fd=folder.fd)
        self._folder = folder
        self._fd = os.open(UPLOADS, DESCEND, dir_fd=folder.fd)

    def create(self, order: "dict[str, Any]") -> "dict[str, Any]":
        """Begin an upload of `size` bytes, to be `name` in the folder `path`. `clash` is what is to be done where there
        is one of that name: "ask" (raise Refusal), "keep" both, or "replace" it. `quota`: bytes that all may have.
        """
        part = {name: order[name] for name in ("name", "path", "clash", "size")}
        self._check_clash(part)
        self._check_room(int(part["size"]), int(order["quota"]))
        key = secrets.token_hex(16)
        with open(os.open(key + ".json", NEW, 0o600, dir_fd=self._fd), "w") as file:
            json.dump(part, file)
        fd = os.open(key, NEW, 0o600, dir_fd=self._fd)
        try:
            return {"id": key, "offset": 0, "name": "" if part["size"] else self._land(key, part, fd)}
        finally:
            os.close(fd)

    def offset(self, order: "dict[str, Any]") -> "dict[str, Any]":
        """How much of an upload came so far; all of one that has landed."""
        size = self._part(order["id"])["size"]
        return {"offset": self._came(order["id"], size), "size": size}

    def append(self, order: "dict[str, Any]", source: "BinaryIO") -> "dict[str, Any]":
        """Write what follows to an upload of which `offset` bytes came already; what comes is kept in any case."""
        key, part = order["id"], self._part(order["id"])
        try:
            fd = os.open(key, os.O_WRONLY | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC, dir_fd=self._fd)
        except FileNotFoundError:  # it has landed, and whoever asks did not hear of it
            return {"offset": part["size"], "name": part["name"]}
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refusal("busy") from None
            at, size = os.fstat(fd).st_size, part["size"]
            if at != order["offset"]:
                raise Refusal("offset", offset=at)
            while at < size:
                data = source.read1(min(size - at, PIECE))  # type: ignore[attr-defined]
                if not data:
                    return {"offset": at, "name": ""}
                while data:
                    written = os.write(fd, data)
                    at, data = at + written, data[written:]
            return {"offset": at, "name": self._land(key, part, fd)}
        finally:
            os.close(fd)

    def cancel(self, order: "dict[str, Any]") -> "dict[str, Any]":
        """Forget an upload."""
        self._part(order["id"])
        self._remove(order["id"])
        return {}

    def sweep(self) -> None:
        """Forget those that nobody goes on with."""
        oldest = time.time() - ABANDONED
        for name in os.listdir(self._fd):
            with contextlib.suppress(OSError):  # another agent was faster
                if os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mtime < oldest:
                    os.unlink(name, dir_fd=self._fd)

    def _came(self, key: str, size: int) -> int:
        """Only what has landed, and what was given up, has no file any more but still its note."""
        try:
            return os.stat(key, dir_fd=self._fd, follow_symlinks=False).st_size
        except FileNotFoundError:
            return size

    def _coming(self) -> int:
        """Bytes of all that is under way."""
        names = set(os.listdir(self._fd))
        return sum(self._part(name)["size"] for name in names if name + ".json" in names)

    def _part(self, key: str) -> "dict[str, Any]":
        """What was noted of an upload; the account's own processes may have written anything there."""
        try:
            if not key.isalnum():
                raise Refusal("missing", key)
            with open(os.open(key + ".json", READ, dir_fd=self._fd)) as file:
                found = json.loads(file.read(LONGEST_PART))
            part = {name: str(found[name]) for name in ("name", "path", "clash")}
            return dict(part, size=int(found["size"]))
        except (OSError, ValueError, LookupError, TypeError):
            raise Refusal("missing", key) from None

    def _remove(self, key: str) -> None:
        for name in (key, key + ".json"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._fd)

    def _check_clash(self, part: "dict[str, Any]") -> None:
        name = _good_name(part["name"])
        fd = self._folder.open(names_of(part["path"]))
        try:
            is_folder = stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return
        finally:
            os.close(fd)
        if part["clash"] == "ask" or (part["clash"] == "replace" and is_folder):
            raise Refusal("clash", quote(name), folder=is_folder)

    def _check_room(self, size: int, quota: int) -> None:
        room = os.fstatvfs(self._fd)
        free = room.f_bavail * room.f_frsize
        if size > free:
            raise Refusal("full", free=free)
        if quota:
            used = self._folder.measure([], float("inf")) or 0
            left = quota - used - self._coming()
            if size > left:
                raise Refusal("quota", free=max(0, left), quota=quota)

    def _land(self, key: str, part: "dict[str, Any]", fd: int) -> str:
        """Have a whole upload be what it was sent for, in one step; returns the name that it got."""
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(fd, 0o666 & ~umask)
        os.fsync(fd)
        name = base = _good_name(part["name"])
        folder = self._folder.open(names_of(part["path"]))
        try:
            if part["clash"] == "replace":
                os.rename(key, name, src_dir_fd=self._fd, dst_dir_fd=folder)
            else:
                number = 1
                while not self._put(key, folder, name):
                    number += 1
                    stem, dot, suffix = base.rpartition(".") if "." in base[1:] else (base, "", "")
                    name = f"{stem} ({number}){dot}{suffix}"
        finally:
            os.close(folder)
        return quote(name)

    def _put(self, key: str, folder: int, name: str) -> bool:
        """Have an upload be in `folder` as `name`, in one step; whether there was none of that name."""
        try:
            os.link(key, name, src_dir_fd=self._fd, dst_dir_fd=folder, follow_symlinks=False)
            os.unlink(key, dir_fd=self._fd)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            try:  # where there are no hard links, an empty file takes the name, and that is replaced
                os.close(os.open(name, NEW, 0o600, dir_fd=folder))
            except FileExistsError:
                return False
            os.rename(key, name, src_dir_fd=self._fd, dst_dir_fd=folder)
        return True


def _good_name(quoted: str) -> str:
    """The name of a file that is sent to us. Raises Refusal for one that no file should have."""
    data = unquote_to_bytes(quoted)
    name = os.fsdecode(data)
    is_odd = any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
    if (
        not data.strip()
        or data in (b".", b"..", UPLOADS.encode())
        or b"/" in data
        or is_odd
        or len(data) > LONGEST_NAME
    ):
        raise Refusal("name", quoted)
    return name
