"""Does this roster fit these settings? Pure; the problems join those of the token file."""

from __future__ import annotations

from collections.abc import Iterator

from vncgate.errors import SettingsError
from vncgate.kinds import DesktopsSettings
from vncgate.model import Account, Problem, Roster, Severity
from vncgate.settings import EngineName, Form, Settings

ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104  (compared with, not bound to)
"""Addresses that stand for all of a machine's."""

NO_KINDS = (
    "vnchost -: the settings have no kind of desktop to start ([desktops.kinds.NAME]), so the account stays offline"
)


def check_settings(settings: Settings) -> None:
    """Raise SettingsError for settings that contradict each other."""
    if settings.snippet_form is Form.SINGLE and not settings.accounts_port:
        raise SettingsError(
            f"apache.form: `single` needs the shared port, {_why_not_shared(settings)}; use form `guide`"
        )
    idle = [name for name, kind in settings.desktops.kinds.items() if kind.idle_timeout]
    if idle and settings.engine is EngineName.WEBSOCKIFY:
        raise SettingsError(f"desktops.kinds.{idle[0]}.idle_timeout: only engine `relay` sees who uses a desktop")
    if settings.accounts_port and (taken := _taken_by(settings.accounts_port, settings)):
        raise SettingsError(f"shared_port: {settings.shared_port} is the port of {taken} already")


def check_roster(roster: Roster, settings: Settings) -> tuple[Problem, ...]:
    """The errors of accounts that cannot work with these settings, and warnings of those that stay offline."""
    errors = [
        Problem(account.line, 1, Severity.ERROR, f"account {account.name}: {message}")
        for account in roster.accounts
        for message in _misfits(account, settings)
    ]
    offline = [account for account in roster.accounts if account.desktop is None and not settings.desktops.kinds]
    return (*errors, *(Problem(account.line, 1, Severity.WARNING, NO_KINDS) for account in offline))


def _misfits(account: Account, settings: Settings) -> Iterator[str]:
    if account.port is None:
        if not settings.accounts_port:
            yield f"without a websocketport ('-') it needs the shared port, {_why_not_shared(settings)}"
    elif account.port == settings.accounts_port:
        yield f"websocketport {account.port} is the gate's shared port (setting shared_port)"
    elif taken := _taken_by(account.port, settings):
        yield f"websocketport {account.port} is the port of {taken}"
    if account.desktop is None and settings.desktops.kinds:
        yield from _unknown(account, settings.desktops)


def _unknown(account: Account, desktops: DesktopsSettings) -> Iterator[str]:
    """What a launcher would not know to start."""
    name = account.kind or desktops.default_kind
    kinds = ", ".join(desktops.kinds)
    if not name:
        yield f"which kind of desktop? Write desktop= with one of {kinds}, or the setting desktops.kind"
    elif name not in desktops.kinds:
        yield f"there is no kind of desktop {name!r} in the settings; known are {kinds}"
    elif account.size and account.size not in (sizes := desktops.kinds[name].sizes):
        known = f"known are {', '.join(sizes)}" if sizes else "it has none"
        yield f"desktop {name} has no size {account.size!r}; {known}"


def _why_not_shared(settings: Settings) -> str:
    if settings.engine is EngineName.WEBSOCKIFY:
        return "which engine `websockify` does not have"
    return "and the setting shared_port is 0"


def _taken_by(port: int, settings: Settings) -> str:
    """What else of ours has this port, on an address that websockets have too; empty when it is free."""
    others = {
        "the pages (setting web)": settings.web,
        "the metrics (setting metrics.address)": settings.metrics.address,
    }
    for other, address in others.items():
        if address and address.port == port:
            hosts = {address.host, settings.listen}
            if len(hosts) == 1 or ANY & hosts:
                return other
    return ""
