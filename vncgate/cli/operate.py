"""The operator's commands, over the daemon's control socket: status, start, stop, restart, reload."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vncgate import control
from vncgate.errors import ControlError

WATCH_INTERVAL = 1.0
"""Seconds between two looks of `status --watch`."""
_STATE_STYLES = {"RUNNING": "green", "FATAL": "bold red", "BACKOFF": "yellow", "STARTING": "yellow"}
_READY_STYLES = {"ready": "green", "offline": "red", "wrong password": "bold red"}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    status = _command(commands, "status", _status, "how every account is")
    status.add_argument("--json", action="store_true", help="everything, as JSON")
    status.add_argument("--watch", action="store_true", help="look again every second, until Ctrl-C")
    for verb, words in {
        "start": "start accounts that are stopped or given up",
        "stop": "stop accounts; their browsers are told",
        "restart": "stop and start accounts",
    }.items():
        parser = _command(commands, verb, _act, words)
        parser.add_argument("accounts", nargs="+", metavar="ACCOUNT")
        parser.set_defaults(verb=verb)
    reload = _command(commands, "reload", _reload, "read the token file again, and look again at wrong passwords")
    reload.add_argument(
        "--tokens", type=Path, metavar="FILE", help="hand over this file's content (where the daemon cannot read it)"
    )


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    words: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
    parser.add_argument("--control", type=Path, metavar="PATH", help="the daemon's control socket (or VNCGATE_CONTROL)")
    parser.set_defaults(run=run)
    return parser


def _socket(args: argparse.Namespace) -> Path:
    if args.control:
        return Path(args.control)
    if named := os.environ.get("VNCGATE_CONTROL"):
        return Path(named)
    return control.default_path(os.environ, os.getuid())


def _status(args: argparse.Namespace) -> int:
    path = _socket(args)
    if args.json:
        while True:
            print(json.dumps(control.call(path, "/status"), indent=None if args.watch else 2), flush=True)
            if not args.watch:
                return 0
            time.sleep(WATCH_INTERVAL)
    console = Console(highlight=False)
    if not args.watch:
        _print(console, control.call(path, "/status"))
        return 0
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            live.update(_table(control.call(path, "/status")), refresh=True)
            time.sleep(WATCH_INTERVAL)


def _act(args: argparse.Namespace) -> int:
    control.call(_socket(args), f"/{args.verb}", {"accounts": args.accounts})
    return 0


def _reload(args: argparse.Namespace) -> int:
    tokens = None
    if args.tokens is not None:
        try:
            tokens = args.tokens.read_bytes()
        except OSError as error:
            raise ControlError(f"{args.tokens}: cannot be read: {error.strerror}") from None
    print(control.call(_socket(args), "/reload", {}, tokens)["changes"])
    return 0


def _print(console: Console, status: dict[str, Any]) -> None:
    # A file or a pipe gets whole lines: only a terminal has a width to fit into.
    width = None if console.is_terminal else 500
    console.print(_table(status), width=width, crop=console.is_terminal)


def _table(status: dict[str, Any]) -> Table:
    totals = status["totals"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", caption_justify="left")
    for heading in ("account", "want", "state", "ready", "since", "browsers", "down", "up", "restarts"):
        right = heading in ("browsers", "down", "up", "restarts")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    table.add_column("last error", overflow="fold")
    for account in status["accounts"]:
        table.add_row(
            account["name"],
            account["want"],
            Text(account["state"], _STATE_STYLES.get(account["state"], "")),
            Text(account["ready"], _READY_STYLES.get(account["ready"], "")),
            _ago(time.time() - account["since"]),
            str(account["connections"]),
            _bytes(account["bytes_down"]),
            _bytes(account["bytes_up"]),
            str(account["restarts"]),
            Text(account["reason"] or account["last_error"]),
        )
    parts = [f"{totals['accounts']} accounts", f"{totals['ready']} ready", f"{totals['in_use']} in use"]
    parts += [f"{totals['offline']} offline", f"{totals['not_running']} not running"]
    parts += [f"{_bytes(totals['bytes_down'])} down", f"{_bytes(totals['bytes_up'])} up"]
    lines = [", ".join(parts), *status["problems"], status["trouble"], status["apache_error"]]
    table.caption = Text("\n".join(line for line in lines if line))
    return table


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _bytes(count: int | None) -> str:
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
