"""What organizers see and do: one table of deeds, behind their page, the REST API and `vncgate seats`.

`by` is who does it, for the audit log: a token's name, or `operator` on the control socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from vncgate import people_csv
from vncgate.errors import GivenError, LedgerError, OrganizingError, UnknownError
from vncgate.languages import N_, Words
from vncgate.launchers.base import DesktopCommands
from vncgate.model import AccountStatus, Roster, Secret
from vncgate.people import AuditEntry, Person, Standing
from vncgate.render.cards import cards_now
from vncgate.seat_table import SeatRow, rows
from vncgate.viewer_notes import LONGEST, MESSAGES, Note, Notes

if TYPE_CHECKING:
    from vncgate.ledger import Ledger
    from vncgate.seating import Seating
    from vncgate.settings import Settings

ENGLISH = Words()
"""What commands and the API speak."""
MESSAGES_INTERVAL = 3.0
"""Seconds between two looks at it."""
LONGEST_MINUTES = 30 * 24 * 60
"""Minutes by which a seat's end may be moved at once."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a deed, in words, and what is told this once."""

    said: str
    told: Mapping[str, str | Secret] = field(default_factory=dict)

    def to_json(self, words: Words) -> dict[str, Any]:
        """As it travels, secrets in it."""
        told = {key: value.reveal() if isinstance(value, Secret) else value for key, value in self.told.items()}
        return {"said": words.of(self.said), **told}


Given = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that can be done, and what it needs and takes. It is done to one seat or person, or to `many`."""

    do: Callable[[Organizing, Any, Given, str], Awaitable[Done]]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    many: bool = False

    def check(self, given: Given) -> None:
        """Raises GivenError where something is missing, or unknown."""
        if missing := [name for name in self.needs if not given.get(name)]:
            raise GivenError(N_("{field} is missing", field=missing[0]))
        if unknown := given.keys() - {*self.needs, *self.takes}:
            raise GivenError(N_("{field} means nothing here", field=min(unknown)))


class Organizing:
    """All that there is for organizers. What is here blocks nothing."""

    def __init__(
        self,
        settings: Settings,
        seating: Seating,
        ledger: Ledger,
        roster: Callable[[], Roster],
        statuses: Callable[[], Sequence[AccountStatus]],
        desktops: DesktopCommands,
    ) -> None:
        self.notes = Notes()
        """What this gate itself tells its viewers, beside organizers' messages."""
        self.tell: Callable[[Person], Awaitable[None]] = _nobody
        """Tells somebody who has waited that they have a seat."""
        self.why_closed: Callable[[str], str] = lambda _: ""
        """Says why the desktop of an account may not be used now; empty where it may."""
        self._messages = Notes()
        self._messages_due = 0.0
        self._telling = asyncio.Lock()  # what is read must not take the place of what is posted meanwhile
        self._settings = settings
        self._seating = seating
        self._ledger = ledger
        self._roster = roster
        self._statuses = statuses
        self._desktops = desktops

    # ---- what is seen

    async def seats(self) -> list[SeatRow]:
        """Every seat, in the token file's order."""
        roster, statuses, now = self._roster(), self._statuses(), time.time()
        shown = cards_now(now, self._settings.desktops, self.why_closed, roster, statuses, self._desktops.statuses())
        seats, people = self._seating.seats(), await self._ledger.people()
        return rows(roster, statuses, shown, seats, people, now - time.monotonic())

    async def notes_for(self, account: str) -> list[Note]:
        """What the viewer of a seat shows, the oldest first. Messages stand in the ledger: all gates show them."""
        now = datetime.now(UTC)
        if time.monotonic() >= self._messages_due:  # once for all viewers who ask now
            self._messages_due = time.monotonic() + MESSAGES_INTERVAL
            with contextlib.suppress(LedgerError):  # what is known is shown
                async with self._telling:
                    await self._read_messages(now)
        return sorted([*self.notes.of(account, now), *self._messages.of(account, now)], key=lambda note: note.number)

    async def people(self) -> list[Person]:
        """Everybody who is known, in the order of signing up."""
        return sorted(await self._ledger.people(), key=lambda person: (person.place, person.signed_up))

    async def audit(self, limit: int = 1000) -> list[AuditEntry]:
        """Who did what, the newest first."""
        entries = await self._ledger.audit(limit)
        return sorted(entries, key=lambda entry: entry.when, reverse=True)

    async def export(self, by: str) -> str:
        """Everybody, as CSV."""
        await self._noted(by, "export of people")
        return people_csv.people(await self.people())

    async def about(self, person_id: str, by: str) -> dict[str, Any]:
        """All that is kept of somebody, as plain data: what they may ask for. Raises UnknownError."""
        person = await self._person(person_id)
        await self._noted(by, "export of a person", person.id)
        return await self._ledger.about(person.id)

    async def answer(self, what: str, names: Sequence[str], given: Given, by: str) -> Any:
        """What a command asks for, or has done, as JSON values."""
        match what:
            case "seats":
                wanted = set(self._named(names)) if names else set(self._roster())
                return [row.to_json(names="names" in given) for row in await self.seats() if row.account in wanted]
            case "people":
                return [told(person, names="names" in given) for person in await self.people()]
            case "audit":
                return [{**asdict(entry), "when": entry.when.isoformat()} for entry in await self.audit()]
            case "about":
                return await self.about("".join(names[:1]), by)
            case "export":
                return await self.export(by)
            case "import":
                return (await self.take_in(given["table"].encode("utf-8", "surrogateescape"), by)).to_json(ENGLISH)
            case "add":
                return (await self.add(given, by)).to_json(ENGLISH)
            case _ if what in self.PERSON_DEEDS:
                return (await self.do_to_person(what, "".join(names[:1]), given, by)).to_json(ENGLISH)
            case _:
                return (await self.do(what, names, given, by)).to_json(ENGLISH)

    # ---- what is done

    async def do(self, deed: str, names: Sequence[str], given: Given, by: str) -> Done:
        """Do one of SEAT_DEEDS to accounts; where it is done to many, names may be patterns (`ws0*`).

        Raises UnknownError, GivenError, OrganizingError, or what became of it in other VncgateErrors.
        """
        if (what := self.SEAT_DEEDS.get(deed)) is None:
            raise UnknownError(
                N_("there is no deed {deed}; there are {deeds}", deed=deed, deeds=", ".join(self.SEAT_DEEDS))
            )
        what.check(given)
        accounts = self._named(names)
        if not what.many and len(accounts) != 1:
            raise GivenError(N_("{deed} is done to one seat at a time", deed=deed))
        return await what.do(self, accounts if what.many else accounts[0], given, by)

    async def do_to_person(self, deed: str, person_id: str, given: Given, by: str) -> Done:
        """Do one of PERSON_DEEDS; raises as `do()`."""
        if (what := self.PERSON_DEEDS.get(deed)) is None:
            raise UnknownError(
                N_("there is no deed {deed}; there are {deeds}", deed=deed, deeds=", ".join(self.PERSON_DEEDS))
            )
        what.check(given)
        return await what.do(self, await self._person(person_id), given, by)

    async def add(self, given: Given, by: str) -> Done:
        """Put somebody new on the waiting list, or at once on the seat `account`."""
        if not given.get("name"):
            raise GivenError(N_("{field} is missing", field="name"))
        account = given.get("account", "")
        if account:
            account = self._one(account)
            self._must_be_free(account)
        person = await self._ledger.sign_up(_newcomer(given), (), capacity=None, waiting=True)
        await self._noted(by, "add", person.id)
        if not account:
            if self._settings.signup.enabled:
                said = N_(
                    "They are on the waiting list. The first seat that is free for them is theirs within seconds."
                )
            else:
                said = N_("They are on the waiting list until you give them a seat.")
            return Done(said, told={"person": person.id})
        await self._seating.assign(person.id, account, by)
        return Done(N_("{account} is theirs.", account=account), {"person": person.id, "account": account})

    async def take_in(self, content: bytes, by: str) -> Done:
        """Make true what a table of people says (CSV), or none of it. Raises GivenError with all that is wrong."""
        known = {person.id: person for person in await self._ledger.people()}
        entries, problems = await asyncio.to_thread(people_csv.read, content, self._roster(), known)
        if problems:
            raise GivenError(N_("nothing was taken in; the table has errors"), problems)
        new, changes, seats = [], {}, {}
        for entry in entries:
            if entry.id:
                person = known[entry.id]
                changes[person.id] = {**entry.told, "answers": {**person.answers, **entry.answers}}
            else:
                person = _newcomer(entry.told, entry.answers)
                new.append(person)
            if entry.account is not None:
                seats[person.id] = entry.account
        await self._seating.take_in(new, changes, seats, by)
        return Done(N_("{count} lines were taken in.", count=len(entries)))

    async def _assign(self, account: str, given: Given, by: str) -> Done:
        if not given.get("person"):
            return await self.add({**given, "account": account}, by)
        self._must_be_free(account)
        waited = await self._person(given["person"])
        await self.tell(await self._seating.assign(waited.id, account, by))
        return Done(N_("{account} is theirs.", account=account), {"account": account})

    async def _release(self, account: str, _: Given, by: str) -> Done:
        await self._seating.release(account, by)
        return Done(N_("{account} is free.", account=account))

    async def _move(self, account: str, given: Given, by: str) -> Done:
        to = self._one(given["to"])
        if not (person := self._seating.seat(account).person):
            raise OrganizingError(N_("nobody has the seat {account}", account=account))
        self._must_be_free(to)
        await self._seating.move(person, to, by)
        return Done(N_("{account} is theirs.", account=to), {"account": to})

    async def _swap(self, account: str, given: Given, by: str) -> Done:
        spare = self._one(given["spare"]) if given.get("spare") else ""
        await self._seating.swap(account, by, spare=spare)
        shows = self._seating.seat(account).shows
        return Done(N_("{account} shows the desktop of {spare}.", account=account, spare=shows), {"spare": shows})

    async def _swap_back(self, account: str, _: Given, by: str) -> Done:
        await self._seating.swap_back(account, by)
        return Done(N_("{account} shows its own desktop.", account=account))

    async def _spare(self, account: str, given: Given, by: str) -> Done:
        is_spare = given["spare"] == "yes"
        await self._seating.set_spare(account, by, on=is_spare)
        if is_spare:
            return Done(N_("{account} is a spare.", account=account))
        return Done(N_("{account} is no spare any more.", account=account))

    async def _pin(self, account: str, _: Given, by: str) -> Done:
        pin = await self._seating.new_pin(account, by)
        return Done(N_("{account} has a new PIN. It is shown this once.", account=account), {"pin": pin})

    async def _link(self, account: str, _: Given, by: str) -> Done:
        await self._noted(by, "link", account)
        link = self._seating.link(account)
        return Done(N_("Whoever has this link sits on {account}.", account=account), {"link": link})

    async def _revoke(self, accounts: Sequence[str], _: Given, by: str) -> Done:
        for account in accounts:
            await self._seating.revoke(account, by)
        return Done(N_("Links and sessions are worthless now: {seats}.", seats=_whose(accounts)))

    async def _sign_out(self, accounts: Sequence[str], _: Given, by: str) -> Done:
        for account in accounts:
            await self._seating.sign_out_everywhere(account)
            await self._noted(by, "sign out everywhere", account)
        return Done(N_("All browsers are signed out: {seats}.", seats=_whose(accounts)))

    async def _extend(self, accounts: Sequence[str], given: Given, by: str) -> Done:
        minutes, fixed = _time(given)
        now = datetime.now(UTC)
        for account in accounts:
            ends = self._seating.seat(account).until or self._settings.workshop.closes or self._settings.desktops.end
            await self._seating.extend(account, fixed or max(now, ends or now) + minutes, by)
        return Done(N_("There is more time: {seats}.", seats=_whose(accounts)))

    async def _message(self, accounts: Sequence[str], given: Given, by: str) -> Done:
        text = " ".join(given["text"].split())
        if not text or len(text) > LONGEST or not text.isprintable():
            raise GivenError(N_("a message is plain text of at most {count} characters", count=LONGEST))
        is_all = len(accounts) == len(self._roster())
        now = datetime.now(UTC)
        async with self._telling:
            await self._read_messages(now)
            self._messages.post(now, text, None if is_all else accounts)
            await self._ledger.set_note(MESSAGES, self._messages.to_json())
        await self._noted(by, "message", "" if is_all else " ".join(accounts))
        return Done(N_("Viewers show it within 15 seconds: {seats}.", seats=_whose(accounts)))

    async def _read_messages(self, now: datetime) -> None:
        """Take up what other gates wrote; what is over is not kept."""
        self._messages = Notes.from_json(await self._ledger.get_note(MESSAGES))
        before = len(self._messages)
        self._messages.tidy(now)
        if len(self._messages) < before:
            await self._ledger.set_note(MESSAGES, self._messages.to_json())

    async def _start(self, accounts: Sequence[str], _: Given, by: str) -> Done:
        return await self._desktop(self._desktops.start_desktops, "start desktop", accounts, by)

    async def _stop(self, accounts: Sequence[str], _: Given, by: str) -> Done:
        return await self._desktop(self._desktops.stop_desktops, "stop desktop", accounts, by)

    async def _restart(self, accounts: Sequence[str], _: Given, by: str) -> Done:
        return await self._desktop(self._desktops.restart_desktops, "restart desktop", accounts, by)

    async def _desktop(
        self, deed: Callable[[Sequence[str]], Awaitable[list[str]]], what: str, accounts: Sequence[str], by: str
    ) -> Done:
        """To the desktops that the seats show, and not to those that they do not."""
        names = await deed([self._seating.seat(account).shows for account in accounts])
        for account in accounts:
            await self._noted(by, what, account)
        return Done(N_("Asked for: {seats}.", seats=_whose(names)))

    async def _move_up(self, person: Person, given: Given, by: str) -> Done:
        if person.standing is Standing.SEATED:
            raise OrganizingError(N_("they have a seat: {account}", account=person.account))
        if not (account := given.get("account", "")):
            seats = {name: self._seating.seat(name) for name in self._roster()}
            shown = {seat.desktop for seat in seats.values()}
            free = [
                name
                for name, seat in seats.items()
                if not (seat.person or seat.spare or seat.pin_hash or name in shown)
            ]
            if not free:
                raise OrganizingError(N_("no seat is free; release one, or name a spare"))
            account = free[0]
        return await self._assign(account, {"person": person.id}, by)

    async def _remove(self, person: Person, _: Given, by: str) -> Done:
        await self._seating.forget(person.id, by)
        return Done(N_("All that was known of them is deleted."))

    SEAT_DEEDS: ClassVar[Mapping[str, Deed]] = {
        "assign": Deed(_assign, takes=("person", "name", "email", "language")),
        "release": Deed(_release),
        "move": Deed(_move, needs=("to",)),
        "swap": Deed(_swap, takes=("spare",)),
        "swap-back": Deed(_swap_back),
        "spare": Deed(_spare, needs=("spare",)),
        "pin": Deed(_pin),
        "link": Deed(_link),
        "revoke": Deed(_revoke, many=True),
        "sign-out": Deed(_sign_out, many=True),
        "extend": Deed(_extend, takes=("minutes", "until"), many=True),
        "message": Deed(_message, needs=("text",), many=True),
        "start": Deed(_start, many=True),
        "stop": Deed(_stop, many=True),
        "restart": Deed(_restart, many=True),
    }
    """What can be done to seats, by the names that pages, API and commands share."""
    PERSON_DEEDS: ClassVar[Mapping[str, Deed]] = {
        "move-up": Deed(_move_up, takes=("account",)),
        "remove": Deed(_remove),
    }
    """What can be done to people."""

    # ---- what these stand on

    def _named(self, names: Sequence[str]) -> list[str]:
        """The accounts that are meant. Raises OrganizingError where a name fits none."""
        roster = self._roster()
        found = {name: [name] if name in roster else fnmatch.filter(roster, name) for name in names}
        if unknown := [name for name, meant in found.items() if not meant]:
            raise UnknownError(N_("there is no account {names}", names=", ".join(unknown)))
        return list(dict.fromkeys(account for meant in found.values() for account in meant))

    def _one(self, name: str) -> str:
        """The one account that is meant. Raises OrganizingError where a name fits none, or more."""
        first, *others = self._named([name])
        if others:
            raise GivenError(N_("{name} means more than one account", name=name))
        return first

    def _must_be_free(self, account: str) -> None:
        if self._seating.seat(account).person:
            raise OrganizingError(N_("somebody has the seat {account}", account=account))
        if any(seat.desktop == account != name for name, seat in self._seating.seats().items()):
            raise OrganizingError(N_("another seat shows the desktop of {account}", account=account))

    async def _person(self, person_id: str) -> Person:
        if (person := await self._ledger.person(person_id)) is None:
            raise UnknownError(N_("nobody with this id is known"))
        return person

    async def _noted(self, by: str, what: str, about: str = "") -> None:
        await self._ledger.note(AuditEntry(datetime.now(UTC), by, what, about))


async def _nobody(_: Person) -> None:
    """Where there are no mails."""


def _newcomer(given: Given, answers: Given | None = None) -> Person:
    return Person(
        id=uuid.uuid4().hex,
        name=given["name"],
        email=given.get("email", ""),
        signed_up=datetime.now(UTC),
        language=given.get("language") or "en",
        answers=answers or {},
    )


def told(person: Person, *, names: bool) -> dict[str, Any]:
    """Somebody, as JSON values; without `names` nothing personal is in it."""
    body = {
        "id": person.id,
        "account": person.account,
        "standing": person.standing,
        "signed_up": person.signed_up.isoformat(),
        "language": person.language,
        "accepted": [{**asdict(each), "when": each.when.isoformat()} for each in person.accepted],
    }
    return body | ({"name": person.name, "email": person.email, "answers": dict(person.answers)} if names else {})


def _whose(accounts: Sequence[str]) -> str:
    return accounts[0] if len(accounts) == 1 else N_("{count} seats", count=len(accounts))


def _time(given: Given) -> tuple[timedelta, datetime | None]:
    """How much more, or until when. Raises GivenError."""
    if until := given.get("until"):
        try:
            return timedelta(), datetime.fromisoformat(until).astimezone(UTC)
        except (ValueError, OverflowError):  # the calendar has an end
            raise GivenError(N_("until is a time such as 2026-03-05T18:00+01:00")) from None
    minutes = given.get("minutes", "")
    if not minutes.isascii() or not minutes.isdigit() or not 0 < int(minutes[:9]) <= LONGEST_MINUTES:
        raise GivenError(N_("minutes is a number from 1 to {most}, or give until", most=LONGEST_MINUTES))
    return timedelta(minutes=int(minutes)), None
