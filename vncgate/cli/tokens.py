"""`vncgate check`, `vncgate tokens new` and `rekey`: look at a token file, write a new one, give it new passwords."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from vncgate import hostlist, new_accounts, settings
from vncgate.checks import check_roster, check_settings, doubts, root_desktops
from vncgate.cli.config import add_config
from vncgate.errors import HostListError, NewAccountsError, TokensError
from vncgate.files import is_there
from vncgate.model import Account, Problem, Roster, Severity, bracketed
from vncgate.rekeying import rekey
from vncgate.roster import load_tokens
from vncgate.tokens import host_fault, name_fault, render

Found: TypeAlias = tuple[str, Problem]
"""A problem, and the name of its file."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    words = "look for everything that is wrong with a token file"
    check = commands.add_parser("check", help=words, description=words[0].upper() + words[1:] + ".")
    check.add_argument("tokens", type=Path, metavar="TOKENS", help="the token file")
    check.add_argument("--json", action="store_true", help="the same as JSON")
    check.add_argument("--strict", action="store_true", help="take warnings for errors")
    add_config(check)
    check.set_defaults(run=_check)
    tokens = commands.add_parser("tokens", help="make token files").add_subparsers(metavar="ACTION", required=True)
    _register_new(tokens)
    _register_rekey(tokens)


def _register_new(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    new = actions.add_parser(
        "new",
        help="write a token file with random passwords",
        description="Write a token file with random passwords, readable by you alone, never over an existing file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    flag = new.add_argument
    flag("--accounts", type=int, required=True, metavar="N", default=argparse.SUPPRESS, help="how many accounts")
    flag(
        "--hosts",
        required=True,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="their hosts, as node[01-06,09]; - where the gate starts the desktops",
    )
    flag("--prefix", default="ws", help="what account names begin with")
    flag("--first-websocketport", type=_port, default=7000, metavar="PORT", help="they count up from it; - for none")
    flag("--first-vncport", type=int, default=5901, metavar="PORT", help="on each host they count up from it")
    flag("--pins", action="store_true", default=argparse.SUPPRESS, help="with a PIN for each, to sign in with")
    flag("-o", dest="output", default="workshop.tokens", metavar="FILE", help="the new file; - for standard output")
    new.set_defaults(run=_new, pins=False)


def _register_rekey(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rekey = actions.add_parser(
        "rekey",
        help="new VNC passwords in a token file",
        description="Put new random VNC passwords into a token file, for the accounts whose desktops the gate starts "
        "(vnchost -); all else in it stays as it is. Where the gate follows the file it takes them at once, and "
        "desktops that run then go on with the old ones until they end.",
    )
    rekey.add_argument("tokens", type=Path, metavar="TOKENS", help="the token file")
    rekey.add_argument("--pins", action="store_true", help="new PINs, too: old cards are worthless then")
    rekey.add_argument("--all", action="store_true", help="also for desktops that have a VNC server of their own, "
                       "which must be given them by hand")  # fmt: skip
    rekey.set_defaults(run=_rekey)


def _port(text: str) -> int | None:
    if text == "-":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number, or - for none") from None


def _check(args: argparse.Namespace) -> int:
    try:
        parsed = load_tokens(args.tokens)
    except TokensError as error:
        print(f"vncgate: {error}", file=sys.stderr)
        return 2
    chosen = settings.load(args.config, os.environ)
    check_settings(chosen)
    misfits = check_roster(parsed.roster, chosen)
    wrong_as_root = root_desktops(chosen.desktops) if os.geteuid() == 0 else ()
    doubtful = [
        Problem(0, 0, Severity.WARNING, words)
        for words in (*doubts(chosen, is_there, datetime.now(UTC)), *wrong_as_root)
    ]
    found = [
        *((str(args.config or "settings"), problem) for problem in doubtful),
        *((str(args.tokens), problem) for problem in sorted((*parsed.problems, *misfits))),
    ]
    if args.strict:
        found = [(file, replace(problem, severity=Severity.ERROR)) for file, problem in found]
    if args.json:
        _print_json(args.tokens, parsed.roster, found)
    else:
        _print_lines(parsed.roster, found)
    return 1 if any(problem.severity is Severity.ERROR for _, problem in found) else 0


def _print_lines(roster: Roster, found: Sequence[Found]) -> None:
    for file, problem in found:
        print(problem.render(file))
    print(f"{_extent(roster.values())}: {_verdict([problem for _, problem in found])}")


def _print_json(path: Path, roster: Roster, found: Sequence[Found]) -> None:
    errors = sum(problem.severity is Severity.ERROR for _, problem in found)
    report = {
        "file": str(path),
        "accounts": len(roster),
        "errors": errors,
        "warnings": len(found) - errors,
        "problems": [{**asdict(problem), "file": file} for file, problem in found],
    }
    print(json.dumps(report, indent=2))


def _extent(accounts: Collection[Account]) -> str:
    hosts = {account.desktop.host for account in accounts if account.desktop}
    return _count(len(accounts), "account") + (f" on {_count(len(hosts), 'host')}" if hosts else "")


def _verdict(problems: Collection[Problem]) -> str:
    severities = [problem.severity for problem in problems]
    return ", ".join(_count(severities.count(s), s.value) for s in Severity if s in severities) or "no problems"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _new(args: argparse.Namespace) -> int:
    accounts = _plan(args)
    text = render(accounts)
    if args.output == "-":
        sys.stdout.write(text)
        return 0
    path = Path(args.output)
    _write_new(path, text)
    print(f"{path}: {_extent(accounts)}, readable by you alone")
    for problem in load_tokens(path).problems:
        print(problem.render(str(path)))
    return 0


def _rekey(args: argparse.Namespace) -> int:
    done = rekey(args.tokens, with_pins=args.pins, of_all=args.all)
    print(f"{args.tokens}: {_count(done.given, 'account')} with new VNC passwords{' and PINs' if args.pins else ''}")
    if done.others:
        print(f"{_count(done.others, 'account')} with a VNC server of its own: its password is that server's (--all)")
    return 0


def _plan(args: argparse.Namespace) -> tuple[Account, ...]:
    """The accounts. Raises HostListError or NewAccountsError when they are no good."""
    hosts = hostlist.expand(args.hosts) if args.hosts != "-" else None
    for host in hosts or ():
        if fault := host_fault(bracketed(host)):
            raise HostListError(f"--hosts: {host!r} {fault}")
    accounts = new_accounts.plan(
        args.accounts,
        hosts,
        choose=secrets.choice,
        prefix=args.prefix,
        first_websocketport=args.first_websocketport,
        first_vncport=args.first_vncport,
        with_pins=args.pins,
    )
    if fault := name_fault(accounts[-1].name):
        raise NewAccountsError(f"--prefix: the account name {accounts[-1].name!r} {fault}")
    return accounts


def _write_new(path: Path, text: str) -> None:
    """Write a file that nobody else can read, and that was not there. Raises TokensError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise TokensError(f"{path}: is there already and stays as it is; name another file with -o") from None
    except OSError as error:
        raise TokensError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor, no path)
            file.write(text)
    except OSError as error:
        path.unlink()
        raise TokensError(f"{path}: cannot be written: {error.strerror}") from None
