"""`vncgate workshop`: where the workshop is in its life, an organizer's word about it, and the report at its end."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from vncgate import control, settings
from vncgate.cli.config import add_config, add_control, control_path, spoken
from vncgate.errors import PrintError, WorkshopError
from vncgate.files import write_private
from vncgate.workshop import Command

INTERVAL = 0.5
"""Seconds between two looks at what is under way."""
WORDS = {
    Command.OPEN: "let people in, whatever the times say; after freeze, too",
    Command.FREEZE: "let nobody new sign in; who is signed in goes on",
    Command.END: "close all desktops, build archives, end sessions and links, and write new VNC passwords",
    Command.PURGE: "remove personal data and archives",
}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    actions = commands.add_parser("workshop", help="the workshop's life: open, freeze, end, purge").add_subparsers(
        metavar="ACTION", required=True
    )
    status = actions.add_parser("status", help="where it is, and what comes next")
    add_control(status)
    status.set_defaults(run=_status)
    for command, words in WORDS.items():
        text = f"{words[0].upper()}{words[1:]}."
        if command in (Command.END, Command.PURGE):
            text += " It is told how it goes on; Ctrl-C ends the telling alone. To give the word again does no harm."
        parser = actions.add_parser(command, help=words, description=text)
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
        if command is Command.PURGE:
            parser.add_argument("--yes", action="store_true", help="do not ask whether it is meant")
        add_control(parser)
        parser.set_defaults(run=_order, command=command)
    report = actions.add_parser(
        "report",
        help="write the report",
        description="Write who of how many came, the peak, hours, failures and bandwidth, with plots; readable by you "
        "alone. It takes the extra `report` (matplotlib).",
    )
    report.add_argument("-o", dest="output", type=_output, required=True, metavar="FILE", help="NAME.html or NAME.pdf")
    report.add_argument("--names", action="store_true", help="with the names of those who came, not only their number")
    report.add_argument("--force", action="store_true", help="write it over a file that is there")
    report.add_argument("--language", metavar="CODE", help="of its words, such as de (default: the site's)")
    add_config(report)
    add_control(report)
    report.set_defaults(run=_report)


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".pdf", ".html"):
        raise argparse.ArgumentTypeError("its name must end in .html or .pdf")
    return path


def _status(args: argparse.Namespace) -> int:
    _tell(control.call(control_path(args), "/workshop"))
    return 0


def _tell(status: dict[str, Any]) -> None:
    title = f"{status['title']}: " if status["title"] else ""
    print(f"{title}{status['phase']}{', frozen: nobody new can sign in' if status['frozen'] else ''}")
    if work := status["work"]:
        print(f"{work['step']}, by {work['by']}: {status['progress'] or 'about to begin'}")
    if status["trouble"]:
        print(f"{status['trouble']}; it is tried again")
    for line in status["said"]:
        print(f"  {line}")
    if coming := status["next"]:
        when = datetime.fromisoformat(coming["at"]).astimezone()
        print(f"next: {coming['step']}, {when:%a %d %b %Y, %H:%M %Z}")
    else:
        print("next: nothing by the clock")


def _order(args: argparse.Namespace) -> int:
    path, command = control_path(args), args.command
    if args.dry_run:
        for line in control.call(path, "/workshop/plan", {"command": command})["plan"]:
            print(line)
        return 0
    if command is Command.PURGE and not args.yes:
        _ask(control.call(path, "/workshop/plan", {"command": command})["plan"])
    status = control.call(path, f"/workshop/{command}", {"by": _me()})
    said = ""
    while status["work"]:
        if (words := status["trouble"] or status["progress"]) and words != said:
            print(words, flush=True)
            said = words
        time.sleep(INTERVAL)
        status = control.call(path, "/workshop")
    _tell(status)
    return 0


def _ask(plan: list[str]) -> None:
    """Raises WorkshopError unless somebody at a terminal says yes."""
    for line in plan:
        print(line)
    if not sys.stdin.isatty() or input("This cannot be undone. Write yes to go on: ").strip() != "yes":
        raise WorkshopError("nothing was removed (--yes goes on without asking)")


def _me() -> str:
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # there is no name to this number
        return "operator"


def _report(args: argparse.Namespace) -> int:
    try:
        from vncgate.render import report_pages
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise PrintError("the report's plots take matplotlib: pip install 'vncgate[report]'") from None
    if args.output.exists() and not args.force:
        raise PrintError(f"{args.output}: is there already and stays as it is; name another file, or give --force")
    words = spoken(settings.load(args.config, os.environ), args.language)
    body = control.call(control_path(args), "/workshop/report", {"names": args.names})
    draw = report_pages.pdf if args.output.suffix.lower() == ".pdf" else report_pages.html
    try:
        write_private(args.output, draw(body, datetime.now().astimezone(), words), over=args.force)
    except OSError as error:
        raise PrintError(f"{args.output}: cannot be written: {error.strerror}") from None
    print(f"{args.output}: written, readable by you alone")
    return 0
