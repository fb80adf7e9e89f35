"""Files in and out, put together: whose folder is where, who may have it until when, and what is built beforehand."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from vncgate import seat_links
from vncgate.errors import SettingsError
from vncgate.launchers.base import expand
from vncgate.model import Account, DesktopStatus, Roster, Secret
from vncgate.people import Seat
from vncgate.settings import Settings
from vncgate.takeaway.agents import Agents
from vncgate.takeaway.archives import Archives, prepare
from vncgate.takeaway.hands import Hands

NOT_AS_ROOT = (
    "files.user: is empty, and no account's files are read as root: write user = \"{account}\" for the accounts' own "
    'users, or one user\'s name; "root" where there is nobody else, as in a container that the gate is in'
)
PURPOSE, SEAL = "files", "files' seal"
"""What its links are signed for, and what in them stands for the PIN of the seat."""

_NUMBER = re.compile(r"[1-9][0-9]{0,14}")


class Seats(Protocol):
    """Who sits where."""

    def seat(self, account: str) -> Seat:
        """The seat of an account."""

    def shows(self, account: str) -> str:
        """The account whose desktop the seat of `account` shows."""


def try_out(settings: Settings, state: Path) -> None:
    """Whether a Takeaway can start, beside one that has. It blocks; raises SettingsError as that does."""
    _check_user(settings)
    prepare(_archives(settings, state))


def _check_user(settings: Settings) -> None:
    if os.geteuid() == 0 and settings.files.through == "host" and not settings.files.user:
        raise SettingsError(NOT_AS_ROOT)


def _archives(settings: Settings, state: Path) -> Path:
    return settings.files.archives or state / "archives"


class Takeaway:
    """What participants take home, and bring. `start()` before anything else."""

    def __init__(
        self,
        settings: Settings,
        state: Path,
        key: bytes,
        roster: Callable[[], Roster],
        seats: Seats,
        desktop: Callable[[str], DesktopStatus | None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`state` is the folder of what outlives the daemon; `desktop` tells of a desktop of ours."""
        self._settings = settings
        self._key = key
        self.roster = roster
        self._seats = seats
        self._now = now
        self.agents = Agents(Hands(settings, desktop), lambda account: expand(settings.files.root, account.name))
        self.archives = Archives(_archives(settings, state), settings.files.archive_days, self.agents, roster)

    async def start(self) -> None:
        """See Archives.start(). Raises SettingsError also where agents would run as root, and nobody said so."""
        _check_user(self._settings)
        await self.archives.start()

    async def aclose(self) -> None:
        """Let go of all."""
        await self.archives.aclose()
        await self.agents.aclose()

    @property
    def until(self) -> datetime | None:
        """Until when people can have their files; None: no such time is set."""
        return self._settings.workshop.files_until

    @property
    def is_over(self) -> bool:
        """Whether that is past."""
        return self.until is not None and self.until <= self._now()

    def link(self, account: str, seat: str = "") -> tuple[Secret, datetime]:
        """What lets whoever has it take the files of an account home, as long as the seat is nobody else's; and until
        when: `until`, or for as many days as a seat link can be used. It stands behind {public_url}take#.

        It ends with the PIN that the seat has now, so when the seat is revoked, and not with its sessions.

        `seat` is whose link it is, where that is another's: it holds as long as that seat shows this account's desktop.
        """
        until = self.until or self._now() + timedelta(days=self._settings.seats.link_days)
        seat = seat or account
        text = f"{seat}/{account}.{int(until.timestamp())}.{self._whose(seat)}"
        return Secret(seat_links.sign(self._key, PURPOSE, text)), until

    def account(self, token: Secret) -> Account | None:
        """Whose files a link is for; None where it is none of ours, or does not hold any more."""
        text = seat_links.verified(self._key, PURPOSE, token.reveal()) or ""
        seat, _, account = text.partition("/")
        account, until, *whose = account.rsplit(".", 3) if account.count(".") > 2 else ("", "")
        if not _NUMBER.fullmatch(until) or int(until) <= self._now().timestamp():
            return None
        if ".".join(whose) != self._whose(seat) or account not in (seat, self._seats.shows(seat)):
            return None
        return self.roster().get(account)

    def _whose(self, account: str) -> str:
        """What changes when somebody else gets a seat, or it gets another PIN or is revoked; it tells no PIN."""
        seat = self._seats.seat(account)
        return f"{seat.person}.{seat_links.signature(self._key, SEAL, seat.pin_hash)}"
