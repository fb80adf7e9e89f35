"""What must outlive the daemon: by what it finds its desktops again, and how an account's last one ended. One small
JSON file each.

A desktop's file is written before the desktop's place is asked for it and removed when nothing of it is left, so that a
daemon that was killed at any moment leaves no desktop behind that the next one does not know of. No file has a
password.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from vncgate import tasks
from vncgate.files import replace_file
from vncgate.launchers.base import Handle
from vncgate.model import Desktop, DesktopState, Want
from vncgate.text import printable

log = logging.getLogger(__name__)

SUFFIX = ".json"
ENDED = ".ended"
"""Of the file that has an account's last ending; it is named after the account."""
LARGEST = 65536
"""Bytes of a file; one of ours has some hundreds."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Entry:
    """One desktop. `account` is empty while it waits in a pool; `requested` is seconds since the epoch.

    Its place was, or is about to be, `asked` for it; else it waits for its turn. `reason` is why it is wanted no
    more. `desktop` is where somebody could last log in to it. What it runs may have been `chosen` for it, in the
    place of what its account's line says.
    """

    handle: Handle
    account: str
    kind: str
    size: str
    want: Want
    requested: float
    restarts: int = 0
    asked: bool = True
    reason: str = ""
    desktop: Desktop | None = None
    chosen: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it is kept on disk."""
        return {
            "handle": self.handle.to_json(),
            "account": self.account,
            "kind": self.kind,
            "size": self.size,
            "want": self.want,
            "requested": self.requested,
            "restarts": self.restarts,
            "asked": self.asked,
            "reason": self.reason,
            "desktop": asdict(self.desktop) if self.desktop else None,
            "chosen": self.chosen,
        }

    @classmethod
    def from_json(cls, body: Any) -> Entry:
        """The reverse of `to_json()`. Raises KeyError, TypeError or ValueError for what is none."""
        return cls(
            handle=Handle.from_json(body["handle"]),
            account=str(body["account"]),
            kind=str(body["kind"]),
            size=str(body["size"]),
            want=Want(body["want"]),
            requested=_moment(body["requested"]),
            restarts=int(body["restarts"]),
            asked=bool(body["asked"]),
            reason=str(body.get("reason", "")),  # versions before this one wrote none
            desktop=Desktop(**found) if (found := body["desktop"]) else None,
            chosen=bool(body.get("chosen")),  # versions before this one wrote none
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """How an account's last desktop came to be STOPPED or FAILED, and when (seconds since the epoch). `tail` is the end
    of its log, where that says more than the reason.

    `what` stands for all that was to be started: a failure says nothing of something else. `chosen` are the
    kind and size that it had in the place of what its account's line says, where it FAILED.
    """

    account: str
    state: DesktopState
    reason: str
    since: float
    what: str
    tail: str = ""
    chosen: tuple[str, str] | None = None

    @classmethod
    def from_json(cls, body: Any) -> Ending:
        """The reverse of dataclasses.asdict(). Raises KeyError, TypeError or ValueError for what is none."""
        account, chosen = str(body["account"]), None
        if found := body.get("chosen"):  # versions before this one wrote none, and no tail
            kind, size = found
            chosen = str(kind), str(size)
        return cls(
            account=account,
            state=DesktopState(body["state"]),
            reason=str(body["reason"]),
            since=_moment(body["since"]),
            what=str(body["what"]),
            tail=str(body.get("tail", "")),
            chosen=chosen,
        )


class Store:
    """The files, in a folder of our own. Its methods use the disk in threads, and raise OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def load(self) -> list[Entry]:
        """All desktops, in the order in which they were asked for; the folder is made where it is missing.

        A file that is not one of ours, or is damaged, is told in the log and left alone.
        """
        return await asyncio.to_thread(self._load)

    async def put(self, entry: Entry) -> None:
        """Keep `entry`, in place of what was kept of the same start, and of how its account's last one ended."""
        await _whole(self._put, entry)

    async def conclude(self, ending: Ending) -> None:
        """Keep `ending`, in place of the account's last."""
        await _whole(replace_file, self._ending(ending.account), _data(asdict(ending)), mode=0o600)

    async def endings(self) -> list[Ending]:
        """Those that no desktop came after. A file that is not one of ours, or is damaged, is told as by `load()`."""
        return await asyncio.to_thread(self._load_endings)

    async def forget(self, accounts: Iterable[str]) -> None:
        """Keep no ending of these accounts."""
        for account in accounts:
            await _whole(self._ending(account).unlink, missing_ok=True)

    async def remove(self, handle: Handle) -> None:
        """Keep nothing of this start any more."""
        await _whole(self._file(handle).unlink, missing_ok=True)

    def _put(self, entry: Entry) -> None:
        replace_file(self._file(entry.handle), _data(entry.to_json()), mode=0o600)
        if entry.account:
            self._ending(entry.account).unlink(missing_ok=True)

    def _load(self) -> list[Entry]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        paths = sorted(path for path in self.folder.iterdir() if path.suffix != ENDED)
        found = [_read(path, SUFFIX, Entry.from_json, lambda entry: self._file(entry.handle)) for path in paths]
        return sorted(filter(None, found), key=lambda entry: entry.requested)

    def _load_endings(self) -> list[Ending]:
        paths = sorted(self.folder.glob(f"*{ENDED}"))
        found = [_read(path, ENDED, Ending.from_json, lambda ending: self._ending(ending.account)) for path in paths]
        return list(filter(None, found))

    def _file(self, handle: Handle) -> Path:
        return self.folder / (handle.nonce + SUFFIX)

    def _ending(self, account: str) -> Path:
        return self.folder / (account + ENDED)


def _moment(value: Any) -> float:
    """Seconds since the epoch; JSON, as Python reads it, has Infinity too."""
    if not math.isfinite(found := float(value)):
        raise ValueError(f"{found} is no time")
    return found


def _read(path: Path, suffix: str, from_json: Callable[[Any], Found], path_of: Callable[[Found], Path]) -> Found | None:
    """What `from_json` makes of a file, which is to have the name that `path_of` gives it; None: it is none of ours."""
    try:
        if path.suffix != suffix or not path.is_file() or path.stat().st_size > LARGEST:
            raise ValueError("it is no file of ours")
        found = from_json(json.loads(path.read_bytes()))
        if path_of(found) != path:
            raise ValueError("its name is not that of what is in it")
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        words = printable(f"{path}: {error or type(error).__name__}")
        log.warning("%s: left alone; is it a desktop's of this gate?", words)
        return None
    return found


def _data(body: object) -> bytes:
    return json.dumps(body).encode() + b"\n"


async def _whole(work: Callable[..., object], *args: Any, **named: Any) -> None:
    """Do it in a thread; who is cancelled meanwhile waits for it: a thread goes on, and would write after others."""
    task = tasks.spawn(asyncio.to_thread(work, *args, **named), "write a desktop's file", expected=OSError)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
