"""The cookie that says who is signed in: its name, what of it is known to whom, and how it is read from a request.

Its value is 32 random bytes in base64url, and a secret. Whoever must know it again (the ledger, the engine) has its
digest alone. Follows RFC 6265 (section 4.2.1), and RFC 6265bis for `__Host-`: browsers take a cookie of that name from
the host itself only, over https, for all of its paths, so no neighbour of the same domain can plant one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

SESSION = "vncgate_session"
"""The cookie's name over http."""
SECURE_SESSION = "__Host-vncgate_session"
"""Its name over https, where no other counts."""
SIZE = 32
"""Random bytes of a value."""

_VALUE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def session_name(*, secure: bool) -> str:
    """The name of the session's cookie; `secure`: the site is reached over https."""
    return SECURE_SESSION if secure else SESSION


def session_value(headers: Iterable[str], *, secure: bool) -> str | None:
    """The session's cookie in a request's Cookie headers; None where there is none that can be ours.

    A name that comes twice is none: who planted the other one does not decide which counts.
    """
    name = session_name(secure=secure)
    pairs = (pair.strip(" \t").partition("=") for header in headers for pair in header.split(";"))
    found = [value for key, _, value in pairs if key == name]
    return found[0] if len(found) == 1 and _VALUE.fullmatch(found[0]) else None


def digest(value: str) -> str:
    """What is known of a cookie where it is not to be stolen: SHA-256 of its value, in hex.

    The value has 256 random bits, so nothing slower is needed, nor a salt.
    """
    return hashlib.sha256(value.encode()).hexdigest()
