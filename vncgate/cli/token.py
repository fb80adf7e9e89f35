"""`vncgate token`: who may use the REST API, and the organizer's page.

It edits the file of the setting api.tokens, which the daemon watches.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from vncgate import grants, settings
from vncgate.cli.config import add_config
from vncgate.errors import SettingsError
from vncgate.files import replace_file
from vncgate.grants import PREFIX, Grant, Scope
from vncgate.model import Secret

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another command that changes the file."""
LOCK_RETRY = 0.05
SCOPES = f"{', '.join(Scope)}, or several with commas between"


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `token`."""
    actions = commands.add_parser("token", help="tokens of the REST API (setting api.tokens)").add_subparsers(
        metavar="ACTION", required=True
    )
    create = actions.add_parser(
        "create",
        aliases=["new"],
        help="make a token",
        description="Make a token, and print it: it is shown this once.",
    )
    flag = create.add_argument
    flag("--scope", type=_words, required=True, metavar="LIST", help=f"what it allows: {SCOPES}")
    flag("--accounts", type=_words, default=("*",), metavar="LIST", help="names or patterns, as 'ws0*' (default: all)")
    revoke = actions.add_parser("revoke", help="end a token", description="End a token, from the next request on.")
    listing = actions.add_parser("list", help="the tokens that there are", description="List the tokens.")
    for parser, run in ((create, _create), (revoke, _revoke), (listing, _list)):
        if parser is not listing:
            parser.add_argument("name", metavar="NAME", help="whose it is, as the gate's log will say")
        add_config(parser)
        parser.set_defaults(run=run)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.replace(",", " ").split() if word)


def _file(args: argparse.Namespace) -> Path:
    file = settings.load(args.config, os.environ).api.tokens
    if file is not None:
        return file
    if args.config:
        raise SettingsError(
            f'{args.config}: it names no file for tokens: below [api] write tokens = "/etc/vncgate/api.tokens"'
        )
    raise SettingsError(
        "which file are the tokens in? Name the settings of the daemon, as --config /etc/vncgate/vncgate.toml, or the "
        "file itself: VNCGATE_API_TOKENS=/etc/vncgate/api.tokens"
    )


@contextlib.contextmanager
def _alone(file: Path, *, make: bool = False) -> Iterator[None]:
    """Have no other command change the file meanwhile; it is made where it is missing, if it may be."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
        except OSError as error:
            raise SettingsError(f"{file}: cannot be written: {error.strerror}") from None
        with contextlib.closing(os.fdopen(descriptor)) as held:
            if _lock(held.fileno(), file):
                yield
                return
        if time.monotonic() >= deadline:
            raise SettingsError(f"{file}: another command holds it since {LOCK_TIMEOUT:g} s; see `fuser -v {file}`")
        time.sleep(LOCK_RETRY)


def _lock(descriptor: int, file: Path) -> bool:
    """Whether we hold the lock of what is the file now: who held it before put another file in its place."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), file.stat())
    return False


def _read(file: Path) -> tuple[Grant, ...]:
    try:
        return grants.parse(file.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from None
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None


def _write(file: Path, kept: Sequence[Grant]) -> None:
    try:
        replace_file(file, grants.render(kept), mode=0o600)
    except OSError as error:
        raise SettingsError(f"{file}: cannot be written: {error.strerror or error}") from None


def _create(args: argparse.Namespace) -> int:
    file = _file(args)
    if unknown := set(args.scope) - set(Scope):
        raise SettingsError(f"--scope: {', '.join(sorted(unknown))} is none; write {SCOPES}")
    token = Secret(PREFIX + secrets.token_urlsafe(32))
    try:
        grant = Grant(
            name=args.name,
            sha256=grants.digest(token),
            scopes=tuple(scope for scope in Scope if scope in args.scope),
            accounts=args.accounts,
            created=datetime.now(UTC).replace(microsecond=0),
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise SettingsError(f"{where}{first['msg'].removeprefix('Value error, ')}") from None
    with _alone(file, make=True):
        known = _read(file)
        if any(grant.name == args.name for grant in known):
            raise SettingsError(f"there is a token {args.name} already; revoke it first, or take another name")
        _write(file, (*known, grant))
    print(token.reveal())
    return 0


def _revoke(args: argparse.Namespace) -> int:
    file = _file(args)
    if not file.exists():
        raise SettingsError(f"there is no token {args.name} in {file}")
    with _alone(file):
        known = _read(file)
        kept = [grant for grant in known if grant.name != args.name]
        if len(kept) == len(known):
            raise SettingsError(f"there is no token {args.name} in {file}")
        _write(file, kept)
    print(f"revoked: {args.name}")
    return 0


def _list(args: argparse.Namespace) -> int:
    for grant in _read(_file(args)):
        print(f"{grant.name}  {','.join(grant.scopes)}  {','.join(grant.accounts)}  made {grant.created:%Y-%m-%d}")
    return 0
