"""What an account's line asks for, of what the settings have. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace

from vncgate.errors import LaunchError
from vncgate.kinds import DesktopsSettings, Kind
from vncgate.model import Account


@dataclass(frozen=True, slots=True)
class Choice:
    """A kind's name, its size (empty: it has none), and the kind in that size."""

    name: str
    size: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.name} ({self.size})" if self.size else self.name


def choose(settings: DesktopsSettings, account: Account) -> Choice:
    """What is to be started for an account. Raises LaunchError where the settings have no such thing."""
    name = account.kind or settings.default_kind
    known = ", ".join(settings.kinds)
    if not known:
        raise LaunchError("the settings have no kind of desktop: a section [desktops.kinds.NAME] is missing")
    if not name:
        raise LaunchError(f"no kind of desktop is chosen: write desktop=KIND in the account's line ({known})")
    if name not in settings.kinds:
        raise LaunchError(f"the settings have no kind of desktop {name!r}, only {known}")
    try:
        kind = settings.kinds[name].sized(account.size)
    except KeyError:
        sizes = ", ".join(settings.kinds[name].sizes) or "none"
        raise LaunchError(f"kind {name} has no size {account.size!r} (its sizes: {sizes})") from None
    return Choice(name, account.size or kind.size, kind)


def mark(settings: DesktopsSettings, account: Account) -> str:
    """What stands for all that is to be started for an account, its place included: another one is another mark. Empty
    where the settings do not have it.
    """
    try:
        choice = choose(settings, account)
    except LaunchError:
        return ""
    return hashlib.sha256(repr((choice, settings.place(choice.kind.place))).encode()).hexdigest()


def choose_other(
    settings: DesktopsSettings, offered: Collection[str], account: Account, kind: str, size: str
) -> Choice:
    """What somebody asks for in the place of what the account's line says: one of the kinds `offered`, in any of its
    sizes, or just what the line says. Without `kind` it is the line's, without `size` the kind's own. Raises
    LaunchError where that may not be.
    """
    other = replace(account, kind=kind or account.kind or settings.default_kind, size=size)
    if other.kind in offered:
        return choose(settings, other)
    own = choose(settings, account)
    if other.kind != own.name or size not in ("", own.size):
        what = f"kind {other.kind}" if kind else f"size {size} of kind {other.kind}"
        raise LaunchError(f"{what} may not be chosen; on offer (setting api.kinds): {', '.join(offered) or 'none'}")
    return own
