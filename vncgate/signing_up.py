"""Signing up: who comes gets a seat, or a place on the waiting list, once; the policy over ledger, seating and mail.

A form has a secret key of its own. The person's id and their PIN follow from it (`signup_form`), so a form that is sent
twice, in a hurry or after the gate was killed, means the same person, the same seat and the same PIN, and of none of it
more is kept than the id, and the PIN's hash.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vncgate.engines.limits import HandshakeRates
from vncgate.errors import LedgerError, SeatTakenError
from vncgate.ledger import Ledger
from vncgate.model import Roster, Secret
from vncgate.people import Acceptance, Person, Standing
from vncgate.pins import DIGITS
from vncgate.seating import Seating
from vncgate.settings import Settings
from vncgate.signup_form import Filled, person_id, pin_of
from vncgate.signup_texts import SignupTexts

if TYPE_CHECKING:
    from vncgate.mailing import Mailing

log = logging.getLogger(__name__)

POLL = 5.0
"""Seconds between two looks at whether a seat has become free for who waits."""
AT_ONCE = 8
"""PINs of those who sign up that are hashed at the same time: who signs in waits behind no more."""
LETS_IN = timedelta(minutes=10)
"""How long after signing up the form's key opens the seat once more, for a form that is sent twice."""
SPAN = 2400.0
"""Seconds over which sign-ups and wrong codes are counted."""
WRONG_CODES = 40
"""Wrong event codes of one client in this time: of a class behind one address, each may err once or twice."""
ALL_WRONG_CODES = 10_000
"""Wrong event codes in all."""
LEAST_SIGN_UPS = 100
"""Sign-ups of one client in this time; twice the number of seats where that is more."""
WAITS, MOVED_UP = "mail_waiting.txt", "mail_moved_up.txt"
"""Mails that the ledger plans with what they tell of."""
BY = "sign-up"
"""Who the audit log says it was."""


class Phase(enum.StrEnum):
    """Whether the form is open."""

    EARLY = "early"
    OPEN = "open"
    CLOSED = "closed"


class SigningUp:
    """`run()` gives free seats to who waits, as long as it is under way. Times are aware."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        seating: Seating,
        roster: Callable[[], Roster],
        texts: SignupTexts,
        mailing: Mailing | None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.texts = texts
        self.mailing = mailing
        self._settings = settings
        self._ledger = ledger
        self._seating = seating
        self._roster = roster
        self._now = now
        self._clock = clock
        self._hashing = asyncio.Semaphore(AT_ONCE)
        self.is_over: Callable[[], bool] = lambda: False
        """Whether the workshop has ended; Life tells, once it has begun."""
        self._wrong = HandshakeRates(ALL_WRONG_CODES / SPAN, WRONG_CODES / SPAN, SPAN)
        self._rates: tuple[int, HandshakeRates] = (0, self._wrong)

    @property
    def opens(self) -> datetime | None:
        """When the form opens; None: it is open."""
        return self._settings.workshop.signup_opens or self._settings.signup.opens

    @property
    def phase(self) -> Phase:
        """Whether the form is open now; not while there are no new sessions."""
        now, closes = self._now(), self._settings.signup.closes
        if self.opens and now < self.opens:
            return Phase.EARLY
        is_over = (closes is not None and now >= closes) or self._seating.is_frozen or self.is_over()
        return Phase.CLOSED if is_over else Phase.OPEN

    async def is_full(self) -> bool:
        """Whether who comes now gets no seat at once."""
        standings = await self._ledger.standings()
        return bool(standings[Standing.WAITING]) or standings[Standing.SEATED] >= self._capacity()

    # ---- who comes ----

    def wait(self, client: str) -> float:
        """Let somebody with a good form come (0.0), or tell in how many seconds; many at once may be a class."""
        most = max(LEAST_SIGN_UPS, 2 * self._capacity())
        if self._rates[0] != most:
            self._rates = most, HandshakeRates(50 * most / SPAN, most / SPAN, SPAN)
        return self._rates[1].wait(client, self._clock())

    def wait_for_code(self, client: str) -> float:
        """Seconds until this client's event code is looked at."""
        return self._wrong.would_wait(client, self._clock())

    def wrong_code(self, client: str) -> None:
        """The event code that this client gave was wrong."""
        self._wrong.wait(client, self._clock())

    async def sign_up(self, filled: Filled, language: str) -> Person:
        """Somebody sends a form that is good: they are SEATED, or WAITING; who sent it before is who they were then.

        Raises FullError where there is neither, and LedgerError.
        """
        now = self._now()
        answers = dict(filled.answers)
        person = Person(
            id=person_id(filled.key),
            name=answers.pop("name", ""),
            email=answers.pop("email", ""),
            signed_up=now,
            language=language,
            answers=answers,
            accepted=tuple(Acceptance(name, sha256, now) for name, sha256 in filled.accepted.items()),
        )
        waits = self._settings.signup.waiting
        person = await self._ledger.sign_up(
            person,
            self._free(),
            capacity=self._settings.signup.capacity,
            waiting=waits,
            mail=WAITS if self.mailing else "",
        )
        if person.standing is Standing.WAITING and person.signed_up == now:
            await self._write_mails(person.id)
            log.info("somebody signed up, and waits for a seat")
        return person

    async def known(self, key: str) -> Person | None:
        """Who sent the form with this key; None: nobody, or they were forgotten."""
        return await self._ledger.person(person_id(key)) if key else None

    async def collect(self, person: Person, key: str) -> bool:
        """Whether the key opens the seat of who has one: right after they signed up and, where they waited, once.

        The first time, the seat gets its PIN, and it is mailed. Raises LedgerError and BusyError; then it is done when
        the form is sent again.
        """
        if person.standing is not Standing.SEATED:
            return False
        return await self._hand_over(person, key) or self._now() - person.signed_up < LETS_IN

    async def is_to_be_collected(self, person: Person) -> bool:
        """Whether nobody has come to the seat yet that somebody has."""
        return bool(person.account) and not (await self._ledger.seat(person.account)).pin_hash

    async def place(self, person: Person) -> int:
        """Their place on the waiting list, from 1 on."""
        return 1 + await self._ledger.ahead(person.place)

    # ---- what is kept of somebody ----

    async def person_of(self, account: str) -> Person | None:
        """Who has a seat; None: nobody who signed up."""
        seat = await self._ledger.seat(account)
        return await self._ledger.person(seat.person) if seat.person else None

    async def about(self, person: Person) -> dict[str, Any]:
        """All that is kept of somebody, as plain data."""
        return await self._ledger.about(person.id)

    async def forget(self, person: Person) -> None:
        """Delete all that is kept of somebody. Their seat is free, and nothing that they have opens it any more."""
        await self._seating.forget(person.id, BY)
        log.info("somebody's data was deleted, as they wished")

    async def leave(self, person: Person) -> None:
        """Take somebody off the waiting list."""
        if person.standing is not Standing.WAITING:
            return
        try:
            await self._ledger.change_person(person.id, standing=Standing.LEFT)
        except SeatTakenError:  # they were given a seat in this moment
            if (seated := await self._ledger.person(person.id)) and seated.account:
                await self._seating.release(seated.account, BY)

    # ---- the waiting list ----

    async def run(self) -> None:
        """Give seats that become free to who waits, and tell them; until cancelled."""
        while True:
            await asyncio.sleep(POLL)
            try:
                await self.move_up()
            except LedgerError as error:
                log.warning("%s; who waits for a seat waits on", error)

    async def move_up(self) -> list[Person]:
        """Give what seats are free to those who have waited longest; returns who got one.

        It also writes the mails that are planned, those as well that a gate left which ended too early.
        """
        moved: list[Person] = []
        if (await self._ledger.standings())[Standing.WAITING]:
            moved = await self._ledger.move_up(
                self._free(), capacity=self._settings.signup.capacity, mail=MOVED_UP if self.mailing else ""
            )
        for person in moved:
            log.info("account %s: given to who has waited longest", person.account)
        await self._write_mails()
        return moved

    async def tell(self, person: Person) -> None:
        """Mail somebody who has waited that they have a seat now, with its link."""
        await self._mail(person, MOVED_UP, **self._seat_values(person))

    # ---- parts ----

    async def _write_mails(self, person_id: str = "") -> None:
        """Write the mails that are planned, to this person or to all, as far as they are still true."""
        if (mailing := self.mailing) is None:
            return
        for planned in await self._ledger.planned_mails(person_id):
            template = planned.id.removeprefix(f"{planned.person}.")
            person = await self._ledger.person(planned.person)
            if person and template == WAITS and person.standing is Standing.WAITING:
                await mailing.write(planned, person, template, {"place": await self.place(person)})
            elif person and template == MOVED_UP and person.account and await self._is_theirs(person):
                await mailing.write(planned, person, template, self._seat_values(person))
            else:
                await self._ledger.mail_sent(planned.id)

    async def _hand_over(self, person: Person, key: str) -> bool:
        """Give somebody the PIN of their seat, and have it mailed, unless that was done before; whether it was not.

        The PIN comes last: where it stands, all else is done.
        """
        async with self._hashing:
            if not await self._is_theirs(person) or self._seating.seat(person.account).pin_hash:
                return False
            pin = Secret(pin_of(key, DIGITS))
            await self._mail(person, "mail_seat.txt", pin=pin.reveal(), **self._seat_values(person))
            try:
                await self._seating.new_pin(person.account, BY, pin, owner=person.id)
            except SeatTakenError:  # in this moment; the link in the mail is worthless, too
                return False
        log.info("account %s: taken by somebody who signed up", person.account)
        return True

    async def _is_theirs(self, person: Person) -> bool:
        """Whether they still have the seat that they were given; then a link that is made at once is theirs, too."""
        await self._seating.look_again(person.account)
        return self._seating.seat(person.account).person == person.id

    async def _mail(self, person: Person, template: str, **values: object) -> None:
        if self.mailing and person.email:
            await self.mailing.queue(person, template, values)

    def _seat_values(self, person: Person) -> Mapping[str, object]:
        return {"account": person.account, "link": self._seating.link(person.account).reveal()}

    def _free(self) -> list[str]:
        """The accounts that may be given away, in the token file's order: not those whose PIN somebody has already."""
        return [account for account, seat in self._seating.seats().items() if not seat.pin_hash]

    def _capacity(self) -> int:
        spares = sum(seat.spare for seat in self._seating.seats().values())
        everywhere = len(self._roster()) - spares
        capacity = self._settings.signup.capacity
        return everywhere if capacity is None else min(capacity, everywhere)
