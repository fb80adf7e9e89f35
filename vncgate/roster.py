"""Reading a token file: its bytes, and the warnings that need the operating system."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import stat
from pathlib import Path

from vncgate import tasks
from vncgate.errors import TokensError
from vncgate.tokens import Parsed, mode_problem, parse

X_SOCKETS = Path("/tmp/.X11-unix")  # noqa: S108 (its place is fixed: Xserver(1), Xtrans)
"""Where the X servers of a host have their sockets, X and the number of the display each."""
READ_TIMEOUT = 10.0
"""Seconds that a token file may take to be read, before its share counts as hanging."""
LARGEST = 16 * 1024 * 1024
"""Bytes of a token file; one of ten thousand accounts has less than one million."""


def load_tokens(path: Path, x_sockets: Path = X_SOCKETS) -> Parsed:
    """The accounts and all problems of a token file. It blocks on the disk.

    Raises TokensError when the file cannot be read, or is larger than any token file is.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            # A device has no size, and need not have an end.
            data = b"" if status.st_size > LARGEST else file.read(LARGEST + 1)
    except OSError as error:
        raise TokensError(f"{path}: cannot be read: {error.strerror}") from None
    if max(status.st_size, len(data)) > LARGEST:
        raise TokensError(f"{path}: is larger than {LARGEST >> 20} MiB: is it a token file?")
    return parse_tokens(data, status.st_mode, x_sockets)


def parse_tokens(data: bytes, mode: int, x_sockets: Path = X_SOCKETS) -> Parsed:
    """The accounts and all problems of a token file's content, and of its `mode` as stat(2) gives it."""
    parsed = parse(data, displays=_displays(x_sockets))
    readable = mode_problem(mode) if stat.S_ISREG(mode) else None
    return Parsed(parsed.roster, (readable, *parsed.problems)) if readable else parsed


async def read_tokens(path: Path, timeout: float = READ_TIMEOUT) -> Parsed:
    """`load_tokens()` for a loop that must not block: in a thread of its own, for `timeout` seconds at most.

    See tasks.in_thread(). Raises TokensError as it does, and when it takes longer.
    """
    try:
        async with asyncio.timeout(timeout):
            return await tasks.in_thread(functools.partial(load_tokens, path), f"read {path}")
    except TimeoutError:
        raise TokensError(f"{path}: cannot be read: no answer within {timeout:g} s; does its share hang?") from None
    except OSError as error:
        raise TokensError(f"{path}: cannot be read: {error.strerror}") from None


def _displays(folder: Path) -> frozenset[int]:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return frozenset()
    return frozenset(int(name[1:]) for name in names if re.fullmatch(r"X[0-9]{1,5}", name))
