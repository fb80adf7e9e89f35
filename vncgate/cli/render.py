"""`vncgate render`: what the daemon publishes, written once and without it, and an app for Open OnDemand."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from vncgate import settings
from vncgate.checks import check_roster
from vncgate.cli.config import add_config
from vncgate.errors import PublishError, TokensError
from vncgate.files import replace_file
from vncgate.model import Roster, Severity
from vncgate.render import apache, ood
from vncgate.roster import load_tokens
from vncgate.settings import Form, Settings


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `render`."""
    kinds = commands.add_parser(
        "render", help="write Apache's lines, the pages, or an app for Open OnDemand as files"
    ).add_subparsers(metavar="WHAT", required=True)
    words = "the websockets' ProxyPass lines, which a virtual host includes"
    lines = kinds.add_parser("apache", help=words, description=f"Write {words}.")
    lines.add_argument(
        "--form", choices=list(Form), help="one rule for all accounts (single), or two lines each (guide)"
    )
    lines.add_argument("-o", dest="output", type=Path, metavar="FILE", help="the file; standard output without it")
    words = "the landing page and the viewer as static files"
    pages = kinds.add_parser("landing", help=words, description=f"Write {words}, for Apache to serve.")
    pages.add_argument("-o", dest="output", type=Path, metavar="DIR", required=True, help="the folder")
    words = "an app for Open OnDemand with the kinds and sizes whose place is a Slurm cluster"
    portal = kinds.add_parser("ood", help=words, description=f"Write {words}.")
    portal.add_argument("-o", dest="output", type=Path, metavar="DIR", required=True, help="the app's folder")
    for parser, run in ((lines, _apache), (pages, _landing), (portal, _ood)):
        if parser is not portal:
            parser.add_argument("tokens", type=Path, metavar="TOKENS", help="the token file")
        add_config(parser)
        parser.set_defaults(run=run)


def _apache(args: argparse.Namespace) -> int:
    chosen = settings.load(args.config, os.environ, {"apache.form": args.form})
    roster, status = _load(args.tokens, chosen)
    if roster is None:
        return status
    text = apache.render(roster, chosen)
    if args.output is None:
        sys.stdout.write(text)
        return 0
    try:
        replace_file(args.output, text.encode())
    except OSError as error:
        raise PublishError(f"{args.output}: cannot be written: {error.strerror or error}") from None
    return 0


def _landing(args: argparse.Namespace) -> int:
    from vncgate.web.export import export  # here, so that the other commands start without it

    chosen = settings.load(args.config, os.environ)
    roster, status = _load(args.tokens, chosen)
    if roster is not None:
        export(args.output, chosen, roster)
    return status


def _ood(args: argparse.Namespace) -> int:
    from vncgate.launchers import apptainer  # here, so that the other commands start without it

    app = ood.files(settings.load(args.config, os.environ).desktops, apptainer.commands)
    try:
        for name, text in app.items():
            path = args.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text.encode(), mode=0o755 if name == ood.SCRIPT else 0o644)
    except OSError as error:
        raise PublishError(f"{args.output}: cannot be written: {error.strerror or error}") from None
    return 0


def _load(tokens: Path, chosen: Settings) -> tuple[Roster | None, int]:
    """The roster; or None, with every problem told as `vncgate check` does, and the exit status."""
    try:
        parsed = load_tokens(tokens)
    except TokensError as error:
        print(f"vncgate: {error}", file=sys.stderr)
        return None, 2
    problems = sorted([*parsed.problems, *check_roster(parsed.roster, chosen)])
    if all(problem.severity is not Severity.ERROR for problem in problems):
        return parsed.roster, 0
    for problem in problems:
        print(problem.render(str(tokens)), file=sys.stderr)
    return None, 1
