"""Who can read and write the files that we are told by, and those that Apache is told by."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vncgate.doctor.base import Case, Finding, Result

STEP = "files"
LEAST_FREE = 50 * 1024 * 1024
"""Bytes that should be free where we write."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file or folder: its mode and owner as stat(2) gives them, None where it is not there."""

    path: Path
    mode: int | None = None
    uid: int = 0


async def check(case: Case) -> list[Finding]:
    """Settings, Apache's snippet, the static pages, and the room on their disks."""
    settings = case.settings
    snippet, export = settings.apache.snippet, settings.landing.export
    findings = [
        *(commands(_see(case.config), "the gate") if case.config else ()),
        *(commands(_see(snippet), "Apache") if snippet else ()),
        *(pages(_see(export)) if export else ()),
    ]
    for folder in {path.parent for path in (snippet, case.control) if path} | ({export} if export else set()):
        if folder.is_dir():
            findings += room(folder, shutil.disk_usage(folder).free)
    return findings or [Finding(STEP, Result.OK, "only their owners can change them, and there is room on the disk")]


def commands(seen: Seen, whom: str) -> Iterator[Finding]:
    """A file that tells `whom` what to do must be changed by its owner alone."""
    if seen.mode is None:
        return
    if seen.mode & 0o022:
        others = "everybody" if seen.mode & 0o002 else "its group"
        message = f"{seen.path}: {others} can change it, and so command {whom} (mode {seen.mode & 0o7777:04o})"
        result = Result.ERROR if seen.mode & 0o002 else Result.WARNING
        yield Finding(STEP, result, message, f"chmod go-w {seen.path}")
    if whom == "Apache" and seen.uid != 0:
        message = f"{seen.path} belongs to user {seen.uid}, who so commands Apache (root's)"
        yield Finding(
            STEP, Result.WARNING, message, f"chown root {seen.path}, and have root write it (vncgate render apache)"
        )


def pages(seen: Seen) -> Iterator[Finding]:
    """The folder of the static pages: Apache, which is another user, must get at them, and nobody else change them."""
    if seen.mode is None:
        return  # the gate makes it
    if not stat.S_ISDIR(seen.mode):
        yield Finding(STEP, Result.ERROR, f"{seen.path} is no folder", "name another in landing.export")
    elif seen.mode & 0o005 != 0o005:
        yield Finding(STEP, Result.ERROR, f"{seen.path}: Apache may not read it", f"chmod o+rx {seen.path}")
    elif seen.mode & 0o002:
        message = f"{seen.path}: everybody can change what participants are shown"
        yield Finding(STEP, Result.ERROR, message, f"chmod o-w {seen.path}")


def room(folder: Path, free: int) -> Iterator[Finding]:
    """A full disk stops what we publish."""
    if free < LEAST_FREE:
        message = f"{folder}: only {free >> 20} MB are free on its disk"
        result = Result.ERROR if free < LEAST_FREE // 10 else Result.WARNING
        yield Finding(STEP, result, message, f"make room; see what is large: du -xsh {folder}/..")


def _see(path: Path) -> Seen:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return Seen(path)
    return Seen(path, found.st_mode, found.st_uid)
