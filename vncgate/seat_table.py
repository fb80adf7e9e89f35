"""The organizer's table: what is shown of each seat, and how good its connection is."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from vncgate.languages import N_, joined
from vncgate.model import AccountStatus, Roster
from vncgate.people import Person, Seat
from vncgate.render.cards import Card, Shown

GOOD, FAIR = 0.1, 0.25
"""Seconds of round trip up to which a desktop feels crisp, and up to which it is merely noticeable (Tolia, Andersen and
Satyanarayanan, "Quantifying Interactive User Experience on Thin Clients", IEEE Computer 39(3), 2006)."""
WHEN_OPENED = N_("it starts when its participant opens it")
"""What organizers read in the place of what the participant does."""
STEP = 0.01
"""Seconds to which a round trip is rounded: less is no news."""


class Quality(enum.StrEnum):
    """How a connection feels."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class SeatRow:
    """One seat. `state` and `reason` are of the desktop that it shows, as its participant is told.

    `used` is when somebody last used that desktop (seconds since the epoch; None: never, or not known), `delay` the
    round trip in seconds (None: nobody is connected, or not known). `shown_by` are the seats that show this account's
    desktop in the place of their own. `person` is an id; `name` and `email` are personal.
    """

    account: str
    title: str
    path: str
    state: str
    reason: str
    person: str = ""
    name: str = ""
    email: str = ""
    desktop: str = ""
    shown_by: tuple[str, ...] = ()
    spare: bool = False
    until: datetime | None = None
    connections: int = 0
    used: float | None = None
    delay: float | None = None
    quality: Quality = Quality.UNKNOWN
    bytes_up: int = 0
    bytes_down: int = 0
    is_launched: bool = False

    def to_json(self, *, names: bool) -> dict[str, Any]:
        """As it travels; without `names` nothing personal is in it."""
        body = {**asdict(self), "until": self.until.isoformat() if self.until else None}
        if not names:
            del body["name"], body["email"]
        return body


def quality(delay: float | None) -> Quality:
    """How a round trip of so many seconds feels."""
    if delay is None:
        return Quality.UNKNOWN
    return Quality.GOOD if delay <= GOOD else Quality.FAIR if delay <= FAIR else Quality.POOR


def rows(
    roster: Roster,
    statuses: Iterable[AccountStatus],
    cards: Mapping[str, Card],
    seats: Mapping[str, Seat],
    people: Iterable[Person],
    ahead: float,
) -> list[SeatRow]:
    """A row for each account, in the token file's order. `cards` are by path, as `render.cards` makes them.

    `ahead` is how much the clock of people is before the one of `Traffic.used`, in seconds.
    """
    proxies = {status.name: status for status in statuses}
    sitting = {person.id: person for person in people}
    shown_by: dict[str, list[str]] = {}
    for name in roster:
        if name in seats and seats[name].desktop:
            shown_by.setdefault(seats[name].desktop, []).append(name)
    made = []
    for account in roster.values():
        seat = seats.get(account.name) or Seat(account.name)
        shown = roster.get(seat.shows, account)
        card = cards.get(shown.path)
        person = sitting.get(seat.person)
        traffic = proxies[shown.name].traffic if shown.name in proxies else None
        # Of those who are there: a round trip of somebody who has left is none.
        delay = (traffic.delay or None) if traffic and traffic.connections else None
        made.append(
            SeatRow(
                account=account.name,
                title=account.title,
                path=shown.path,
                state=(card and card.state) or Shown.CHECKING,
                reason=_reason(card) if card else "",
                person=seat.person,
                name=person.name if person else "",
                email=person.email if person else "",
                desktop=seat.desktop,
                shown_by=tuple(shown_by.get(account.name, ())),
                spare=seat.spare,
                until=seat.until,
                connections=traffic.connections if traffic else 0,
                used=round(traffic.used + ahead) if traffic and traffic.used else None,
                delay=round(round(delay / STEP) * STEP, 3) if delay is not None else None,
                quality=quality(delay),
                bytes_up=(traffic.bytes_up or 0) if traffic else 0,
                bytes_down=(traffic.bytes_down or 0) if traffic else 0,
                is_launched=card.is_launched if card else False,
            )
        )
    return made


def _reason(card: Card) -> str:
    if card.waits_for_visit and card.desktop:
        return joined([card.desktop.reason, WHEN_OPENED])
    return card.reason
