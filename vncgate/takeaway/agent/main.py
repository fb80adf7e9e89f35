"""The agent: a program that reads and writes one account's folder, as the account's user, on whichever host has it.

It is the modules of this package, of the standard library alone and of Python 3.6's grammar; `agents.py` sends them to
an interpreter's standard input, so that nothing is installed on the host. On the input follow one line of JSON, the
order, and with `append` the bytes to be written. The answer is one line of JSON, and with `read` and `pack` the bytes
that were asked for follow it. The exit status is 0 where all of them were written.

    order   {"do": "list" | "read" | "pack" | "create" | "offset" | "append" | "cancel", "root": FOLDER, ...}
    answer  {...}, or {"error": KIND, "about": NAME, ...}; the kinds are those of `Refusal`

Names travel percent-encoded ("a/b%20c"), because they are bytes and need not be UTF-8.
"""

import contextlib
import json
import os
import resource
import signal
import stat
import sys
import time

from vncgate.takeaway.agent.archives import Output, Tar, Zip
from vncgate.takeaway.agent.folder import KINDS, READ, UPLOADS, Folder, Refusal, kind_of, names_of, quote, shown, why
from vncgate.takeaway.agent.uploads import Uploads

MYPY = False  # typing costs time, and what it has is not in every version
if MYPY:
    from typing import Any, BinaryIO, Union

    Archive = Union[Tar, Zip]  # noqa: UP007 - in the grammar of old versions

LOOK = 2.0
"""Seconds for adding up what is in the folders of a list."""
LONGEST_LIST = 2000
"""Entries of a list."""
MOST_PROBLEMS = 10000
"""Lines of the list of what is not in an archive."""


def obey(order: "dict[str, Any]", source: "BinaryIO") -> "dict[str, Any] | None":
    """Do what an order says; returns the answer, or None where it was written already. Raises Refusal, or OSError."""
    deed = order["do"]
    if deed == "pack":
        Packing(order).pack()
        return None
    folder = Folder(order["root"])
    if deed == "read":
        read(folder, order)
        return None
    if deed in ("list", "create"):
        with contextlib.suppress(OSError):  # there are none, or none that we may remove
            Uploads(folder).sweep()
    if deed == "list":
        return contents(folder, names_of(order["path"]))
    uploads = Uploads(folder, make=deed == "create")
    if deed == "append":
        return uploads.append(order, source)
    return {"create": uploads.create, "offset": uploads.offset, "cancel": uploads.cancel}[deed](order)


def contents(folder: Folder, names: "list[str]") -> "dict[str, Any]":
    """What is in a folder: [name, kind, size or null, time] each, folders first; and what there is room for.

    Folders have the size of all that is in them, where that could be added up in time.
    """
    entries = []
    fd = folder.open(names)
    try:
        for name in os.listdir(fd):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if names or name != UPLOADS:
                    entries.append((not stat.S_ISDIR(status.st_mode), name, status))
    finally:
        os.close(fd)
    entries.sort(key=lambda entry: entry[:2])
    end = time.monotonic() + LOOK
    rows, total = [], 0  # type: list[list[Any]], int | None
    for is_no_folder, name, status in entries:
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0 if is_no_folder else None
        if size is None:
            size = folder.measure([*names, name], end)
        total = None if total is None or size is None else total + size
        if len(rows) < LONGEST_LIST:
            rows.append([quote(name), kind_of(status.st_mode), size, status.st_mtime])
    room = os.fstatvfs(folder.fd)
    free = room.f_bavail * room.f_frsize
    return {"entries": rows, "more": len(entries) - len(rows), "total": total, "free": free}


def read(folder: Folder, order: "dict[str, Any]") -> None:
    """The file `path`; or where `tag` is empty or its own, the part that `start` and `stop` name as in a slice."""
    names = names_of(order["path"]) or [""]
    fd = folder.open(names[:-1])
    try:
        if not stat.S_ISREG(os.stat(names[-1], dir_fd=fd, follow_symlinks=False).st_mode):
            raise Refusal("missing", order["path"])
        file = os.open(names[-1], READ, dir_fd=fd)
    finally:
        os.close(fd)
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):  # it was a moment ago
        raise Refusal("missing", order["path"])
    size, tag = status.st_size, f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
    start, stop = (order["start"], order["stop"]) if order["tag"] in ("", tag) else (None, None)
    first, last, _ = slice(start, stop).indices(size)
    is_part = start is not None or stop is not None
    answer({"size": size, "mtime": status.st_mtime, "tag": tag, "start": first, "stop": last, "part": is_part})
    output = Output()
    if first < last and output.move(file, first, last - first) < last - first:
        sys.exit(1)
    output.flush()


class Packing:
    """An archive of the `paths`, or of all. Every name in it begins with `name`/, but for that of the list of what is
    missing.
    """

    def __init__(self, order: "dict[str, Any]") -> None:
        self._problems = []  # type: list[tuple[str, str]]
        self._unlisted = 0
        self._folder = Folder(order["root"], self._told)
        self._name = order["name"]
        self._paths = sorted({tuple(names_of(path)) for path in order["paths"]} or {()})
        self._format = order["format"]

    def pack(self) -> None:
        """Write it."""
        answer({})
        archive = Tar(Output()) if self._format == "tar" else Zip(Output())  # type: Archive
        chosen = set(self._paths)
        for path in self._paths:
            if not any(path[:end] in chosen for end in range(len(path))):
                with self._told_of("/".join(path)):
                    self._add(archive, list(path))
        if self._problems:
            lines = [f"{shown(path) or 'the folder'}: {words}" for path, words in self._problems]
            lines += [f"and {self._unlisted} more"] if self._unlisted else []
            text = "What is not in this archive, or not as it was:\n\n" + "\n".join(lines) + "\n"
            archive.text(self._name + " - not packed.txt", text.encode())
        archive.close()

    def _add(self, archive: "Archive", names: "list[str]") -> None:
        fd = self._folder.open(names[:-1])
        try:
            status = os.stat(names[-1], dir_fd=fd, follow_symlinks=False) if names else os.fstat(fd)
            if not stat.S_ISDIR(status.st_mode):
                self._add_entry(archive, "/".join(names), fd, names[-1], status)
                return
        finally:
            os.close(fd)
        archive.folder("/".join([self._name, *names]), status)
        for path, fd, name, status in self._folder.walk(names):
            with self._told_of(path):
                self._add_entry(archive, path, fd, name, status)

    def _add_entry(self, archive: "Archive", path: str, fd: int, name: str, status: os.stat_result) -> None:
        place = self._name + "/" + path
        if stat.S_ISDIR(status.st_mode):
            archive.folder(place, status)
        elif stat.S_ISLNK(status.st_mode):
            self._told(path, archive.link(place, status, os.readlink(name, dir_fd=fd)))
        elif stat.S_ISREG(status.st_mode):
            file = os.open(name, READ, dir_fd=fd)
            try:
                self._told(path, _add_file(archive, place, file))
            finally:
                os.close(file)
        else:
            self._told(path, f"it is a {kind_of(status.st_mode)}")

    @contextlib.contextmanager
    def _told_of(self, path: str) -> "Any":
        try:
            yield
        except OSError as error:
            self._told(path, why(error))

    def _told(self, path: str, words: str) -> None:
        if words and len(self._problems) < MOST_PROBLEMS:
            self._problems.append((path, words))
        elif words:
            self._unlisted += 1


def _add_file(archive: "Archive", place: str, file: int) -> str:
    """Add a file that is open; returns what is not as it was."""
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):  # it was a moment ago
        return f"it is a {kind_of(status.st_mode)}"
    size = status.st_size
    got = archive.file(place, file, status)
    now = os.fstat(file)
    if got < size:
        return f"only {got} of its {size} bytes could be read; zeros stand for the others"
    if now.st_size > size:
        return f"it grew while it was read; its first {size} bytes are here"
    return "" if now.st_mtime_ns == status.st_mtime_ns else "it was written to while it was read"


def answer(what: "dict[str, Any]") -> None:
    """Write an answer's line."""
    line = json.dumps(what).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


def main(source: "BinaryIO") -> None:
    """Do the one order that stands on the first line of `source`."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever asked is gone: so are we
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        said = obey(json.loads(source.readline().decode()), source)
    except Refusal as refusal:
        said = refusal.answer
    except OSError as error:
        said = {"error": KINDS.get(error.errno or 0, "failed"), "about": str(error.strerror)}
    if said is not None:
        answer(said)
