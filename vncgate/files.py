"""Writing files that others read: whole or not at all.

Apache, the operator and our own watcher may read at any moment, so a file changes in one step, by rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path


def state_folder(environ: Mapping[str, str], uid: int) -> Path:
    """Where what must outlive the daemon is kept: systemd.exec(5), StateDirectory=; XDG's base directories."""
    if state := environ.get("STATE_DIRECTORY"):
        return Path(state.partition(":")[0])
    if uid == 0:
        return Path("/var/lib/vncgate")
    return Path(environ.get("XDG_STATE_HOME") or f"{environ.get('HOME', '')}/.local/state") / "vncgate"


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder, in whose name `~` may stand; it is taken for there where only others may
    see it.
    """
    try:
        os.stat(os.path.expanduser(path))  # noqa: PTH111, PTH116  (Path's raises for a user who is not known)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> bool:
    """Make `data` the content of `path` in one step, and say whether anything had to be written.

    Where a file stands already, its mode and owner are kept; a new one gets exactly `mode`, whatever the umask.
    A symlink stays a link: the file it leads to is replaced. The same content touches nothing and returns
    False. On any failure the old file stands and no other file stays behind.

    It blocks on the disk. Raises OSError, also where the owner cannot be kept, and where `path` is no regular file.
    """
    target = Path(os.path.realpath(path))
    old = _regular_file(target)
    if old is not None and old.st_size == len(data) and target.read_bytes() == data:
        return False
    # No suffix that an Include of *.conf or the like would pick up, and short, for the longest of names.
    descriptor, temporary = tempfile.mkstemp(prefix=".vncgate-", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, no path)
            file.write(data)
            file.flush()
            # The mode comes after the owner: chown(2) clears the set-user-ID bits. Only where it must be: the
            # sandbox of the service refuses the call itself.
            if old is not None and _owner(os.fstat(descriptor)) != _owner(old):
                os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, mode if old is None else stat.S_IMODE(old.st_mode))
            os.fsync(descriptor)
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    _sync_directory(target.parent)
    return True


def write_private(path: Path, data: bytes, *, over: bool = False) -> None:
    """Make a file, whole and with mode 0600, that was not there; with `over`, also in the place of one that was.

    It blocks on the disk. Raises FileExistsError, or another OSError; then all is as it was.
    """
    if not over:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # its name is ours from here on
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".vncgate-", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, no path)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink()
            raise
    except BaseException:
        if not over:
            path.unlink()
        raise


def _regular_file(path: Path) -> os.stat_result | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return found


def _owner(status: os.stat_result) -> tuple[int, int]:
    return status.st_uid, status.st_gid


def _sync_directory(path: Path) -> None:
    # The new file stands already, and some shares refuse fsync on a directory: not a failure of the write.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
