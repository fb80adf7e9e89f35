"""What organizers tell those who are at their desktops: short texts that stand in the viewer for some minutes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

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

    def __init__(self) -> None:
        self._notes: list[Note] = []

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
        self._notes = [note for note in self._notes if note.until > now]
        return [note for note in self._notes if note.accounts is None or account in note.accounts]
