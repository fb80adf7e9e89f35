"""Desktops that the gate starts itself, put together: places, the launcher, and the roster with its finds."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from vncgate.checks import root_desktops
from vncgate.errors import SettingsError
from vncgate.files import state_folder
from vncgate.kinds import AnyPlace, DesktopsSettings, DockerPlace, LocalPlace, SlurmPlace, SshPlace
from vncgate.launcher import Launcher
from vncgate.launchers.base import Place
from vncgate.launchers.scripts import Scripts
from vncgate.model import Account, AccountStatus, Desktop, Roster
from vncgate.store import Store

log = logging.getLogger(__name__)

USE_INTERVAL = 1.0
"""Seconds between two looks at who used their desktop; see desktop_ends.LATE_NEWS."""


def folder(settings: DesktopsSettings, environ: Mapping[str, str], uid: int) -> Path:
    """Where what must outlive the daemon is kept of them."""
    return settings.folder or state_folder(environ, uid) / "desktops"


class LaunchedDesktops:
    """The launched half of a gate. `login` is a full VNC login; `changed` is called when a status has news."""

    def __init__(
        self,
        settings: DesktopsSettings,
        root: Path,
        login: Callable[[Account], Awaitable[object]],
        changed: Callable[[frozenset[str]], None],
        *,
        is_blind: bool = False,
    ) -> None:
        """Raises SettingsError where desktops would run as root, and nobody said that they should.

        With `is_blind`, people may be connected to desktops through workers of a gate before this one that are
        unknown to this one: such a desktop is not ended as idle before somebody was seen to use it here.
        """
        if os.geteuid() == 0 and (problems := root_desktops(settings)):
            raise SettingsError("\n".join(problems))
        self._settings = settings
        self._root = root
        self._lock = -1
        self.launcher = Launcher(
            settings,
            _places(settings, root),
            store=Store(root / "handles"),
            login=login,
            changed=changed,
            is_blind=is_blind,
        )

    async def start(self) -> None:
        """Take up the desktops of the gate before. Raises SettingsError where the folder cannot be used."""
        if not self._settings.kinds:
            return
        try:
            if not self._root.is_dir():
                self._root.mkdir(parents=True)
                self._root.chmod(0o711)  # whatever the umask: accounts' own users have folders in it
            self._lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            await self.launcher.start()
        except BlockingIOError:
            raise SettingsError(f"desktops.folder: {self._root} is that of another gate, which runs") from None
        except OSError as error:
            raise SettingsError(f"desktops.folder: {self._root} cannot be used: {error.strerror}") from None

    def found(self, roster: Roster) -> Roster:
        """The roster with the desktops that run in the place of `-`."""
        located = self.launcher.located()
        return Roster(tuple(self._found(account, located.get(account.name)) for account in roster.accounts))

    async def keep_using(self, statuses: Callable[[], Iterable[AccountStatus]]) -> None:
        """Tell the launcher who uses their desktop, from now on."""
        while True:
            await asyncio.sleep(USE_INTERVAL)
            for status in statuses():
                if status.account.watch_input and status.traffic.used:
                    self.launcher.used(status.name, status.traffic.used)

    async def aclose(self) -> None:
        """Let go of all desktops; they stay."""
        await self.launcher.aclose()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _found(self, account: Account, desktop: Desktop | None) -> Account:
        if account.desktop is not None or desktop is None:
            return account
        status = self.launcher.status(account.name)
        name = status.kind if status else account.kind or self._settings.default_kind
        kind = self._settings.kinds.get(name)  # what runs, which need not be what its line says by now
        return dataclasses.replace(
            account,
            desktop=desktop,
            password=self.launcher.password(account.name) or account.password,
            watch_input=bool(kind and kind.idle_timeout),
        )


def _places(settings: DesktopsSettings, root: Path) -> dict[str, Place]:
    """The places that the settings name. Raises SettingsError for one that cannot be what it should."""
    scripts = Scripts(settings.templates)
    names = {*settings.places, "local"} if settings.kinds else ()
    return {name: _place(name, settings.place(name), root / name, scripts) for name in names}


def _place(name: str, settings: AnyPlace | None, folder: Path, scripts: Scripts) -> Place:
    """Each kind of place is imported where it is used: asyncssh alone takes a tenth of a second and 20 MB."""
    match settings:
        case SshPlace():
            from vncgate.launchers.ssh import Ssh

            return Ssh(name, settings, folder, scripts)
        case SlurmPlace():
            from vncgate.launchers.slurm import Slurm

            return Slurm(name, settings, folder, scripts)
        case DockerPlace():
            from vncgate.launchers.docker import Docker

            return Docker(name, settings, folder, scripts)
        case _:
            from vncgate.launchers.local import Local

            return Local(name, settings or LocalPlace(), folder, scripts)
