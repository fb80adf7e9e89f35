"""Home folders that a gate makes as root for others, who may change the way to them while it goes there."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from vncgate.errors import LaunchError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # as the kernel follows: path_resolution(7)


def make_home(home: Path, owner: tuple[int, int] | None) -> None:
    """Make a home folder (0700) where there is none, of the user and group `owner` (None: ours); the folders above it
    are made as for anybody.

    It goes step by step, from folder to folder that it holds open, and follows no links but ours and root's: a link
    that the owner puts in the way would have another folder be given to them. Raises LaunchError for such a link, and
    OSError.
    """
    if home.is_dir():
        return
    names, links = list(reversed(home.parts[1:])), 0
    folder = os.open("/", _FOLDER)
    try:
        while names:
            name = names.pop()
            with suppress(FileExistsError):
                os.mkdir(name, 0o755 if names else 0o700, dir_fd=folder)
                if not names:
                    _give(name, owner, folder)
            its = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(its.st_mode):
                links += 1
                if its.st_uid not in (0, os.geteuid()) or links > _MOST_LINKS:
                    raise LaunchError(f"{home} cannot be made: {name} is a link on the way there, and not root's")
                target = Path(os.readlink(name, dir_fd=folder))
                names += reversed([part for part in target.parts if part != "/"])
                if target.is_absolute():
                    folder = _open("/", folder)
            else:
                folder = _open(name, folder)
    finally:
        os.close(folder)


def _open(name: str, folder: int) -> int:
    """Go from an open folder to another."""
    inner = os.open(name, _FOLDER, dir_fd=folder)
    os.close(folder)
    return inner


def _give(name: str, owner: tuple[int, int] | None, folder: int) -> None:
    """Give away a folder that was made a moment ago, and no other that was put in its place."""
    if owner is None:
        return
    made = os.open(name, _FOLDER, dir_fd=folder)
    try:
        if os.fstat(made).st_uid != os.geteuid() or os.listdir(made):  # noqa: PTH208 (a descriptor)
            raise LaunchError(f"{name}: somebody put another folder in the place of this new home")
        os.fchown(made, *owner)
    finally:
        os.close(made)
