"""The nouns of those who take part: people, the seats they sit on, their sessions, what they share; values only.

A seat is an account as somebody sits on it: what the token file does not know. All times are in UTC, and aware of it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


class Mode(enum.StrEnum):
    """What a browser may do with a desktop."""

    CONTROL = "control"
    VIEW = "view"


@dataclass(frozen=True, slots=True)
class Seat:
    """An account with what is known of who sits there.

    `person` is the id of whoever has it (empty: nobody that is known). `pin_hash` is argon2's encoded text; where it is
    empty the token file's `pin=` counts. Seat links and sessions of an `epoch` before are worthless. `desktop` is the
    account whose desktop the seat shows instead of its own, after a swap. A `spare` is given away by no sign-up.
    `until` is when the seat ends, where that is not the workshop's end.
    """

    account: str
    person: str = ""
    pin_hash: str = ""
    epoch: int = 0
    desktop: str = ""
    spare: bool = False
    until: datetime | None = None

    @property
    def shows(self) -> str:
        """The account whose desktop the seat shows."""
        return self.desktop or self.account


class Standing(enum.StrEnum):
    """How far somebody has come."""

    SEATED = "seated"
    WAITING = "waiting"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A document that somebody agreed to: its name, and the SHA-256 of the text that they saw."""

    document: str
    sha256: str
    when: datetime


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who signed up, or whom an organizer put on a seat.

    `email` and `name` are the form's fields of these names, where it has them; `answers` all others. `account` is the
    seat of who is SEATED; `place` the number in the order of signing up, by which the waiting list moves up.
    """

    id: str
    name: str
    email: str
    signed_up: datetime
    standing: Standing = Standing.WAITING
    account: str = ""
    place: int = 0
    language: str = "en"
    answers: Mapping[str, str] = field(default_factory=dict)
    accepted: tuple[Acceptance, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in. `digest` is the SHA-256 (hex) of its cookie's value, which is kept nowhere.

    On the seat of account `seat`, with `mode`; by the share of this id, where it came by one. Or as an organizer, by
    the API token of this name; then it has no seat.
    """

    digest: str
    created: datetime
    expires: datetime
    seat: str = ""
    mode: Mode = Mode.CONTROL
    share: str = ""
    organizer: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """A seat's owner lets others see their desktop, or use it, with a link, until they end it or it expires."""

    id: str
    account: str
    mode: Mode
    created: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to whom: never a secret in it, and no name of a person; `about` is an account or a person's id."""

    when: datetime
    who: str
    what: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """A message that waits to be sent; `tries` were in vain so far, and the next is `due` then."""

    id: str
    person: str
    to: str
    subject: str
    text: str
    due: datetime
    tries: int = 0
