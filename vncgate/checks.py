"""Do these settings make sense, and does this roster fit them? Pure; the problems join those of the token file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from vncgate.errors import SettingsError
from vncgate.kinds import AnyPlace, DesktopsSettings, Kind, LocalPlace, Policy, Resources, SshLogin, Wrap
from vncgate.model import Account, Problem, Roster, Severity
from vncgate.settings import Access, EngineName, Form, Settings
from vncgate.workshop import timetable

ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104  (compared with, not bound to)
"""Addresses that stand for all of a machine's."""

NO_KINDS = (
    "vnchost -: the settings have no kind of desktop to start ([desktops.kinds.NAME]), so the account stays offline"
)


KEPT = {
    "slurm": frozenset(Resources.model_fields),
    "docker": frozenset({"cores", "memory", "gpus", "geometry", "extra"}),
}
"""The resources that places of a type keep to; those of other types have a screen of the right size, and no more."""
TEMPLATES = ("desktop.sh.j2", "job.sh.j2", "container.yml.j2")
"""What a site can replace."""


NO_SUCH_KIND = "there is no kind of desktop"
"""How the problem of an account begins whose kind the settings do not have."""


def check_settings(settings: Settings) -> None:
    """Raise SettingsError for settings that contradict each other."""
    if settings.access is Access.SEAT:
        _check_seats(settings)
    if settings.snippet_form is Form.SINGLE and not settings.accounts_port:
        raise SettingsError(
            f"apache.form: `single` needs the shared port, {_why_not_shared(settings)}; use form `guide`"
        )
    if settings.signup.enabled and settings.access is not Access.SEAT:
        raise SettingsError('signup.enabled: a sign-up gives a seat with a PIN and a link: write access = "seat"')
    _check_mail(settings)
    idle = [name for name, kind in settings.desktops.kinds.items() if kind.idle_timeout]
    if idle and settings.engine is EngineName.WEBSOCKIFY:
        raise SettingsError(f"desktops.kinds.{idle[0]}.idle_timeout: only engine `relay` sees who uses a desktop")
    if unknown := [name for name in settings.api.kinds if name not in settings.desktops.kinds]:
        known = ", ".join(settings.desktops.kinds) or "none"
        raise SettingsError(f"api.kinds: there is no kind of desktop {unknown[0]!r}; known are {known}")
    if settings.accounts_port and (taken := _taken_by(settings.accounts_port, settings)):
        raise SettingsError(f"shared_port: {settings.shared_port} is the port of {taken} already")


def _check_mail(settings: Settings) -> None:
    mail = settings.mail
    if mail.host and not mail.sender:
        raise SettingsError("mail.sender: is missing, the address that mails come from")
    if mail.host and not settings.public_url:
        raise SettingsError("public_url: is missing; mails have links to it")
    if bool(mail.user) != (mail.password_file is not None):
        raise SettingsError("mail.user: goes with mail.password_file; write both, or none")


def _check_seats(settings: Settings) -> None:
    """What access `seat` needs, and what does not go with it."""
    if settings.engine is not EngineName.RELAY:
        raise SettingsError('access: `seat` needs engine `relay`, which logs in to desktops; or write access = "vnc"')
    if not settings.public_url:
        raise SettingsError("public_url: access `seat` needs it, as https://workshop.example.org/: links begin with it")
    if not settings.web:
        raise SettingsError("web: is off, but with access `seat` people sign in on the pages")
    if settings.landing.export:
        raise SettingsError("landing.export: pages as files let nobody sign in; leave it out with access `seat`")
    if settings.landing.novnc_dir:
        raise SettingsError("landing.novnc_dir: with access `seat` only our own viewer is let in; leave it out")


def doubts(settings: Settings, is_there: Callable[[Path], bool], now: datetime) -> Iterator[str]:
    """What is allowed, but hardly meant: each begins with the setting's name. `is_there` looks for a file or folder, in
    whose name `~` may stand.
    """
    desktops = settings.desktops
    if desktops.end and desktops.end <= now:
        yield f"desktops.end: {desktops.end} is over, so no desktop is started any more; write a later one, or none"
    for document in settings.signup.documents:
        for path in document.file.texts.values():
            if not is_there(Path(path)):
                yield f"signup.documents: {document.name}: there is no file {path}, so the gate does not start"
    if (code := settings.signup.code_file) and not is_there(code):
        yield f"signup.code_file: there is no file {code}, so the gate does not start"
    if settings.mail.host and settings.signup.fields and "email" not in {each.name for each in settings.signup.fields}:
        yield "mail.host: the sign-up form has no field named email, so nobody is written to"
    yield from (f"workshop: {words}" for words in _doubts_of_times(settings, now))
    for name, place in desktops.places.items():
        yield from (f"desktops.places.{name}.{words}" for words in _doubts_of_login(place, is_there))
    if folder := desktops.templates:
        if not is_there(folder):
            yield f"desktops.templates: there is no folder {folder}, so our own templates are taken"
        elif not any(is_there(folder / name) for name in TEMPLATES):
            yield f"desktops.templates: {folder} has none of {', '.join(TEMPLATES)}, so our own are taken"
    for name, kind in desktops.kinds.items():
        yield from (f"desktops.kinds.{name}.{words}" for words in _doubts_of(kind, desktops, is_there))


def _doubts_of_times(settings: Settings, now: datetime) -> Iterator[str]:
    times, end = timetable(settings.workshop), settings.desktops.end
    if times and settings.access is not Access.SEAT:
        yield 'its times are followed with access = "seat" only'
    if (closes := settings.workshop.closes) is None:
        return
    if closes <= now:
        yield f"{closes} is past, so the workshop is over; write a later time, or none"
    if end and end <= closes:
        yield f"desktops.end ({end}) is not after the end ({closes}): leave it out, it warns nobody"


def _doubts_of_login(place: AnyPlace, is_there: Callable[[Path], bool]) -> Iterator[str]:
    if isinstance(place, SshLogin):
        if place.key and not is_there(place.key):
            yield f"key: there is no key file {place.key}, so nobody can log in"
        if place.known_hosts and not is_there(place.known_hosts):
            yield f"known_hosts: there is no file {place.known_hosts}, so no host is trusted"


def _doubts_of(kind: Kind, desktops: DesktopsSettings, is_there: Callable[[Path], bool]) -> Iterator[str]:
    place = desktops.place(kind.place) or LocalPlace()
    kept = KEPT.get(place.type, frozenset({"geometry"}))
    for prefix, resources in {"": kind, **{f"sizes.{size}.": each for size, each in kind.sizes.items()}}.items():
        for name in Resources.model_fields:
            if name not in kept and getattr(resources, name) is not None:
                yield f"{prefix}{name}: a place of type {place.type} does not keep to it; leave it out, or take another"
    if kind.wrap is not Wrap.APPTAINER:
        yield from (f'{name}: is for wrap = "apptainer"' for name in ("overlay", "nvidia") if getattr(kind, name))
    elif isinstance(place, LocalPlace) and not is_there(Path(kind.image)):
        yield f"image: there is no {kind.image} on this host; `vncgate images deploy` brings one"
    if kind.policy is Policy.POOL and (names := desktops.personal(kind)):
        yield f"policy: no pool is kept, as {{account}} stands in {', '.join(names)}; write on_demand, or take it out"
    if kind.pool and kind.policy is not Policy.POOL:
        yield f'pool: is for policy = "pool"; this one is {kind.policy}, so none are kept ready'


def root_desktops(settings: DesktopsSettings) -> list[str]:
    """Why a gate that runs as root does not start the desktops of these settings: a line for each place."""
    used = {kind.place: settings.place(kind.place) for kind in settings.kinds.values()}
    return [
        f"desktops.places.{name}.user: is empty, and desktops do not run as root: write "
        "user = \"{account}\" for the accounts' own users, or one user's name; "
        '"root" where there is nobody else, as in a container that the gate is in'
        for name, place in used.items()
        if place and not place.user
    ]


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
        yield f"{NO_SUCH_KIND} {name!r} in the settings; known are {kinds}"
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
