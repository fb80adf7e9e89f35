"""New VNC passwords in a token file on disk: what an old card or an old password file says is worthless then."""

from __future__ import annotations

import functools
import secrets
from dataclasses import dataclass
from pathlib import Path

from vncgate.errors import TokensError
from vncgate.files import replace_file
from vncgate.new_accounts import new_password, new_pin
from vncgate.tokens import parse, rekeyed


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """How many accounts were given a new password, and how many `others` have one that a VNC server of theirs knows."""

    given: int
    others: int


def rekey(path: Path, *, with_pins: bool = False, of_all: bool = False) -> Rekeyed:
    """Give the accounts whose desktops the gate starts new passwords; with `of_all` those of all others, too.

    The file is replaced in one step; comments, order, columns, mode and owner stay. An account without a password stays
    so. It blocks on the disk. Raises TokensError where the file has errors, or cannot be read or written.
    """
    try:
        data = path.read_bytes()
        parsed = parse(data)
        if parsed.errors:
            raise TokensError(f"{path} has errors and stays as it is; vncgate check lists them")
        accounts = parsed.roster.values()
        meant = [each for each in accounts if each.password and (of_all or each.desktop is None)]
        password = functools.partial(new_password, secrets.choice)
        pin = functools.partial(new_pin, secrets.choice) if with_pins else None
        text = rekeyed(data.decode("utf-8"), meant, password, pin)
        replace_file(path, text.encode())
    except OSError as error:
        raise TokensError(f"{path}: new passwords cannot be written: {error.strerror}") from None
    return Rekeyed(len(meant), sum(each.desktop is not None for each in accounts) if not of_all else 0)
