"""Who sits where, and who may come in: the policy over what is remembered of seats, guessing and links."""

from __future__ import annotations

import enum
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from vncgate import cookies, seat_links
from vncgate.engines.base import Admissions
from vncgate.engines.limits import neighbourhood
from vncgate.errors import SeatTakenError
from vncgate.guessing import Bucket, Guessing
from vncgate.ledger import Ledger
from vncgate.model import Roster, Secret
from vncgate.people import AuditEntry, Mode, Person, Seat, Session, Share
from vncgate.pins import BusyError, Pins, new_pin
from vncgate.seat_links import SeatLink
from vncgate.seat_memory import FROZEN, REVOKED, SeatMemory, utc_now
from vncgate.settings import Settings

log = logging.getLogger(__name__)

BUSY_WAIT = 2.0
"""Seconds after which who came in a flood may come again."""
MOST_SHARES = 10
"""Shares that a seat may have at once."""
MOST_VISITORS = 50
"""Browsers that may have come by one share."""
MOST_PINS = 5
"""New PINs that whoever sits on a seat may ask for at once."""
PIN_DRAIN = 60.0
"""Seconds in which they get one more."""
MOST_SESSIONS = 32
"""Browsers that may be signed in on one seat, visitors not counted: the oldest goes for one more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Somebody is signed in: the session, and the value of its cookie, which nobody keeps but the browser."""

    session: Session
    cookie: Secret


class Reason(enum.StrEnum):
    """Why somebody was not let in. WRONG tells nobody whether there is such an account."""

    WRONG = "wrong"
    WAIT = "wait"
    BUSY = "busy"
    EXPIRED = "expired"
    FROZEN = "frozen"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Somebody is not let in; may they come again, then in `wait` seconds."""

    reason: Reason
    wait: float = 0.0


class Seating(SeatMemory):
    """Lets in and out, and does what organizers ask for.

    What changes the ledger raises LedgerError, and has changed nothing then. `by` is who an organizer's deed is written
    down for in the audit log.
    """

    def __init__(
        self,
        settings: Settings,
        key: bytes,
        ledger: Ledger,
        roster: Callable[[], Roster],
        admit: Callable[[Admissions], Awaitable[None]],
        *,
        is_shared: bool = False,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`key` signs the links; all else is as SeatMemory has it."""
        super().__init__(ledger, roster, admit, is_shared=is_shared, now=now)
        self.refusals: Counter[Reason] = Counter()
        """How often who was not let in, and why."""
        self.entries = 0
        """How often somebody was let in."""
        self._settings = settings
        self._key = key
        self._pins = Pins()
        self._clock = clock
        self._guessing = Guessing()
        self._asked: dict[str, Bucket] = {}  # new PINs, by who sits there: each is work

    @property
    def sign_ins(self) -> Mapping[str, int]:
        """How many came to sign in, by what came of it."""
        return {"let in": self.entries, **{reason: self.refusals[reason] for reason in Reason}}

    # ---- coming in ----

    async def sign_in(self, account: str, pin: Secret, client: str) -> Entry | Refusal:
        """Let somebody in with a PIN. Whether the account exists is told neither by the answer nor by its time."""
        client = neighbourhood(client)
        if self._frozen:
            return self._refuse(Reason.FROZEN, account, client)
        if self._pins.is_busy:
            return self._refuse(Reason.BUSY, account, client, BUSY_WAIT)
        is_ours = account in self._roster()
        if wait := self._guessing.attempt(account, client, self._clock(), is_ours=is_ours):
            return self._refuse(Reason.WAIT, account, client, wait)
        await self._follow()
        known = self._roster().get(account)
        seat, plain = self.seat(account), known.pin if known else Secret("")
        try:
            fits = await self._pins.fits(pin, seat.pin_hash, plain)
        except BusyError:
            return self._refuse(Reason.BUSY, account, client, BUSY_WAIT)
        if not fits or known is None or not self._is_open(seat):
            return self._refuse(Reason.WRONG, account, client)
        self._guessing.succeeded(account, client)
        return await self._enter(account, "with the PIN", seat.epoch)

    async def enter_by_link(self, token: Secret, client: str) -> Entry | Refusal:
        """Let somebody in with a seat link: what stands behind the # of its address."""
        if link := seat_links.read_seat_token(self._key, token.reveal()):
            await self._follow()
        account = link.account if link else ""
        if link is None or account not in self._roster() or not self._is_open(seat := self.seat(account)):
            return self._refuse(Reason.WRONG, account, client)
        if link.epoch != seat.epoch:
            return self._refuse(Reason.WRONG, account, client)
        if link.expires <= self._now().timestamp():
            return self._refuse(Reason.EXPIRED, account, client)
        if self._frozen:
            return self._refuse(Reason.FROZEN, account, client)
        return await self._enter(account, "with a link", link.epoch)

    async def enter_by_share(self, token: Secret, client: str) -> Entry | Refusal:
        """Let a visitor in to the desktop of whoever made this share."""
        if share_id := seat_links.verified(self._key, seat_links.SHARE, token.reveal()):
            await self._follow()
        share = self._shares.get(share_id or "")
        if share is None or share.account not in self._roster() or not self._is_open(self.seat(share.account)):
            return self._refuse(Reason.WRONG, "", client)
        if share.expires <= self._now():
            return self._refuse(Reason.EXPIRED, share.account, client)
        if self._frozen:
            return self._refuse(Reason.FROZEN, share.account, client)
        if self._is_full(share):
            return self._refuse(Reason.FULL, share.account, client)
        return await self._enter(share.account, "as a visitor", self.seat(share.account).epoch, share)

    async def begin(self, account: str, owner: str) -> Entry | Refusal:
        """Let somebody in whom the gate itself has given the seat, if it is still that of the person with this id, and
        open.
        """
        await self.look_again(account)
        seat = self.seat(account)
        if seat.person != owner or not self._is_open(seat):
            return self._refuse(Reason.WRONG, account, "")
        if self._frozen:
            return self._refuse(Reason.FROZEN, account, "")
        return await self._enter(account, "after signing up", seat.epoch)

    async def begin_as_organizer(self, name: str) -> Entry:
        """Let an organizer in, who has shown the API token of this name."""
        cookie, session = self._new(organizer=name)
        await self._add(session)
        return Entry(session, cookie)

    async def sign_out(self, session: Session) -> None:
        """End one session."""
        await self._ledger.end_session(session.digest)
        await self._drop(lambda each: each.digest == session.digest)
        await self._admit(session.seat)

    async def sign_out_everywhere(self, account: str) -> None:
        """End all sessions of a seat, visitors' too. Its links and shares can be used again: they are not sessions."""
        await self._ledger.end_sessions(account)
        await self._drop(lambda each: each.seat == account)
        await self._admit(account)

    # ---- what organizers do ----

    def link(self, account: str) -> Secret:
        """The address that opens a seat; it can be used until it expires, or the seat is renewed or revoked."""
        expires = self._now() + timedelta(days=self._settings.seats.link_days)
        token = seat_links.seat_token(self._key, SeatLink(account, int(expires.timestamp()), self.seat(account).epoch))
        return Secret(f"{self._settings.public_url}seat#{token}")

    async def new_pin(
        self, account: str, by: str, pin: Secret | None = None, owner: str | None = None, at_epoch: int | None = None
    ) -> Secret:
        """A new PIN, in place of the one before and of the token file's; it opens a revoked seat again. `pin` is
        for who has made one that is as random as ours. Raises SeatTakenError where it is not the seat of the person
        with the id `owner`, or was renewed or revoked since it had the epoch `at_epoch`; BusyError where whoever sits
        there asks for it (who has an epoch) too often.
        """
        if at_epoch is not None and account in self._roster():
            asked = self._asked.setdefault(account, Bucket(PIN_DRAIN))
            if asked.now(self._clock()) + 1 > MOST_PINS:
                raise BusyError(f"seat {account} was given {MOST_PINS} new PINs a moment ago")
            asked.level += 1
        pin = pin or new_pin()
        await self._change(account, owner=owner, at_epoch=at_epoch, pin_hash=await self._pins.hash(pin))
        self._guessing.forget(account)
        await self._audit(by, "new PIN", account)
        return pin

    async def assign(self, person_id: str, account: str, by: str) -> Person:
        """Give a free seat to somebody. Raises SeatTakenError."""
        person = await self._ledger.assign(person_id, account)
        return await self._moved(person, by, "assign", account)

    async def release(self, account: str, by: str) -> Person | None:
        """Free a seat: whoever had it is signed out, and their links are worthless."""
        person = await self._ledger.release(account)
        await self._emptied(account)
        await self._audit(by, "release", account)
        return person

    async def forget(self, person_id: str, by: str) -> None:
        """Delete all that is kept of somebody, and free their seat."""
        account = await self._ledger.forget(person_id)
        if account:
            await self._emptied(account)
        await self._audit(by, "forget somebody", account)

    async def purge(self) -> dict[str, int]:
        """Delete all that is kept of people (see Ledger): nobody is signed in any more, but for organizers."""
        gone = await self._ledger.purge()
        await self._refresh()
        return gone

    async def move(self, person_id: str, account: str, by: str) -> Person:
        """Give somebody another seat; the one before is free then, and its links worthless. Raises SeatTakenError."""
        before = await self._ledger.person(person_id)
        person = await self._ledger.move(person_id, account)
        if before and before.account and before.account != account:
            await self._emptied(before.account)
        return await self._moved(person, by, "move", account)

    async def swap(self, account: str, by: str, spare: str = "") -> Seat:
        """Have a seat show a spare desktop, which nobody else has or uses: sessions and links go on. Raises
        SeatTakenError where there is none.
        """
        free = [each for each in self._spares() if spare in ("", each)]
        if not free:
            raise SeatTakenError(f"{spare} is no free spare" if spare else "there is no free spare seat")
        return await self._show(account, free[0], by, "swap")

    async def swap_back(self, account: str, by: str) -> Seat:
        """Have a seat show its own desktop again."""
        return await self._show(account, "", by, "swap back")

    async def revoke(self, account: str, by: str) -> Seat:
        """Close a seat: nobody is signed in any more, no link and no PIN opens it before it has a new PIN."""
        await self._ledger.renew_seat(account, pin_hash=REVOKED)
        await self._emptied(account)
        await self._audit(by, "revoke", account)
        return self.seat(account)

    async def renew(self, account: str, by: str) -> Seat:
        """End the sessions and links of a seat; its PIN still opens it."""
        await self._ledger.renew_seat(account)
        await self._emptied(account)
        await self._audit(by, "renew", account)
        return self.seat(account)

    async def extend(self, account: str, until: datetime | None, by: str) -> Seat:
        """Say when a seat ends; None: with the workshop."""
        seat = await self._change(account, until=until)
        await self._audit(by, "extend", account)
        return seat

    async def set_spare(self, account: str, by: str, *, on: bool) -> Seat:
        """Keep a seat back for swaps: no sign-up gives it away. Or no more."""
        seat = await self._change(account, spare=on)
        await self._audit(by, "spare" if on else "no spare", account)
        return seat

    async def take_in(
        self, new: Sequence[Person], changes: Mapping[str, Mapping[str, Any]], seats: Mapping[str, str], by: str
    ) -> None:
        """Make true what a table of people says, all of it or nothing (see Ledger). Raises SeatTakenError."""
        await self._ledger.take_in(new, changes, seats)
        await self._refresh()
        await self._audit(by, f"table of {len(new) + len({*changes, *seats})} people", "")

    async def freeze(self, *, on: bool) -> None:
        """No new sessions; or let people in again."""
        async with self._remembering:
            await self._ledger.set_note(FROZEN, "1" if on else "")
            self._frozen = on

    # ---- what a seat's owner does ----

    async def share(self, account: str, mode: Mode, until: datetime) -> Secret | Refusal:
        """The address by which others see the desktop of this seat, or use it, until then at most."""
        share = Share(secrets.token_urlsafe(15), account, mode, self._now(), until)
        async with self._remembering:  # counted and added in one: many may ask at once
            if len(self.shares(account)) >= MOST_SHARES:
                return self._refuse(Reason.FULL, account, "")
            await self._ledger.add_share(share)
            self._shares[share.id] = share
        await self._audit(f"seat {account}", f"share ({mode})", account)
        return Secret(f"{self._settings.public_url}share#{seat_links.sign(self._key, seat_links.SHARE, share.id)}")

    async def end_share(self, share_id: str) -> None:
        """End a share, and with it the connections of all who came by it."""
        await self._ledger.end_share(share_id)
        async with self._remembering:
            share = self._shares.pop(share_id, None)
        await self._drop(lambda each: each.share == share_id)
        if share:
            await self._admit(share.account)

    async def _enter(self, account: str, how: str, epoch: int, share: Share | None = None) -> Entry | Refusal:
        """`epoch` is that of the seat when it was found that they may come in."""
        if share:
            cookie, session = self._new(share.expires, seat=account, mode=share.mode, share=share.id)
        else:
            cookie, session = self._new(seat=account)
        if not await self._add(session, epoch):
            if share and self._is_full(share):  # others came by it in this moment
                await self._ledger.end_session(session.digest)
                return self._refuse(Reason.FULL, account, "")
            return self._refuse(Reason.WRONG, account, "")  # the seat was renewed, or the share ended, meanwhile
        own = [] if share else [each for each in self.sessions(account) if not each.share]
        for old in own[:-MOST_SESSIONS]:
            await self.sign_out(old)
        log.info("account %s: somebody signed in %s", account, how)
        await self._admit(account)
        return Entry(session, cookie)

    def _new(self, until: datetime | None = None, **whose: Any) -> tuple[Secret, Session]:
        now, cookie = self._now(), secrets.token_urlsafe(cookies.SIZE)
        expires = now + timedelta(hours=self._settings.seats.session_hours)
        return Secret(cookie), Session(cookies.digest(cookie), now, min(until or expires, expires), **whose)

    async def _add(self, session: Session, epoch: int | None = None) -> bool:
        if not await self._ledger.add_session(session, epoch):
            return False
        async with self._remembering:
            if epoch not in (None, self.seat(session.seat).epoch):
                return False
            if session.share and (not (share := self._shares.get(session.share)) or self._is_full(share)):
                return False
            self._sessions[session.digest] = session
        self._changed.set()
        self.entries += 1
        return True

    def _is_full(self, share: Share) -> bool:
        return sum(each.share == share.id for each in self.sessions(share.account)) >= MOST_VISITORS

    def _refuse(self, reason: Reason, account: str, client: str, wait: float = 0.0) -> Refusal:
        self.refusals[reason] += 1
        whose = f"account {account}" if account in self._roster() else "no account of ours"
        level = logging.DEBUG if reason is Reason.WAIT else logging.INFO  # who does not wait does not fill the log
        log.log(level, "sign-in refused: %s (%s, from %s)", reason, whose, client or "a page")
        return Refusal(reason, wait)

    async def _moved(self, person: Person, by: str, what: str, account: str) -> Person:
        await self.look_again(account)
        await self._audit(by, what, account)
        return person

    async def _show(self, account: str, desktop: str, by: str, what: str) -> Seat:
        before = self.shows(account)
        seat = await self._change(account, desktop=desktop)
        await self._admit(account, before)
        await self._audit(by, what, account)
        return seat

    async def _audit(self, by: str, what: str, about: str) -> None:
        await self._ledger.note(AuditEntry(self._now(), by, what, about))

    def _spares(self) -> Iterable[str]:
        shown = {self.shows(account) for account in self._roster() if self.seat(account).desktop}
        kept = (account for account, seat in self.seats().items() if seat.spare and not seat.person)
        return (account for account in kept if account not in shown)
