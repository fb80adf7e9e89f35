"""Reading a token file: its bytes, and the warnings that need the operating system."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from vncgate.errors import TokensError
from vncgate.tokens import Parsed, mode_problem, parse

X_SOCKETS = Path("/tmp/.X11-unix")  # noqa: S108 (its place is fixed: Xserver(1), Xtrans)
"""Where the X servers of a host have their sockets, X and the number of the display each."""


def load_tokens(path: Path, x_sockets: Path = X_SOCKETS) -> Parsed:
    """The accounts and all problems of a token file. It blocks on the disk.

    Raises TokensError when the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read()
    except OSError as error:
        raise TokensError(f"{path}: cannot be read: {error.strerror}") from None
    parsed = parse(data, displays=_displays(x_sockets))
    readable = mode_problem(status.st_mode) if stat.S_ISREG(status.st_mode) else None
    return Parsed(parsed.roster, (readable, *parsed.problems)) if readable else parsed


def _displays(folder: Path) -> frozenset[int]:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return frozenset()
    return frozenset(int(name[1:]) for name in names if re.fullmatch(r"X[0-9]{1,5}", name))
