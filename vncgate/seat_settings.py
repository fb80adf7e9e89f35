"""Seats, their sessions and links: the section `[seats]` of the settings' file. Values only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from vncgate.kinds import File, Section


def _ledger(value: str) -> str:
    if value == "" or value.startswith("/"):
        return value
    if not re.match(r"(postgresql://|sqlite:///).", value):
        raise ValueError("write postgresql://USER@HOST/DATABASE, or the path of a file that has such an address in it")
    if urlsplit(value).password is not None:
        raise ValueError("a password does not belong here: write the address to a file (mode 0600), and its path here")
    return value


class SeatSettings(Section):
    """Who sits where, and how long they stay signed in (access `seat`)."""

    ledger: Annotated[str, AfterValidator(_ledger)] = ""
    """Database of people, seats and sessions. Empty: a file of SQLite, ledger.sqlite in the state folder, for one gate.
    Else `postgresql://USER@HOST/DATABASE`, which several gates may share; an address with a password in it stands in a
    file, whose path is written here."""
    key: File = None
    """File of the key that signs links and forms; it is made where it is missing. None: seats.key in the state folder.
    Gates that share a ledger share the key. A new key makes all links worthless."""
    session_hours: Annotated[float, Field(gt=0, le=8760, strict=True)] = 24.0
    """Hours after which a browser has to sign in again."""
    link_days: Annotated[float, Field(gt=0, le=366, strict=True)] = 14.0
    """Days that a seat link may be used."""

    @property
    def ledger_file(self) -> Path | None:
        """The file that has the ledger's address in it, where there is one."""
        return Path(self.ledger) if self.ledger.startswith("/") else None
