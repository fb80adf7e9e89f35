"""Removing the folders of sessions, in which their users may have put anything, as deep as they like.

No link is followed, only a few files are open at a time, and nothing calls itself: a folder is moved up into that of
the session before it is emptied. One in which something is mounted cannot be moved, and so is not entered.
"""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

LEFT = "left."
"""With the nonce behind it, the name of a folder of which something could not be removed."""

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_session(folder: Path) -> None:
    """Remove a session's folder, where there is one; also while what ends in there still removes files of its own.

    What cannot be removed, as it is mounted or somebody else's, is put aside and told in the log; it is tried again
    with every session that is removed later. Raises OSError where not even that can be done.
    """
    for left in folder.parent.glob(f"{LEFT}*"):
        with suppress(OSError):
            _remove(left)
    try:
        _remove(folder)
    except OSError as error:
        left = folder.with_name(f"{LEFT}{folder.name}")
        folder.rename(left)
        log.warning("%s stays, and is tried again later: %s", left, error.strerror)


def _remove(folder: Path) -> None:
    """Remove a folder, or as much as can be of it. Raises the first error."""
    with suppress(FileNotFoundError):
        parent = os.open(folder.parent, _FOLDER)
        try:
            top = _entered(folder.name, parent)
            try:
                errors = _empty(top)
            finally:
                os.close(top)
            if errors:
                raise errors[0]
            os.rmdir(folder.name, dir_fd=parent)
        finally:
            os.close(parent)


def _empty(top: int) -> list[OSError]:
    errors: list[OSError] = []
    waiting = _moved(top, top, errors)
    while waiting:
        name = waiting.pop()
        try:
            inner = _entered(name, top)
            try:
                waiting += _moved(inner, top, errors)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)
        except FileNotFoundError:
            pass
        except OSError as error:
            errors.append(error)
    return errors


def _moved(folder: int, top: int, errors: list[OSError]) -> list[str]:
    """Remove the files of an open folder, and move the folders in it up to `top`; returns their names there."""
    names = []
    for name in os.listdir(folder):
        try:
            try:
                os.unlink(name, dir_fd=folder)
            except IsADirectoryError:
                names.append(_move(name, folder, top))
        except FileNotFoundError:
            pass
        except OSError as error:
            errors.append(error)
    return names


def _move(name: str, folder: int, top: int) -> str:
    new = secrets.token_hex(16)
    try:
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
    except PermissionError:  # only one that may be written gets another parent: rename(2)
        os.close(_entered(name, folder))
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
    return new


def _entered(name: str, folder: int) -> int:
    """A folder in an open one, opened; from now on its owner has all rights: Go's module cache may not be written."""
    its = os.open(name, os.O_PATH | _FOLDER, dir_fd=folder)
    path = f"/proc/self/fd/{its}"  # it alone, whatever has its name by now: proc(5)
    try:
        with suppress(PermissionError):
            os.chmod(path, 0o700)  # noqa: PTH101 (a descriptor)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(its)
