"""`vncgate archive`: archives of accounts' files, built beforehand and offered on their files pages."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from vncgate import control
from vncgate.cli.config import add_control, control_path
from vncgate.errors import ControlError

INTERVAL = 0.5
"""Seconds between two looks at what is being built."""
WORKING = {"waiting", "building"}
STYLES = {"ready": "green", "failed": "bold red", "building": "yellow", "waiting": "yellow"}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `archive`."""
    actions = commands.add_parser("archive", help="archives of accounts' files, for taking home").add_subparsers(
        metavar="ACTION", required=True
    )
    for name, run, words in (
        ("build", _build, "pack accounts' files, in place of archives there are"),
        ("status", _status, "how the archives are"),
        ("remove", _remove, "remove archives, and pack no more"),
    ):
        parser = actions.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        parser.add_argument(
            "accounts", nargs="*", metavar="ACCOUNT", help="a name or a pattern, as 'ws0*' (default: all)"
        )
        add_control(parser)
        parser.set_defaults(run=run)
        if name == "build":
            parser.add_argument("--no-wait", action="store_true", help="do not wait until they are built")
        if name == "status":
            parser.add_argument("--json", action="store_true", help="as JSON")


def _build(args: argparse.Namespace) -> int:
    path = control_path(args)
    names = control.call(path, "/archives/build", {"accounts": args.accounts})["accounts"]
    said = ""
    while not args.no_wait:
        archives = [each for each in control.call(path, "/archives")["archives"] if each["account"] in names]
        left = [each for each in archives if each["state"] in WORKING]
        words = f"{len(archives) - len(left)} of {len(archives)}, {_size(sum(each['bytes'] for each in archives))}"
        if words != said:
            print(words, flush=True)
            said = words
        if not left:
            return _tell_failures(archives)
        time.sleep(INTERVAL)
    print(f"{len(names)} asked for; `vncgate archive status` tells how they are")
    return 0


def _tell_failures(archives: Sequence[dict[str, Any]]) -> int:
    if failed := [each for each in archives if each["state"] == "failed"]:
        raise ControlError("\n".join(f"{each['account']}: {each['reason']}" for each in failed))
    return 0


def _status(args: argparse.Namespace) -> int:
    archives = control.call(control_path(args), "/archives")["archives"]
    meant = [each for each in archives if not args.accounts or _is_meant(each["account"], args.accounts)]
    if args.json:
        print(json.dumps(meant, indent=2))
        return 0
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("account", "state", "size", "built", "SHA-256, or why not"):
        table.add_column(
            column, justify="right" if column == "size" else "left", no_wrap=column != "SHA-256, or why not"
        )
    for each in meant:
        when = datetime.fromtimestamp(each["when"], UTC).astimezone() if each["when"] else None
        table.add_row(
            each["account"],
            f"[{STYLES.get(each['state'], 'dim')}]{each['state']}[/]",
            _size(each["bytes"]) if each["bytes"] else "",
            f"{when:%Y-%m-%d %H:%M}" if when else "",
            each["reason"] or each["sha256"],
        )
    Console(highlight=False).print(table)
    return 0


def _remove(args: argparse.Namespace) -> int:
    names = control.call(control_path(args), "/archives/remove", {"accounts": args.accounts or ["*"]})["accounts"]
    print(f"removed: {', '.join(names) or 'there were none'}")
    return 0


def _is_meant(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"
