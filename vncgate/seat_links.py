"""Links that open something without a PIN: a text, and a signature by which the gate knows its own. Pure.

    v1.TEXT.SIGNATURE           TEXT of a seat link: ACCOUNT.EXPIRY.EPOCH, of a share: its id

The signature is HMAC-SHA256 (RFC 2104) over the purpose and the text, in base64url without padding (RFC 4648, section
5); a link for one purpose is none for another. Whoever has a link may use it: it stands in the fragment of an address,
which no server is sent (RFC 9110, section 4.2.5) and no log has.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

KEY_BYTES = 32
"""What a key has at least: as much as the hash gives."""
LONGEST = 512
"""Characters of a link's token; one of ours has less."""
SEAT, SHARE = "seat", "share"
"""What a link is for."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")


@dataclass(frozen=True, slots=True)
class SeatLink:
    """What a seat link says: it opens the seat of `account` until `expires` (seconds since the epoch), as long as the
    seat's epoch is this one.
    """

    account: str
    expires: int
    epoch: int


def seat_token(key: bytes, link: SeatLink) -> str:
    """The token of a seat link."""
    return sign(key, SEAT, f"{link.account}.{link.expires}.{link.epoch}")


def read_seat_token(key: bytes, token: str) -> SeatLink | None:
    """What a seat link says; None where it is not signed by us. Whether it still holds is the caller's to see."""
    account, _, rest = (verified(key, SEAT, token) or "").rpartition(".")
    account, _, expires = account.rpartition(".")
    if not account or not _NUMBER.fullmatch(expires) or not _NUMBER.fullmatch(rest):
        return None
    return SeatLink(account, int(expires), int(rest))


def sign(key: bytes, purpose: str, text: str) -> str:
    """A token that says `text`, and that only who has the key can make. `purpose` has no line's end in it."""
    return f"v1.{text}.{signature(key, purpose, text)}"


def verified(key: bytes, purpose: str, token: str) -> str | None:
    """The text of a token of this purpose; None where it was made with no key of ours. Tells nothing by its time."""
    if len(token) > LONGEST or not token.startswith("v1."):
        return None
    text, _, signed = token.removeprefix("v1.").rpartition(".")
    right = hmac.compare_digest(signature(key, purpose, text).encode(), signed.encode(errors="replace"))
    return text if right else None


def signature(key: bytes, purpose: str, text: str) -> str:
    """What only who has the key can say of a text; it does not tell the text."""
    signed = f"vncgate {purpose}\n{text}".encode(errors="surrogatepass")
    return base64.urlsafe_b64encode(hmac.digest(key, signed, hashlib.sha256)).rstrip(b"=").decode()
