"""What an account's line asks for, of what the settings have. Pure."""

from __future__ import annotations

from dataclasses import dataclass

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
