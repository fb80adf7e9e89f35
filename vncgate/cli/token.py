"""`vncgate token`: who may use the REST API. It edits the file of the setting api.tokens, which the daemon watches."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from vncgate import grants, settings
from vncgate.cli.config import add_config
from vncgate.errors import SettingsError
from vncgate.files import replace_file
from vncgate.grants import PREFIX, Grant, Scope
from vncgate.model import Secret


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `token`."""
    actions = commands.add_parser("token", help="tokens of the REST API (setting api.tokens)").add_subparsers(
        metavar="ACTION", required=True
    )
    create = actions.add_parser(
        "create", help="make a token", description="Make a token, and print it: it is shown this once."
    )
    flag = create.add_argument
    flag("--scope", type=_words, required=True, metavar="LIST", help="what it allows: read, write or read,write")
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
    if file is None:
        raise SettingsError("there is no REST API: give the setting api.tokens a file (--config, VNCGATE_API_TOKENS)")
    return file


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
    known = _read(file)
    if any(grant.name == args.name for grant in known):
        raise SettingsError(f"there is a token {args.name} already; revoke it first, or take another name")
    if unknown := set(args.scope) - set(Scope):
        raise SettingsError(f"--scope: {', '.join(sorted(unknown))} is none; write read, write or read,write")
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
        raise SettingsError(f"{first['loc'][0]}: {first['msg']}") from None
    _write(file, (*known, grant))
    print(token.reveal())
    return 0


def _revoke(args: argparse.Namespace) -> int:
    file = _file(args)
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
