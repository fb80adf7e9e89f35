"""Archives of accounts' folders that are built beforehand: ACCOUNT.zip in a folder that the daemon alone may enter.

ACCOUNT.zip.wanted says that one is to be built: it goes when that is done or has failed, so a gate that was killed in
the middle begins anew. ACCOUNT.zip.sha256 is what `sha256sum -c` reads, and stands before its archive does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from vncgate import tasks
from vncgate.errors import ControlError, FilesError, SettingsError
from vncgate.model import Account, Roster
from vncgate.takeaway.agents import Agents

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Archives that are built at the same time."""
SWEEP = 3600.0
"""Seconds between two looks for archives that are too old."""
DAY = 86400.0
SUFFIX = ".zip"


@dataclass(slots=True)
class Built:
    """How the archive of an account is. `state`: "none", "waiting", "building", "ready", "failed"; `reason` of that.

    `bytes` are those there are, `when` it was finished (seconds since the epoch), `sha256` in hex.
    """

    account: str
    state: str = "none"
    bytes: int = 0
    when: float = 0.0
    sha256: str = ""
    reason: str = ""


def prepare(folder: Path) -> None:
    """Have the folder of archives, which we alone may enter. It blocks; raises SettingsError where none can be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"files.archives: {folder} cannot be used: {error.strerror}") from None


class Archives:
    """Builds archives, and keeps them for some days."""

    def __init__(self, folder: Path, days: float, agents: Agents, roster: Callable[[], Roster]) -> None:
        self._folder = folder
        self._days = days
        self._agents = agents
        self._roster = roster
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._building: dict[str, asyncio.Task[None]] = {}
        self._built: dict[str, Built] = {}

    async def start(self) -> None:
        """Take up what is there, and go on with what was not done. Raises SettingsError where no folder can be."""
        try:
            wanted = await asyncio.to_thread(self._take_up)
        except OSError as error:
            raise SettingsError(f"files.archives: {self._folder} cannot be used: {error.strerror}") from None
        for name in wanted:
            if name in self._roster():
                self._begin(name)

    async def run(self) -> None:
        """Remove archives that are too old, until cancelled."""
        while True:
            oldest = time.time() - self._days * DAY
            try:
                await self.remove([name for name, built in self._built.items() if 0 < built.when < oldest])
            except OSError as error:
                log.warning("archives that are too old cannot be removed: %s", error.strerror)
            await asyncio.sleep(SWEEP)

    async def aclose(self) -> None:
        """Stop building; the next gate goes on."""
        await tasks.end(*self._building.values())

    async def build(self, names: Sequence[str] = ()) -> list[str]:
        """Have archives built, all or those of these accounts (`ws0*`), in place of any before; returns whose. Raises
        ControlError for a name that is not there.
        """
        meant = chosen(names, self._roster())
        for name in meant:
            await asyncio.to_thread(self._path(name, ".wanted").touch, 0o600)
            if name not in self._building:
                self._begin(name)
        return meant

    async def wait(self) -> None:
        """Until all that is wanted now is built, or has failed."""
        if self._building:
            await asyncio.wait(list(self._building.values()))

    def statuses(self) -> list[Built]:
        """How they are, in the order of the accounts, and then those of accounts that are gone."""
        names = dict.fromkeys((*self._roster(), *self._built))
        return [self._built.get(name) or Built(name) for name in names]

    def status(self, name: str) -> Built:
        """How that of one account is."""
        return self._built.get(name) or Built(name)

    def path(self, name: str) -> Path | None:
        """Where the archive of an account is, if it has one."""
        path = self._path(name)
        return path if self.status(name).sha256 else None

    async def remove(self, names: Sequence[str] = ("*",)) -> list[str]:
        """Remove archives, those of these accounts, and have none built; returns whose there were. Raises ControlError
        for a name that is not there.
        """
        known = {**self._built, **self._roster()}
        meant = [name for name in chosen(names, known) if name in self._built] if names else []
        for name in meant:
            if task := self._building.pop(name, None):
                await tasks.end(task)
            await asyncio.to_thread(self._unlink, name, "", ".sha256", ".part", ".wanted")
            self._built.pop(name, None)
        return meant

    def _path(self, name: str, suffix: str = "") -> Path:
        return self._folder / f"{name}{SUFFIX}{suffix}"

    def _unlink(self, name: str, *suffixes: str) -> None:
        for suffix in suffixes:
            self._path(name, suffix).unlink(missing_ok=True)

    def _take_up(self) -> list[str]:
        prepare(self._folder)
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError, IndexError):
                status, name = path.stat(), path.name.removesuffix(SUFFIX)
                digest = self._path(name, ".sha256").read_text().split()[0]
                self._built[name] = Built(name, "ready", status.st_size, status.st_mtime, digest)
        for path in self._folder.glob(f"*{SUFFIX}.part"):
            path.unlink()
        return [path.name.removesuffix(f"{SUFFIX}.wanted") for path in self._folder.glob(f"*{SUFFIX}.wanted")]

    def _begin(self, name: str) -> None:
        built = self._built.setdefault(name, Built(name))
        built.state, built.reason = "waiting", ""
        self._building[name] = task = tasks.spawn(self._build(self._roster()[name], built), f"archive of {name}")
        task.add_done_callback(lambda _: self._building.pop(name, None))

    async def _build(self, account: Account, built: Built) -> None:
        async with self._turns:
            built.state, built.bytes = "building", 0
            try:
                built.sha256 = await self._write(account, built)
                built.state, built.when = "ready", time.time()
                log.info("the archive of %s is built: %d bytes", account.name, built.bytes, extra=_about(account))
            except (FilesError, OSError) as error:
                built.state, built.reason = "failed", self._why(error)
                log.warning("no archive of %s: %s", account.name, built.reason, extra=_about(account))
            await asyncio.to_thread(self._unlink, account.name, ".wanted")

    async def _write(self, account: Account, built: Built) -> str:
        """Have the archive written, and put in its place; returns its SHA-256. Of one that fails nothing is left."""
        part, digest = self._path(account.name, ".part"), hashlib.sha256()
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                async with self._agents.ask(account, do="pack", paths=[], name=account.name, format="zip") as asked:
                    while data := await asked.read():
                        await asyncio.to_thread(_put, fd, data, digest)
                        built.bytes += len(data)
                await asyncio.to_thread(os.fsync, fd)
            finally:
                os.close(fd)
            line = f"{digest.hexdigest()}  {account.name}{SUFFIX}\n"
            await asyncio.to_thread(self._settle, account.name, line)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return digest.hexdigest()

    def _settle(self, name: str, line: str) -> None:
        self._unlink(name, "")  # an archive never stands beside the sum of another
        self._path(name, ".sha256").write_text(line)
        self._path(name, ".part").rename(self._path(name))

    def _why(self, error: Exception) -> str:
        if isinstance(error, OSError):
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return f"the disk of {self._folder} is full: make room there, and build it again"
            return f"{self._folder} cannot be written to: {error.strerror}"
        return str(error)


def chosen(names: Sequence[str], known: Mapping[str, Any]) -> list[str]:
    """The names that are meant by names and patterns, none meaning all. Raises ControlError for one that means none."""
    for name in names:
        if not any(fnmatchcase(each, name) for each in known) and name != "*":
            raise ControlError(f"there is no account {name}")
    return [each for each in known if not names or any(fnmatchcase(each, name) for name in names)]


def _put(fd: int, data: bytes, digest: Any) -> None:
    digest.update(data)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _about(account: Account) -> dict[str, str]:
    return {"account": account.name}
