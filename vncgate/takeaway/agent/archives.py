"""Archives as they are written: tar and zip, to standard output, as their files are read."""

import errno
import io
import os
import stat
import struct
import tarfile
import time
import zipfile
from urllib.parse import quote_from_bytes

from vncgate.takeaway.agent.folder import shown

MYPY = False  # typing costs time, and what it has is not in every version
if MYPY:
    from typing import Any

PIECE = 1 << 20
"""Bytes that are read at a time."""
SMALL = 1 << 16
"""Files up to this size go through the output's buffer; larger ones are moved by the kernel where it can."""
MOST_PIECES = 10000
"""Pieces of data between the holes of a file that is still packed as a sparse one."""
ZEROS = bytes(PIECE)


def holes_of(fd: int, status: os.stat_result) -> "list[tuple[int, int]]":
    """Where the data of a file is, as (offset, size), between holes that nobody need read: lseek(2), SEEK_DATA."""
    size = status.st_size
    if status.st_blocks * 512 >= size:
        return [(0, size)]
    at, pieces = 0, []  # type: int, list[tuple[int, int]]
    while at < size and len(pieces) <= MOST_PIECES:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
            end = min(size, os.lseek(fd, at, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:  # no more data
                return pieces
            return [(0, size)]
        if end > at:
            pieces.append((at, end - at))
        at = max(end, at + 1)
    return pieces if at >= size else [(0, size)]


class Output(io.RawIOBase):
    """Standard output: what is small is collected, and what is large is moved by the kernel where it is a pipe."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._splice = getattr(os, "splice", None)  # from Python 3.10 on

    def writable(self) -> bool:
        """Whether it is for writing."""
        return True

    def write(self, data: "Any") -> int:
        """Write all of it."""
        self._buffer += data
        if len(self._buffer) >= SMALL:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Have nothing left."""
        view = memoryview(self._buffer)
        while view:
            view = view[os.write(1, view) :]
        self._buffer = bytearray()

    def move(self, fd: int, offset: int, size: int) -> int:
        """Write what stands in a file; returns how much of it there was."""
        end, at = offset + size, offset
        if size > SMALL:
            self.flush()
        while at < end:
            try:
                if self._splice and size > SMALL:
                    moved = self._splice(fd, 1, min(end - at, PIECE), offset_src=at)
                else:
                    moved = self.write(os.pread(fd, min(end - at, PIECE), at))
            except OSError as error:
                if self._splice and error.errno in (errno.EINVAL, errno.ENOSYS):
                    self._splice = None
                    continue
                break  # it cannot be read; nor was what it could not be written to: that ends us
            if not moved:
                break
            at += moved
        return at - offset


class Tar:
    """A tar archive in the format of POSIX.1-2001 (pax), with holes as GNU tar has them (sparse format 1.0)."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._written = 0

    def folder(self, name: str, status: os.stat_result) -> None:
        """Add a folder."""
        self._head(name, status, tarfile.DIRTYPE)

    def link(self, name: str, status: os.stat_result, target: str) -> str:
        """Add a symbolic link, as that; returns why it could not."""
        self._head(name, status, tarfile.SYMTYPE, linkname=target)
        return ""

    def text(self, name: str, text: bytes) -> None:
        """Add a file of ours."""
        self._put(self._info(name, time.time(), 0o644, tarfile.REGTYPE, size=len(text)))
        self._pad(self._output.write(text), 512)

    def file(self, name: str, fd: int, status: os.stat_result) -> int:
        """Add a file; returns how many of its bytes could be read. What is missing is zeros."""
        size, pieces = status.st_size, holes_of(fd, status)
        if pieces == [(0, size)]:
            self._head(name, status, tarfile.REGTYPE, size=size)
            got = self._data(fd, 0, size)
            self._pad(size, 512)
            return got
        # The last piece ends where the file does, even if it is empty.
        pieces = [*pieces, (size, 0)]
        plan = "".join(f"{number}\n" for number in [len(pieces), *sum(pieces, ())]).encode()
        plan += bytes(-len(plan) % 512)
        length = len(plan) + sum(piece[1] for piece in pieces)
        sparse = {"major": "1", "minor": "0", "name": name, "realsize": str(size)}
        more = {"GNU.sparse." + key: value for key, value in sparse.items()}
        parent, _, last = name.rpartition("/")
        self._head(parent + "/GNUSparseFile.0/" + last, status, tarfile.REGTYPE, size=length, pax_headers=more)
        self._output.write(plan)
        lacking = sum(length - self._data(fd, offset, length) for offset, length in pieces)
        self._pad(length, 512)
        return size - lacking

    def close(self) -> None:
        """Write the end."""
        self._output.write(bytes(1024))
        self._written += 1024
        self._pad(self._written, tarfile.RECORDSIZE)
        self._output.flush()

    def _data(self, fd: int, offset: int, size: int) -> int:
        got = self._output.move(fd, offset, size)
        for left in range(size - got, 0, -PIECE):
            self._output.write(ZEROS[:left])
        return got

    def _head(self, name: str, status: os.stat_result, kind: bytes, **more: "Any") -> None:
        self._put(self._info(name, status.st_mtime, status.st_mode & 0o777, kind, **more))

    def _info(self, name: str, mtime: float, mode: int, kind: bytes, **more: "Any") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        for key, value in dict(more, mtime=int(mtime), mode=mode, type=kind).items():
            setattr(info, key, value)
        return info

    def _put(self, info: tarfile.TarInfo) -> None:
        head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        self._output.write(head)
        self._written += len(head) + info.size + (-info.size % 512)

    def _pad(self, size: int, block: int) -> None:
        self._output.write(bytes(-size % block))


class Zip:
    """A zip archive whose files are stored as they are, but for those with holes. Names in it are UTF-8; bytes of a
    name that are not, and what a system may take for something else, are percent-encoded.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._zip = zipfile.ZipFile(_Stream(output), "w", zipfile.ZIP_STORED)  # type: ignore[call-overload]

    def folder(self, name: str, status: os.stat_result) -> None:
        """Add a folder."""
        self._zip.writestr(self._info(name + "/", status.st_mtime, status.st_mode), b"")

    def link(self, name: str, status: os.stat_result, target: str) -> str:  # noqa: ARG002 - as Tar has it
        """Add nothing: programs that open zip archives make files of links. Returns that."""
        return "a zip archive has no links; this one leads to " + shown(target)

    def text(self, name: str, text: bytes) -> None:
        """Add a file of ours."""
        self._zip.writestr(self._info(name, time.time(), stat.S_IFREG | 0o644), text)

    def file(self, name: str, fd: int, status: os.stat_result) -> int:
        """Add a file; returns how many of its bytes could be read. What is missing is zeros."""
        size, pieces = status.st_size, holes_of(fd, status)
        info = self._info(name, status.st_mtime, status.st_mode)
        info.file_size = size
        if pieces != [(0, size)]:
            info.compress_type = zipfile.ZIP_DEFLATED
            for level in ("_compresslevel", "compress_level"):  # before and from Python 3.13 on
                if hasattr(info, level):
                    setattr(info, level, 1)
        lacking = at = 0
        with self._zip.open(info, "w", force_zip64=size >= 1 << 31) as entry:
            for offset, length in [*pieces, (size, 0)]:
                self._zeros(entry, offset - at)
                at, got = offset + length, self._copy(entry, fd, offset, length)
                lacking += length - got
                self._zeros(entry, length - got)
        return size - lacking

    def close(self) -> None:
        """Write the directory of it all."""
        self._zip.close()
        self._output.flush()

    def _copy(self, entry: "Any", fd: int, offset: int, size: int) -> int:
        got = 0
        while got < size:
            try:
                data = os.pread(fd, min(size - got, PIECE), offset + got)
            except OSError:
                break
            if not data:
                break
            got += entry.write(data)
        return got

    def _zeros(self, entry: "Any", size: int) -> None:
        for left in range(size, 0, -PIECE):
            entry.write(ZEROS[:left])

    def _info(self, name: str, mtime: float, mode: int) -> zipfile.ZipInfo:
        date = time.localtime(min(max(mtime, 315619200), 4354732800))[:6]  # what a zip archive can tell: 1980 to 2107
        base, number = _zip_name(name), 1
        name = base
        while name in self._zip.NameToInfo and not name.endswith("/"):
            number += 1
            name = f"{base} ({number})"
        info = zipfile.ZipInfo(name, date)
        info.external_attr = (mode & 0o777 | stat.S_IFMT(mode)) << 16
        if 0 <= mtime < 1 << 31:
            info.extra = struct.pack("<HHBl", 0x5455, 5, 1, int(mtime))  # as Info-ZIP has it: in UTC, to the second
        return info


class _Stream:
    """What zipfile sees: something to write to, and no more."""

    def __init__(self, output: Output) -> None:
        self.write, self.flush = output.write, output.flush


def _zip_name(name: str) -> str:
    def safely(data: bytes) -> str:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return quote_from_bytes(data, safe="/ ")
        safe = (
            letter if letter.isprintable() and letter != "\\" else quote_from_bytes(letter.encode()) for letter in text
        )
        return "".join(safe)

    return "/".join(safely(part) for part in os.fsencode(name).split(b"/"))
