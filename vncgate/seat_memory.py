"""What is kept in memory of seats, sessions and shares, and whom the engine is told to let in.

No page and no websocket waits for a database. Whatever changes is written to the ledger first, then remembered, and
then pushed to the engine, which lets in by what it has: where the ledger is away nobody new gets in, and whoever is in
stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from vncgate import cookies
from vncgate.engines.base import Admissions
from vncgate.errors import LedgerError
from vncgate.ledger import Ledger
from vncgate.model import Account, Roster
from vncgate.people import Mode, Seat, Session, Share

log = logging.getLogger(__name__)

REVOKED = "!"
"""In the place of a PIN's hash: no PIN and no link opens this seat, until it has a new PIN."""
FROZEN = "frozen"
"""The ledger's note that says whether there are no new sessions."""
LONGEST_SLEEP = 60.0
"""Seconds after which the clock is looked at again, whatever was due: clocks are set."""
POLL = 2.0
"""Seconds between two looks at whether another gate changed a shared ledger."""

MOST_MISSES = 256
"""Cookies that nobody knows for which a shared ledger is read between two such looks."""


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


async def _nothing(_: frozenset[str]) -> None:
    """Nobody asked."""


class SeatMemory:
    """Opens with `start()`, keeps itself current in `run()`, which its owner has under way."""

    def __init__(
        self,
        ledger: Ledger,
        roster: Callable[[], Roster],
        admit: Callable[[Admissions], Awaitable[None]],
        *,
        is_shared: bool = False,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`admit` tells the engine who may open the websockets of the accounts named. With `is_shared` other gates use
        this ledger too.
        """
        self.vacated: Callable[[frozenset[str]], Awaitable[None]] = _nothing
        """Called when somebody has left a seat, with the accounts whose desktops they had: whoever comes next must find
        nothing of theirs open.
        """
        self._ledger = ledger
        self._roster = roster
        self._push = admit
        self._is_shared = is_shared
        self._now = now
        self._seats: dict[str, Seat] = {}
        self._sessions: dict[str, Session] = {}
        self._shares: dict[str, Share] = {}
        self._frozen = False
        self._seen = -1
        self._missed: set[str] = set()  # cookies that the ledger did not know either, since the last look
        self._changed = asyncio.Event()
        self._remembering = asyncio.Lock()  # what the ledger is read for must not overwrite what came after the reading

    # ---- what is ----

    def seat(self, account: str) -> Seat:
        """The seat of an account; one nobody has said anything of yet where it is unknown."""
        return self._seats.get(account) or Seat(account)

    def seats(self) -> Mapping[str, Seat]:
        """The seats of all accounts, in the token file's order."""
        return {account: self.seat(account) for account in self._roster()}

    def shows(self, account: str) -> str:
        """The account whose desktop the seat of `account` shows."""
        return self.seat(account).shows

    def desk(self, session: Session) -> Account | None:
        """The account whose desktop a session may open; None for an organizer's, and where that account is gone."""
        return self._roster().get(self.shows(session.seat)) if session.seat else None

    @property
    def is_frozen(self) -> bool:
        """Whether there are no new sessions."""
        return self._frozen

    def sessions(self, account: str) -> list[Session]:
        """The sessions on a seat that hold now, visitors' too."""
        return [each for each in self._sessions.values() if each.seat == account and self._holds(each)]

    def shares(self, account: str) -> list[tuple[Share, int]]:
        """The shares of a seat that hold now, each with the number of browsers that came by it."""
        now, came = self._now(), Counter(each.share for each in self.sessions(account))
        return [
            (each, came[each.id]) for each in self._shares.values() if each.account == account and each.expires > now
        ]

    async def session(self, cookie: str) -> Session | None:
        """The session of a cookie's value; None where there is none that holds now."""
        digest = cookies.digest(cookie)
        found = self._sessions.get(digest)
        if found is None and self._is_shared and digest not in self._missed and len(self._missed) < MOST_MISSES:
            if await self._ledger.session(digest, self._now()):
                await self._refresh()  # another gate let them in a moment ago
            else:
                self._missed.add(digest)
            found = self._sessions.get(digest)
        return found if found and self._holds(found) else None

    # ---- keeping it ----

    async def start(self) -> None:
        """Take up what the ledger has, and tell the engine whom to let in: before it accepts anybody."""
        await self._refresh()

    async def run(self) -> None:
        """End what expires, when it does, and follow what other gates do; until cancelled."""
        trouble = ""
        while True:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._changed.wait()
            try:
                await self._follow()
                self._missed.clear()
                trouble = ""
            except LedgerError as error:
                if str(error) != trouble:  # it is asked every other second
                    log.warning("%s; whoever is signed in stays", trouble := str(error))
            await self._expire()

    async def roster_changed(self) -> None:
        """There are other accounts than before."""
        await self._admit(*self._roster())

    async def look_again(self, *accounts: str) -> None:
        """Something else of this gate has changed these seats in the ledger, as a sign-up does."""
        async with self._remembering:
            for account in accounts:
                self._seats[account] = await self._ledger.seat(account)

    async def _follow(self) -> None:
        """Take up what another gate has changed."""
        if self._is_shared and await self._ledger.changes() != self._seen:
            await self._refresh()

    async def _refresh(self) -> None:
        async with self._remembering:
            found = await self._ledger.snapshot(self._now())
            self._seen = found.changes
            self._seats = dict(found.seats)
            self._sessions = {each.digest: each for each in found.sessions}
            self._shares = {each.id: each for each in found.shares}
            self._frozen = bool(found.notes.get(FROZEN))
        await self._admit(*self._roster())

    async def _expire(self) -> None:
        ended = [each for each in self._sessions.values() if self._ends(each) <= self._now()]
        now = self._now()
        self._shares = {each.id: each for each in self._shares.values() if each.expires > now}
        if ended:
            gone = {each.digest for each in ended}
            await self._drop(lambda each: each.digest in gone)
            await self._admit(*{each.seat for each in ended})

    def _pause(self) -> float:
        """Seconds until something is due."""
        now, longest = self._now(), POLL if self._is_shared else LONGEST_SLEEP
        due = min((self._ends(each) for each in self._sessions.values()), default=None)
        return longest if due is None else min(longest, max(0.0, (due - now).total_seconds()))

    async def _emptied(self, account: str) -> None:
        """The ledger has freed this seat: what opened it is worthless."""
        had = frozenset((account, self.shows(account)))
        await self.look_again(account)
        await self._drop(lambda each: each.seat == account)
        self._shares = {each.id: each for each in self._shares.values() if each.account != account}
        await self._admit(account)
        await self.vacated(had)

    async def _change(self, account: str, **changes: Any) -> Seat:
        async with self._remembering:
            seat = self._seats[account] = await self._ledger.change_seat(account, **changes)
        self._changed.set()
        return seat

    async def _admit(self, *seats: str) -> None:
        """Tell the engine who may open what these seats show, and what they are the own desktops of."""
        desktops = {desktop for account in seats if account for desktop in (account, self.shows(account))}
        admissions: dict[str, dict[str, Mode]] = {desktop: {} for desktop in desktops & self._roster().keys()}
        for each in self._sessions.values():
            if each.seat and (mine := admissions.get(self.shows(each.seat))) is not None and self._holds(each):
                mine[each.digest] = each.mode
        if admissions:
            await self._push(admissions)

    async def _drop(self, which: Callable[[Session], bool]) -> None:
        async with self._remembering:
            self._sessions = {digest: each for digest, each in self._sessions.items() if not which(each)}

    def _holds(self, session: Session) -> bool:
        return self._ends(session) > self._now() and (not session.seat or session.seat in self._roster())

    def _ends(self, session: Session) -> datetime:
        until = self.seat(session.seat).until if session.seat else None
        return min(session.expires, until) if until else session.expires

    def _is_open(self, seat: Seat) -> bool:
        return seat.pin_hash != REVOKED and (seat.until is None or seat.until > self._now())
