"""The operator's commands, over the daemon's control socket: status, start, stop, restart, reload."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vncgate import control
from vncgate.cli.config import add_control, control_path
from vncgate.errors import ControlError
from vncgate.model import DesktopState
from vncgate.render.status import TROUBLES

WATCH_INTERVAL = 1.0
"""Seconds between two looks of `status --watch`."""
UPGRADE_TIMEOUT = 90.0
"""Seconds that an upgrade may take: the trial of the code on disk, then its start."""
UPGRADE_INTERVAL = 0.1
"""Seconds between two looks at a daemon that starts anew."""
WIDE, WIDEST = 96, 136
"""Columns of a terminal from which on the table has room for the bytes, and for what a desktop is beside them."""
TABLE_FRAME = 5
"""Lines of a table, and below it, that are no accounts."""
WAITING = dict.fromkeys(("BACKOFF", "STARTING", "REQUESTED", "PENDING", "STOPPING"), "yellow")
STATE_STYLES = {"RUNNING": "green", "FATAL": "bold red", "FAILED": "bold red", **WAITING}
"""Colours of the states of proxies and of desktops."""
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
        parser.add_argument("accounts", nargs="+", metavar="ACCOUNT", help="a name, or a pattern such as 'ws0*'")
        parser.set_defaults(verb=verb)
    reload = _command(
        commands, "reload", _reload, "read the token file again; without a change, have another look at wrong passwords"
    )
    upgrade = _command(
        commands, "upgrade", _upgrade, "start the daemon anew from the code on disk; no desktop is dropped"
    )
    for parser in (reload, upgrade):
        parser.add_argument(
            "--tokens", type=Path, metavar="FILE", help="hand over this token file (where the daemon cannot read it)"
        )
    reload.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="hand over the settings file too, which need not exist; if it or the code on disk is new: upgrade",
    )
    upgrade.add_argument(
        "--config", type=Path, metavar="FILE", help="hand over the settings file, which need not exist"
    )


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    words: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
    add_control(parser)
    parser.set_defaults(run=run)
    return parser


def _status(args: argparse.Namespace) -> int:
    path = control_path(args)
    if args.json:
        while True:
            print(json.dumps(control.call(path, "/status"), indent=None if args.watch else 2), flush=True)
            if not args.watch:
                return 0
            time.sleep(WATCH_INTERVAL)
    # A file or a pipe gets whole lines; only a terminal has a width to fit into.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
    if not args.watch:
        status = control.call(path, "/status")
        below = _lines(*_wrong(status), *_sums(status))
        console.print(Group(_table(status["accounts"], console.width), below))
        return 0
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            live.update(_screen(control.call(path, "/status"), console.width, console.height), refresh=True)
            time.sleep(WATCH_INTERVAL)


def _act(args: argparse.Namespace) -> int:
    done = control.call(control_path(args), f"/{args.verb}", {"accounts": args.accounts})["accounts"]
    past = {"start": "started", "stop": "stopped", "restart": "restarted"}[args.verb]
    print(f"{past}: {', '.join(done)}")
    return 0


def _reload(args: argparse.Namespace) -> int:
    path = control_path(args)
    answer = control.call(path, "/reload", _handed(args), UPGRADE_TIMEOUT)
    print(answer["changes"])
    return _await_start(path, answer["since"]) if "since" in answer else 0


def _upgrade(args: argparse.Namespace) -> int:
    path = control_path(args)
    return _await_start(path, control.call(path, "/upgrade", _handed(args), UPGRADE_TIMEOUT)["since"])


def _handed(args: argparse.Namespace) -> dict[str, Any]:
    """The files to hand over; what is wrong with one is for the daemon to tell, so that its log has it too."""
    handed = {}
    for name, file in (("tokens", args.tokens), ("config", args.config)):
        if file is None:
            continue
        try:
            read = control.HandedOver(str(file), file.read_bytes(), file.stat().st_mode)
        except OSError as error:
            missing = name == "config" and isinstance(error, FileNotFoundError)
            trouble = "" if missing else f"{file}: cannot be read: {error.strerror}"
            read = control.HandedOver(str(file), b"" if missing else None, trouble=trouble)
        handed[name] = read.to_json()
    return handed


def _await_start(path: Path, before: float) -> int:
    """Wait until a daemon serves that began after `before`."""
    deadline = time.monotonic() + UPGRADE_TIMEOUT
    missed = False
    while True:
        try:
            status = control.call(path, "/status")
        except ControlError:
            if missed:
                raise
            missed = True  # once: the old daemon had taken the question, and was gone before it could answer
        else:
            if status["since"] != before and status["started"]:
                break
        if time.monotonic() > deadline:
            raise ControlError("the daemon has not started anew; its log says why")
        time.sleep(UPGRADE_INTERVAL)
    kept = sum(worker["connections"] for worker in status["workers"] if worker["state"] == "draining")
    go_on = f"; {kept} connection{' goes' if kept == 1 else 's go'} on in older workers" if kept else ""
    print(f"vncgate {status['version']} serves{go_on}")
    return 0


def _screen(status: dict[str, Any], width: int, height: int) -> Group:
    """What fits a screen: the totals and what is wrong, then the accounts, those first that need somebody."""
    wrong = _wrong(status)
    shown = wrong[: height // 3]
    head = [*_sums(status), *shown, *([f"and {len(wrong) - len(shown)} more"] if len(shown) < len(wrong) else [])]
    accounts = sorted(status["accounts"], key=_is_well)
    room = max(1, height - len(head) - TABLE_FRAME)
    left = len(accounts) - room
    return Group(_lines(*head), _table(accounts[:room], width), _lines(f"and {left} more accounts" if left > 0 else ""))


def _is_well(account: dict[str, Any]) -> bool:
    desktop = account["launched"]
    return not account["reason"] and account["state"] == "RUNNING" and not (desktop and desktop["state"] == "FAILED")


def _table(accounts: Sequence[dict[str, Any]], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("account", "want", "state", "ready", "since"):
        table.add_column(heading, no_wrap=True)
    launched: tuple[str, ...] = ()
    if any(account["launched"] for account in accounts):
        launched = ("desktop", "kind", "where") if width >= WIDEST else ("desktop",)
    for heading in launched:
        table.add_column(heading, no_wrap=True)
    traffic = ("down", "up") if width >= (WIDEST if launched else WIDE) else ()
    for heading in ("browsers", *traffic, "restarts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for account in accounts:
        table.add_row(
            account["name"],
            account["want"],
            Text(account["state"], STATE_STYLES.get(account["state"], "")),
            Text(account["ready"], _READY_STYLES.get(account["ready"], "")),
            ago(time.time() - account["since"]),
            *_launched(account["launched"])[: len(launched)],
            str(account["connections"]),
            *(_bytes(account[f"bytes_{way}"]) for way in traffic),
            str(account["restarts"]),
        )
    return table


def _launched(desktop: dict[str, Any] | None) -> tuple[Text, Text, Text]:
    """The cells of a desktop that the gate starts itself."""
    if desktop is None:
        return Text("-"), Text("-"), Text("-")
    return state_of(desktop), Text(kind_of(desktop)), Text(where(desktop))


def state_of(desktop: dict[str, Any]) -> Text:
    """A desktop's state, in its colour."""
    return Text(desktop["state"], STATE_STYLES.get(desktop["state"], ""))


def kind_of(desktop: dict[str, Any]) -> str:
    """What a desktop runs: kind and, where it has one, size."""
    return f"{desktop['kind']} {desktop['size']}".rstrip()


def where(desktop: dict[str, Any]) -> str:
    """The place of a desktop, with the host as soon as it is known."""
    return f"{desktop['place']}: {desktop['host']}" if desktop["host"] else str(desktop["place"])


def told_of(desktop: dict[str, Any]) -> str:
    """Why a desktop is as it is, and when that is to change, as far as this is known."""
    times = {"starts": "expected to start", "ends": "its time is over", "idle_end": "unused, ends"}
    return "; ".join(
        [
            *([desktop["reason"]] if desktop["reason"] else []),
            *(f"{words} at {_clock(desktop[key])}" for key, words in times.items() if desktop[key]),
        ]
    )


def _clock(when: float) -> str:
    """A time of today, or with its day, as clocks here show it."""
    is_near = abs(when - time.time()) < 12 * 3600
    return time.strftime("%H:%M" if is_near else "%a %d %b, %H:%M", time.localtime(when))


def _wrong(status: dict[str, Any]) -> list[str]:
    """What is wrong, a line each: with accounts, their desktops, the token file, and what is published."""
    lines = []
    for account in status["accounts"]:
        if account["reason"]:
            lines.append(f"{account['name']}: {account['reason']}")
        if (desktop := account["launched"]) and (words := told_of(desktop)):
            lines.append(f"{account['name']}: desktop {desktop['state']}: {words}")
    troubles = ("trouble", "apache_error", "pages_error", "upgrade_error")
    lines += [*status["problems"], *(status[key] for key in troubles)]
    for worker in status["workers"]:
        if worker["state"] == "draining":
            use = f"{worker['connections']} connection{'' if worker['connections'] == 1 else 's'}"
            lines.append(f"worker {worker['pid']} (vncgate {worker['version']}) drains: {use} left")
        elif worker["state"] == "starting":
            lines.append(f"a worker is being started (ended unasked so far: {worker['restarts']})")
    return lines


def sums_of(desktops: Iterable[dict[str, Any]]) -> str:
    """How many desktops there are, and in which states."""
    states = Counter(desktop["state"] for desktop in desktops)
    count = states.total()
    told = ", ".join(f"{states[state]} {state}" for state in (*DesktopState, "GONE") if states[state])
    return f"{count} desktop{'' if count == 1 else 's'} of the gate's own: {told}"


def _sums(status: dict[str, Any]) -> list[str]:
    totals = status["totals"]
    words = [f"{totals['accounts']} account{'' if totals['accounts'] == 1 else 's'}"]
    words += [f"{totals[key]} {key.replace('_', ' ')}" for key in ("ready", "in_use")]
    words += [f"{totals[key]} {key.replace('_', ' ')}" for key in TROUBLES if totals[key]]
    desktops = [account["launched"] for account in status["accounts"] if account["launched"]]
    line = f"{', '.join(words)}; {_bytes(totals['bytes_down'])} down, {_bytes(totals['bytes_up'])} up"
    return [*([sums_of(desktops)] if desktops else []), line]


def _lines(*lines: str) -> Text:
    return Text("\n".join(line for line in lines if line))


def ago(seconds: float) -> str:
    """A time span in the largest unit that it fills."""
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
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
