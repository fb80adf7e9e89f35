"""`vncgate rehearse`: plays the class through the public URL, and says whether it will do."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import ssl
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.console import Console

from vncgate import control, listeners, settings
from vncgate.cli.config import add_config, page_url
from vncgate.errors import PublishError, SettingsError, TokensError
from vncgate.model import Roster
from vncgate.render.reach import public_websocket
from vncgate.roster import load_tokens
from vncgate.settings import Settings

if TYPE_CHECKING:
    from vncgate.rehearsal import Target

CORNER = (256, 192)
"""Pixels that each question asks for: about what changes when a line is typed or a menu opens."""
MOST = 20000
"""Participants: the ports of one address to another are not many more."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rehearse`."""
    parser = commands.add_parser(
        "rehearse",
        help="play the class through the public URL, and see whether it will do",
        description="Play the class: participants log in to their desktops through the public URL, TLS and all, as "
        "noVNC does, and the answers are timed. Passwords come from the token file alone. Desktops are really used, "
        "but harmlessly: the pointer moves a little without any button, and the Control key is pressed alone. Ctrl-C "
        "ends it early, with the report so far. Exit status: 0 where the verdict is good, 1 where it is not, 2 usage.",
    )
    flag = parser.add_argument
    flag("url", type=page_url, metavar="URL", help="the landing page's address, as participants type it")
    flag("--tokens", type=Path, metavar="FILE", help="the token file (that of the gate on this host, if there is one)")
    flag("--participants", type=_count, metavar="N", help="how many; accounts are shared by turns (one an account)")
    flag("--minutes", type=_positive, default=5.0, metavar="M", help="how long, once all are there (5)")
    flag("--updates", type=_positive, default=10.0, metavar="N", help="questions a second of each participant (10)")
    flag("--ramp", type=_number, default=10.0, metavar="SECONDS", help="over which they arrive; 0: all at once (10)")
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--ca", type=Path, metavar="FILE", help="certificates to trust, in PEM, for a site's own")
    trust.add_argument("--insecure", action="store_true", help="trust any certificate, such as a self-signed one")
    add_config(parser)
    flag("--control", type=Path, metavar="PATH", help="control socket of the gate on this host (or VNCGATE_CONTROL)")
    flag("--json", type=Path, metavar="FILE", help="write everything that was measured there too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rehearse, show how it goes, and tell the verdict."""
    import uvloop  # here, with all that brings picows, so that the other commands start without them

    from vncgate.rehearsal import Plan, live, show, verdict

    try:
        chosen = settings.load(args.config, os.environ, {"control": str(args.control) if args.control else None})
        status = control.served(chosen.control or control.default_path(os.environ, os.getuid()))
        roster = _roster(args.tokens or control.token_file(status))
        targets = _targets(args, roster, chosen)
        context = _trust(args)
    except (SettingsError, TokensError) as error:
        print(f"vncgate: {error}", file=sys.stderr)
        return 2
    listeners.raise_descriptor_limit()
    plan = Plan(rate=args.updates, seconds=args.minutes * 60, ramp=args.ramp, corner=CORNER)
    # A file or a pipe gets whole lines; only a terminal has a width to fit into.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
    console.print(f"{len(targets)} participants at {args.url}, each with {args.updates:g} questions a second")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report, load = runner.run(live.run(targets, plan, context, _processes(status, roster), console))
    judged = verdict.judge(report, load)
    if report.connected:
        console.print("", show.figures(report, load), sep="\n")
    console.print("", show.conclusion(judged, report), sep="\n")
    if args.json:
        _write(args.json, {"verdict": judged.to_json(), "load": load.to_json(), **report.to_json()})
    return 0 if judged.grade is verdict.Grade.GOOD else 1


def _processes(status: dict[str, Any], roster: Roster) -> list[int]:
    """Those of the gate on this host, if it is the one that serves these accounts; workers may be older than it."""
    served = {account["name"] for account in status.get("accounts", ())}
    if not served.issuperset(roster):
        return []
    return [status["pid"], *(worker["pid"] for worker in status["workers"])]


def _roster(path: Path) -> Roster:
    """Everybody's account. Raises TokensError where there is none."""
    parsed = load_tokens(path)
    if parsed.errors or not parsed.roster:
        raise TokensError("\n".join(problem.render(str(path)) for problem in parsed.problems))
    return parsed.roster


def _targets(args: argparse.Namespace, roster: Roster, chosen: Settings) -> list[Target]:
    """A seat for each participant. Raises SettingsError where an account cannot be reached."""
    from vncgate.rehearsal import Target

    parts = urlsplit(args.url)
    origin = f"{parts.scheme}://{parts.netloc}"
    seats = []
    for account in roster.accounts:
        address = public_websocket(args.url, account, chosen)
        if not address:
            raise SettingsError(f"account {account.name} cannot be reached at {args.url}: it has no websocketport")
        seats.append(Target(account.name, address, account.password, origin))
    return list(islice(cycle(seats), args.participants or len(seats)))


def _trust(args: argparse.Namespace) -> ssl.SSLContext:
    """Which certificates are believed. Raises SettingsError."""
    try:
        context = ssl.create_default_context(cafile=args.ca)
    except OSError as error:  # an SSLError too
        raise SettingsError(f"--ca: {args.ca}: {_no_certificate(error)}") from None
    if args.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_certificate(error: OSError) -> str:
    return "there is no certificate in PEM in it" if isinstance(error, ssl.SSLError) else str(error.strerror)


def _write(path: Path, found: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise PublishError(f"--json: {path}: cannot be written: {error.strerror}") from None


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MOST}")
    return int(text)


def _number(text: str) -> float:
    """A number from 0 on."""
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError("must be a number from 0 on")


def _positive(text: str) -> float:
    if number := _number(text):
        return number
    raise argparse.ArgumentTypeError("must be more than 0")
