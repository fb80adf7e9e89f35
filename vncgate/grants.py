"""Who may use the REST API: bearer tokens, kept as hashes in a JSON file that `vncgate token` edits.

A token is 256 random bits, which nobody can guess or find by trying: one SHA-256 keeps it as safely as a slow hash
keeps a password that a person chose. A slow one would only let strangers keep the gate busy, since every request is
checked.
"""

from __future__ import annotations

import enum
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from vncgate.errors import SettingsError
from vncgate.kinds import Name
from vncgate.model import Secret

PREFIX = "vncgate_"
"""What tokens begin with, so that a program that looks for leaked secrets knows one."""


class Scope(enum.StrEnum):
    """What a token is good for."""

    READ = "read"
    WRITE = "write"
    ORGANIZE = "organize"


class Grant(BaseModel):
    """One token: whose it is, and what it allows. `accounts` are patterns as a shell's (`ws0*`).

    Who may organize sees all people and seats: such a token cannot be for some accounts alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    accounts: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    created: datetime

    @model_validator(mode="after")
    def _organizes_all(self) -> Self:
        if Scope.ORGANIZE in self.scopes and self.accounts != ("*",):
            raise ValueError("a token with the scope organize is for all accounts, and cannot be for some alone")
        return self

    def concerns(self, account: str) -> bool:
        """Whether it is good for this account."""
        return any(fnmatch.fnmatchcase(account, pattern) for pattern in self.accounts)


_FILE = TypeAdapter(tuple[Grant, ...])


def digest(token: Secret) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.reveal().encode("utf-8", "surrogateescape")).hexdigest()


def find(grants: Iterable[Grant], token: Secret) -> Grant | None:
    """The grant of a token; how long it takes tells nothing of the tokens that there are."""
    shown = digest(token)
    matching = [grant for grant in grants if hmac.compare_digest(grant.sha256, shown)]
    return matching[0] if matching else None


def parse(content: bytes) -> tuple[Grant, ...]:
    """The grants of a file's content; an empty one has none. Raises SettingsError that says what is wrong where."""
    if not content.strip():
        return ()
    try:
        grants = _FILE.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        words = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{where + ': ' if where else ''}{words}") from None
    if len({grant.name for grant in grants}) < len(grants):
        raise SettingsError("a name is there twice")
    return grants


def render(grants: Iterable[Grant]) -> bytes:
    """The content of the file."""
    return _FILE.dump_json(tuple(grants), indent=2) + b"\n"
