"""Who is let in to guarded accounts: the cookie of a session decides, at the handshake and without asking anybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vncgate import cookies
from vncgate.engines.base import Admissions, Limits
from vncgate.engines.handshake import Refused, came_over_https, objection
from vncgate.people import Mode
from vncgate.tally import Refusal

if TYPE_CHECKING:
    from multidict import CIMultiDict  # what picows gives

NOT_SIGNED_IN = Refused(403, "You are not signed in to such a desktop: sign in first.", Refusal.NOT_SIGNED_IN)
"""The one answer to all who are not admitted, whether there is an account of that path or not."""
INSECURE = Refused(403, "Desktops are open over https only.", Refusal.INSECURE)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose browser it is: what they may do, and the digest of the cookie that let them in (empty: none was asked
    for).
    """

    mode: Mode
    digest: str = ""


ANYBODY = Visitor(Mode.CONTROL)
"""Who comes to an account that is not guarded: its desktop asks for a password."""


class Admission:
    """Who may come where. `trusts` says of an address whether it is a proxy that is believed."""

    def __init__(self, limits: Limits, trusts: Callable[[str], bool]) -> None:
        self._limits = limits
        self._trusts = trusts
        self._admitted: dict[str, dict[str, Mode]] = {}

    def change(self, admissions: Admissions) -> None:
        """See engines.base.Engine.admit."""
        for name, admitted in admissions.items():
            if admitted:
                self._admitted[name] = dict(admitted)
            else:
                self._admitted.pop(name, None)

    def visitor(self, name: str | None, path: bytes, headers: CIMultiDict[str], peer: str) -> Visitor | Refused:
        """Who comes to the guarded account `name` (None: there is none of that path), by way of `peer`.

        What those are told who are not admitted depends on their request alone, and not on what there is.
        """
        secure = self._limits.secure
        if refused := objection(path, headers, self._limits):
            return refused
        if secure and not (self._trusts(peer) and came_over_https(headers.getall("X-Forwarded-Proto", []))):
            return INSECURE
        # Nor for a page of this host that came over http: whoever sits on the network may have written it.
        if secure and not headers.get("Origin", "https:").strip().lower().startswith("https:"):
            return INSECURE
        cookie = cookies.session_value(headers.getall("Cookie", []), secure=secure)
        if cookie is None or name is None:
            return NOT_SIGNED_IN
        digest = cookies.digest(cookie)
        mode = self._admitted.get(name, {}).get(digest)
        return NOT_SIGNED_IN if mode is None else Visitor(mode, digest)
