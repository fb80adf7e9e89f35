"""`vncgate seats`: who sits where, and all that an organizer does, over the control socket."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vncgate import control
from vncgate.cli.config import add_control, control_path
from vncgate.cli.operate import ago
from vncgate.errors import ControlError

Run = Callable[[argparse.Namespace], int]


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `seats`."""
    actions = commands.add_parser("seats", help="who sits where, and what organizers do").add_subparsers(
        metavar="ACTION", required=True
    )

    def action(name: str, run: Run, words: str, *arguments: str, **more: Any) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        for argument in arguments:
            parser.add_argument(argument.strip("[]").lower(), **_KINDS[argument])
        parser.add_argument("--json", action="store_true", help="the answer as JSON")
        add_control(parser)
        parser.set_defaults(run=run, what=name, **more)
        return parser

    seats = action("list", _list, "all seats, or those named, and how their desktops are", "[ACCOUNTS]")
    people = action("people", _people, "sign-ups and the waiting list")
    for parser in (seats, people):
        parser.add_argument("--names", action="store_true", help="people's names and e-mail addresses, too")
    assign = action("assign", _do, "give a free seat to somebody", "ACCOUNT")
    who = assign.add_mutually_exclusive_group(required=True)
    who.add_argument("--person", metavar="ID", help="somebody of `vncgate seats people`")
    who.add_argument("--name", help="somebody new")
    assign.add_argument("--email", help="of somebody new")
    action("release", _do, "free a seat; whoever sat there is signed out", "ACCOUNT")
    action("move", _do, "move who sits here to another seat", "ACCOUNT", "TO")
    action("swap", _do, "have a seat show a spare desktop; links and sessions go on", "ACCOUNT", "[SPARE]")
    action("swap-back", _do, "have a seat show its own desktop again", "ACCOUNT")
    spare = action("spare", _do, "keep a seat back as a spare: no sign-up gets it", "ACCOUNT")
    spare.add_argument("--no", action="store_true", help="no more")
    action("pin", _do, "make a new PIN, and print it: it is shown this once", "ACCOUNT", shown="pin")
    action("link", _do, "print the link that opens a seat", "ACCOUNT", shown="link")
    action("sign-out", _do, "sign all browsers of seats out", "ACCOUNTS")
    action("revoke", _do, "close seats: links, PINs and sessions are worthless, until there is a new PIN", "ACCOUNTS")
    extend = action("extend", _do, "give seats more time", "ACCOUNTS")
    how = extend.add_mutually_exclusive_group(required=True)
    how.add_argument("--minutes", help="so much more")
    how.add_argument("--until", metavar="TIME", help="until then, as 2026-03-05T18:00+01:00")
    message = action("message", _do, "show a text in viewers", "ACCOUNTS")
    message.add_argument("--text", required=True, help="plain text")
    add = action("add", _do, "put somebody new on the waiting list")
    add.add_argument("--name", required=True)
    add.add_argument("--email")
    action("move-up", _do, "give somebody who waits a seat: the next free one, or that account's", "PERSON", "[TO]")
    action("about", _about, "print all that is kept of somebody, for them, as JSON", "PERSON")
    action("remove", _do, "delete all that is known of somebody; their seat is free", "PERSON")
    action("export", _export, "write everybody to a table (CSV)", "FILE")
    action("import", _import, "take in a table of people (CSV), all of it or nothing", "FILE")
    action("audit", _audit, "who did what, the latest first")


_NAME = "a name, or a pattern such as 'ws0*'"
_KINDS: Mapping[str, dict[str, Any]] = {
    "ACCOUNT": {"metavar": "ACCOUNT"},
    "ACCOUNTS": {"metavar": "ACCOUNT", "nargs": "+", "help": f"{_NAME}; '*' is all"},
    "[ACCOUNTS]": {"metavar": "ACCOUNT", "nargs": "*", "help": _NAME},
    "TO": {"metavar": "ACCOUNT", "help": "the seat to move to"},
    "[TO]": {"metavar": "ACCOUNT", "nargs": "?"},
    "[SPARE]": {"metavar": "SPARE", "nargs": "?", "help": "which one (else the first that is free)"},
    "PERSON": {"metavar": "PERSON", "help": "an id of `vncgate seats people`"},
    "FILE": {"metavar": "FILE", "help": "- is standard input or output"},
}
_GIVEN = ("person", "name", "email", "to", "spare", "minutes", "until", "text")
"""Arguments that a deed is given under their own names."""


def _ask(args: argparse.Namespace, what: str, names: Sequence[str] = (), given: Mapping[str, str] | None = None) -> Any:
    body = {"what": what, "accounts": list(names), "given": dict(given or {})}
    return control.call(control_path(args), "/organize", body)["answer"]


def _do(args: argparse.Namespace) -> int:
    """One deed: to a seat, to several, or to a person."""
    values = vars(args)
    given = {name: values[name] for name in _GIVEN if values.get(name)}
    if args.what == "spare":
        given["spare"] = "no" if args.no else "yes"
    if args.what in ("move-up", "remove"):
        names = [given.pop("person")]
        if to := given.pop("to", ""):
            given["account"] = to
    else:
        names = values.get("accounts") or [name for name in [values.get("account")] if name]
    answer = _ask(args, args.what, names, given)
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        print(answer[shown] if (shown := values.get("shown")) else answer["said"])
    return 0


def _list(args: argparse.Namespace) -> int:
    seats = _ask(args, "seats", args.accounts, {"names": "1"} if args.names else {})
    if args.json:
        print(json.dumps(seats, indent=2))
        return 0
    rows = [
        (
            seat["account"],
            (seat["name"] if args.names else seat["person"][:8]) or "-",
            _mark(seat),
            seat["state"],
            ago(time.time() - seat["used"]) if seat["used"] else "-",
            f"{seat['delay'] * 1000:.0f} ms, {seat['quality']}" if seat["delay"] is not None else "-",
            _local(seat["until"]),
        )
        for seat in seats
    ]
    _show(("seat", "person", "", "desktop", "last input", "connection", "ends"), rows)
    return 0


def _people(args: argparse.Namespace) -> int:
    people = _ask(args, "people", (), {"names": "1"} if args.names else {})
    if args.json:
        print(json.dumps(people, indent=2))
        return 0
    names = ("name", "email") if args.names else ()
    rows = [
        (
            each["id"],
            *(each[name] for name in names),
            each["standing"],
            each["account"] or "-",
            _local(each["signed_up"]),
        )
        for each in people
    ]
    _show(("person", *names, "", "seat", "signed up"), rows)
    return 0


def _about(args: argparse.Namespace) -> int:
    print(json.dumps(_ask(args, "about", [args.person]), indent=2, ensure_ascii=False))
    return 0


def _audit(args: argparse.Namespace) -> int:
    entries = _ask(args, "audit")
    if args.json:
        print(json.dumps(entries, indent=2))
        return 0
    _show(("when", "who", "what", "about"), [(_local(e["when"]), e["who"], e["what"], e["about"]) for e in entries])
    return 0


def _export(args: argparse.Namespace) -> int:
    text = _ask(args, "export")
    if args.file == "-":
        sys.stdout.write(text)
        return 0
    try:
        file = Path(args.file)
        file.touch(0o600)  # people's names are in it
        file.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ControlError(f"{args.file}: cannot be written: {error.strerror}") from None
    return 0


def _import(args: argparse.Namespace) -> int:
    try:
        content = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    except OSError as error:
        raise ControlError(f"{args.file}: cannot be read: {error.strerror}") from None
    # What is no UTF-8 travels as it is, and is told by the gate like all else that is wrong.
    print(_ask(args, "import", (), {"table": content.decode("utf-8", "surrogateescape")})["said"])
    return 0


def _mark(seat: Mapping[str, Any]) -> str:
    if seat["desktop"]:
        return f"shows {seat['desktop']}"
    if seat["shown_by"]:
        return f"shown by {', '.join(seat['shown_by'])}"
    return "spare" if seat["spare"] else ""


def _local(iso: str | None) -> str:
    return f"{datetime.fromisoformat(iso).astimezone():%a %d %b, %H:%M}" if iso else "-"


def _show(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 240).print(table)
