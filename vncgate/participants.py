"""Those who take part, put together (access `seat`): the ledger, seating, and the rooms that stand on them.

It imports the database and argon2: the daemon imports it only where it is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vncgate import catalogues, tasks
from vncgate.engines.base import Admissions
from vncgate.errors import SettingsError
from vncgate.files import state_folder
from vncgate.launcher import Launcher
from vncgate.launchers.base import DesktopCommands
from vncgate.ledger import Ledger
from vncgate.model import AccountStatus, Roster
from vncgate.organizing import Organizing
from vncgate.seat_links import KEY_BYTES
from vncgate.seating import Seating
from vncgate.settings import Settings
from vncgate.signing_up import SigningUp
from vncgate.signup_texts import SignupTexts
from vncgate.takeaway import room
from vncgate.takeaway.room import Takeaway
from vncgate.workshop_life import Figures, Life

if TYPE_CHECKING:
    from vncgate.mailing import Mailing

LONGEST_URL = 4096
"""Bytes of a file that has the ledger's address in it."""


class Participants:
    """All rooms of those who take part. `open()` makes it, `aclose()` ends it; what runs in between is its own."""

    def __init__(self, ledger: Ledger, seating: Seating, organizing: Organizing, key: bytes) -> None:
        self.ledger = ledger
        self.seating = seating
        self.organizing = organizing
        self.key = key
        """What signs links and forms. A secret."""
        self.signing_up: SigningUp
        self.takeaway: Takeaway | None = None
        """Files in and out, where the settings say so."""
        self.life: Life | None = None
        """The workshop's life, once it has begun."""
        self._stack = contextlib.AsyncExitStack()

    @classmethod
    async def open(
        cls,
        settings: Settings,
        environ: Mapping[str, str],
        roster: Callable[[], Roster],
        admit: Callable[[Admissions], Awaitable[None]],
        statuses: Callable[[], Sequence[AccountStatus]],
        desktops: DesktopCommands,
    ) -> Participants:
        """Open the ledger, and tell the engine (`admit`) who is let in. Raises SettingsError where the key or the
        ledger's address cannot be read, and LedgerError where there is no ledger to be had.
        """
        folder = state_folder(environ, os.getuid())
        key, url = await asyncio.to_thread(_key_and_url, settings, folder)
        ledger = await Ledger.open(url)
        seating = Seating(settings, key, ledger, roster, admit, is_shared=url.startswith("postgresql"))
        self = cls(ledger, seating, Organizing(settings, seating, ledger, roster, statuses, desktops), key)
        self.organizing.why_closed = self.closed
        self._stack.push_async_callback(ledger.aclose)

        async def end(accounts: frozenset[str]) -> None:
            if launched := [each for each in accounts if desktops.status(each)]:
                await desktops.stop_desktops(launched)

        seating.vacated = end
        try:
            await self.seating.start()
            self._keep(self.seating.run(), "seats")
            await self._open_sign_up(settings, roster)
            if settings.files.root:
                await self._open_files(settings, folder, roster, desktops)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _open_sign_up(self, settings: Settings, roster: Callable[[], Roster]) -> None:
        texts = await asyncio.to_thread(SignupTexts, settings.signup)
        mailing = await asyncio.to_thread(_mailing, settings, self.ledger) if settings.mail.host else None
        self.signing_up = SigningUp(settings, self.ledger, self.seating, roster, texts, mailing)
        self.organizing.tell = self.signing_up.tell
        if mailing:
            self._keep(mailing.run(), "mails")
        if settings.signup.enabled:
            self._keep(self.signing_up.run(), "waiting list")

    async def _open_files(
        self, settings: Settings, folder: Path, roster: Callable[[], Roster], desktops: DesktopCommands
    ) -> None:
        self.takeaway = Takeaway(settings, folder, self.key, roster, self.seating, desktops.status)
        self._stack.push_async_callback(self.takeaway.aclose)
        await self.takeaway.start()
        self._keep(self.takeaway.archives.run(), "old archives")

    def closed(self, account: str) -> str:
        """Why the desktop of `account` may not be used now; empty where it may. See Life."""
        return self.life.closed(account) if self.life else ""

    async def begin_life(
        self,
        settings: Settings,
        launcher: Launcher,
        rekey: Callable[[], Awaitable[str]],
        figures: Callable[[], tuple[Figures, frozenset[str]]],
    ) -> None:
        """Take up the workshop's life, and tell the engine whom it lets in. `go_on()` when accounts are served."""
        life = Life(
            settings.workshop,
            self.ledger,
            self.seating,
            launcher,
            self.organizing.notes,
            archives=self.takeaway.archives if self.takeaway else None,
            rekey=rekey,
            figures=figures,
        )
        await life.start()
        self.life = life
        self.signing_up.is_over = lambda: life.is_over
        await self.seating.roster_changed()

    def go_on(self) -> None:
        """Live the workshop's life, from now on."""
        assert self.life  # noqa: S101
        self._keep(self.life.run(), "workshop's life")
        self._keep(self.life.keep_figures(), "workshop's figures")

    async def roster_changed(self) -> None:
        """There are other accounts than before: all rooms that keep something of them are told."""
        await self.seating.roster_changed()

    async def aclose(self) -> None:
        """End what runs, and close the ledger. Whoever is signed in stays so."""
        await self._stack.aclose()

    def _keep(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._stack.push_async_callback(tasks.end, tasks.spawn(work, name))


async def try_out(settings: Settings, environ: Mapping[str, str]) -> None:
    """Read all that `open()` reads, but for the ledger, beside a gate that has it open. Raises SettingsError."""
    folder = state_folder(environ, os.getuid())
    await asyncio.to_thread(_key_and_url, settings, folder)
    await asyncio.to_thread(SignupTexts, settings.signup)
    if settings.mail.host:
        await asyncio.to_thread(_read_mail, settings)
    if settings.files.root:
        await asyncio.to_thread(room.try_out, settings, folder)


def _mailing(settings: Settings, ledger: Ledger) -> Mailing:
    from vncgate.mailing import Mailing  # here, as aiosmtplib comes with it

    return Mailing(settings, catalogues.load(settings.languages), ledger)


def _read_mail(settings: Settings) -> None:
    from vncgate import mailing

    mailing.read(settings, catalogues.load(settings.languages))


def _key_and_url(settings: Settings, folder: Path) -> tuple[bytes, str]:
    """Of what signs, and of where the ledger is; the folder and the key are made where they are missing."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        key = _key(settings.seats.key or folder / "seats.key")
        return key, ledger_url(settings, folder)
    except OSError as error:
        raise SettingsError(f"seats: {error.filename or folder} cannot be used: {error.strerror}") from None


def _key(path: Path) -> bytes:
    with contextlib.suppress(FileExistsError):
        path.touch(0o600, exist_ok=False)
        with path.open("wb") as new:
            new.write(secrets.token_hex(KEY_BYTES).encode() + b"\n")
    key = path.read_bytes().strip()
    if len(key) < KEY_BYTES:
        raise SettingsError(f"seats.key: {path} has less than {KEY_BYTES} bytes; remove it, and a good one is made")
    if path.stat().st_mode & 0o077:
        raise SettingsError(f"seats.key: others can read {path}, and make links of their own: chmod 600")
    return key


def ledger_url(settings: Settings, folder: Path) -> str:
    """Where the ledger is, with its password if it has one; `folder` is what outlives the daemon. It blocks on the
    disk. Raises SettingsError, or OSError where a file with the address cannot be read.
    """
    seats = settings.seats
    if (file := seats.ledger_file) is None:
        return seats.ledger or f"sqlite:///{folder / 'ledger.sqlite'}"
    url = file.read_text(errors="replace")[:LONGEST_URL].strip()
    if not url.startswith(("postgresql://", "sqlite:///")):
        raise SettingsError(f"seats.ledger: {file} should have postgresql://USER:PASSWORD@HOST/DATABASE in it")
    return url
