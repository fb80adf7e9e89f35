"""What organizers tell those who are at their desktops: short texts that stand in the viewer for some minutes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

MESSAGES = "messages"
"""The ledger's note with what organizers told viewers in the last minutes."""
LASTS = timedelta(minutes=10)
"""How long a note is shown to who opens a viewer after it was written."""
LONGEST = 500
"""Characters of a note."""
MOST = 200
"""Notes that are kept; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Note:
    """One text. `accounts` are whose viewers it is for (None: everybody's), `number` grows."""

    number: int
    when: datetime
    text: str
    until: datetime
    accounts: frozenset[str] | None = None


class Notes:
    """All notes that are shown now."""

    def __init__(self, notes: Iterable[Note] = ()) -> None:
        self._notes = list(notes)

    @classmethod
    def from_json(cls, text: str) -> Notes:
        """The reverse of `to_json()`; of a text that is not of it: none."""
        try:
            return cls(_read(each) for each in json.loads(text))
        except (LookupError, TypeError, ValueError):
            return cls()

    def to_json(self) -> str:
        """All of them, as a text."""
        return json.dumps([_written(note) for note in self._notes])

    def __len__(self) -> int:
        """How many there are, whoever they are for."""
        return len(self._notes)

    def post(
        self,
        now: datetime,
        text: str,
        accounts: Collection[str] | None = None,
        until: datetime | None = None,
    ) -> Note:
        """Show a text, to the viewers of these seats (None: of all), until then (None: for LASTS)."""
        # A daemon that is started anew goes on counting where the one before it was: viewers know what they have shown.
        number = max([int(now.timestamp() * 1000), *(note.number + 1 for note in self._notes)])
        chosen = None if accounts is None else frozenset(accounts)
        note = Note(number, now, text, until or now + LASTS, chosen)
        self._notes = [*self._notes, note][-MOST:]
        return note

    def of(self, account: str, now: datetime) -> list[Note]:
        """What the viewer of this seat shows, the oldest first."""
        self.tidy(now)
        return [note for note in self._notes if note.accounts is None or account in note.accounts]

    def tidy(self, now: datetime) -> None:
        """Forget those that are over."""
        self._notes = [note for note in self._notes if note.until > now]


def _written(note: Note) -> dict[str, Any]:
    times = {"when": note.when.isoformat(), "until": note.until.isoformat()}
    accounts = None if note.accounts is None else sorted(note.accounts)
    return {"number": note.number, "text": note.text, "accounts": accounts, **times}


def _read(body: Mapping[str, Any]) -> Note:
    when, until = (datetime.fromisoformat(body[name]) for name in ("when", "until"))
    accounts = None if body["accounts"] is None else frozenset(body["accounts"])
    return Note(int(body["number"]), when, str(body["text"]), until, accounts)
