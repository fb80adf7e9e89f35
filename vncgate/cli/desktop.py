"""`vncgate desktop`: start, end and look at the desktops that the gate starts itself, over the control socket."""

from __future__ import annotations

import argparse
import fnmatch
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vncgate import control
from vncgate.cli.config import add_control, control_path
from vncgate.cli.operate import ago, kind_of, state_of, sums_of, told_of, where
from vncgate.desktop_words import lines_asked
from vncgate.errors import ControlError

INTERVAL = 0.5
"""Seconds between two looks at desktops that are on their way."""
PATIENCE = 10.0
"""Seconds for which those are waited for whose places do not answer, once all others are there."""
GOALS = {"start": "RUNNING", "stop": "STOPPED", "restart": "RUNNING"}
"""What each command is done with."""
ENDS = ("RUNNING", "STOPPED", "FAILED")
"""States that a desktop stays in by itself."""

_SILENCE = re.compile(r"^the place \S+ does not answer: |; it cannot be ended yet: ")
"""What a reason has in it while a place does not do as it is asked (desktop_view)."""

Desktop: TypeAlias = dict[str, Any]


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `desktop`."""
    actions = commands.add_parser("desktop", help="desktops that the gate starts itself").add_subparsers(
        metavar="ACTION", required=True
    )
    for action, run, words in (
        ("start", _act, "start desktops, and wait until they run"),
        ("stop", _act, "end desktops, with all that runs in them"),
        ("restart", _act, "end desktops and start them anew"),
        ("status", _status, "what runs where, and why not"),
        ("logs", _logs, "the end of what desktops wrote"),
    ):
        text = f"{words[0].upper()}{words[1:]}."
        if action in GOALS:
            text += (
                f" Those whose place does not answer are waited for {PATIENCE:g} s longer than all others; then the"
                " exit status is 1, and they stay asked for. Ctrl-C ends the waiting alone."
            )
        parser = actions.add_parser(action, help=words, description=text)
        parser.add_argument(
            "accounts",
            nargs="*",
            metavar="ACCOUNT",
            help="a name, or a pattern such as 'ws0*', or 'pool:*' for the pools'",
        )
        parser.add_argument("--all", action="store_true", help="all of them, and those of the pools")
        if action in GOALS:
            parser.add_argument("--no-wait", action="store_true", help="return as soon as it is asked for")
        elif action == "logs":
            parser.add_argument("--lines", type=_lines, default=200, metavar="N", help="of each (default: 200)")
        add_control(parser)
        parser.set_defaults(run=run, action=action, usage=parser.error)


def _lines(text: str) -> int:
    try:
        return lines_asked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _named(args: argparse.Namespace, path: Path) -> dict[str, Desktop]:
    """The desktops that are meant, by account. Raises ControlError where a name fits none."""
    is_all = args.all or (args.action == "status" and not args.accounts)  # to look does no harm
    if not is_all and not args.accounts:
        args.usage("name accounts, or give --all")
    desktops = _look(path)
    if is_all and not desktops:
        raise ControlError("no desktop is the gate's to start: in the token file that is written as vnchost `-`")
    found = {pattern: fnmatch.filter(desktops, pattern) for pattern in (["*"] if is_all else args.accounts)}
    if unknown := [pattern for pattern, names in found.items() if not names]:
        raise ControlError("\n".join(_why_unknown(path, unknown)))
    return {name: desktops[name] for names in found.values() for name in names}


def _why_unknown(path: Path, unknown: Sequence[str]) -> Iterator[str]:
    """Names that no desktop of the gate's has, a line for each reason."""
    served = {each["name"]: each.get("desktop") for each in control.call(path, "/status")["accounts"]}
    yield from (f"{name} has a VNC server of its own ({served[name]})" for name in unknown if served.get(name))
    if nowhere := [name for name in unknown if not served.get(name)]:
        yield f"no such desktop of the gate's own: {', '.join(nowhere)}"


def _look(path: Path) -> dict[str, Desktop]:
    """All desktops, those of pools that nobody has yet behind the accounts'."""
    answer = control.call(path, "/desktops")
    spares = [{**spare, "is_spare": True} for spare in answer.get("spares", ())]
    return {desktop["account"]: desktop for desktop in (*answer["desktops"], *spares)}


def _status(args: argparse.Namespace) -> int:
    desktops = _named(args, control_path(args))
    Console(highlight=False, width=None if sys.stdout.isatty() else 240).print(
        Group(_table(desktops), *_reasons(desktops), Text(sums_of(desktops.values())))
    )
    return 0


def _logs(args: argparse.Namespace) -> int:
    path = control_path(args)
    desktops = _named(args, path)
    troubles = []
    for name, desktop in desktops.items():
        try:
            log = control.call(path, "/desktops/logs", {"account": name, "lines": args.lines})["log"]
        except ControlError as error:
            troubles.append(f"{name}: {error}" if len(desktops) > 1 else str(error))
            continue
        if not log:
            why = f"; why it failed: {desktop['reason']}" if desktop["state"] == "FAILED" else ""
            print(f"{name}: nothing was written{why}", file=sys.stderr)
            continue
        heading = f"==> {name} <==\n" if len(desktops) > 1 else ""
        sys.stdout.write(f"{heading}{log}{'' if log.endswith(chr(10)) else chr(10)}")
    if troubles:
        raise ControlError("\n".join(troubles))
    return 0


def _act(args: argparse.Namespace) -> int:
    path = control_path(args)
    before = _named(args, path)
    names = control.call(path, f"/desktops/{args.action}", {"accounts": list(before)})["accounts"]
    if args.no_wait:
        print(f"asked for: {', '.join(names)}")
        return 0
    journey = Journey(path, args.action, {name: before[name] for name in names})
    now = journey.follow_on_screen() if sys.stdout.isatty() else journey.follow_in_lines()
    goal = GOALS[args.action]
    if silent := [name for name, desktop in now.items() if is_silent(desktop)]:
        print(f"not waited for any longer, but asked for all the same: {', '.join(silent)}", file=sys.stderr)
    if failed := [name for name, desktop in now.items() if desktop["state"] != goal]:
        raise ControlError("\n".join(f"{name} is not {goal}: {_why(now[name])}" for name in failed))
    if args.action != "stop" and (shut := _shut(path) & now.keys()):
        names = sorted(shut)
        print(f"nobody gets to {', '.join(names)}, stopped with `vncgate stop`: vncgate start {' '.join(names)}")
    return 0


def _shut(path: Path) -> set[str]:
    """The accounts that an operator stopped: their desktops may run, but no browser is let through."""
    return {each["name"] for each in control.call(path, "/status")["accounts"] if each["want"] == "down"}


def _why(desktop: Desktop) -> str:
    return f"{desktop['state']}: {words}" if (words := told_of(desktop)) else str(desktop["state"])


def is_silent(desktop: Desktop) -> bool:
    """Whether it waits for a place that does not do as it is asked."""
    return desktop["state"] in ("REQUESTED", "STOPPING") and bool(_SILENCE.search(desktop["reason"]))


class Journey:
    """Desktops on their way to what a command is done with, or until only those are left, for a while, whose places do
    not answer. `before` is how they were when it was given.
    """

    def __init__(self, path: Path, action: str, before: Mapping[str, Desktop]) -> None:
        self._path = path
        self._action = action
        self._before = before
        self._silent: dict[str, Desktop] = {}
        self._silent_since: float | None = None

    def follow_on_screen(self) -> dict[str, Desktop]:
        """Show them until all are there, or not to come; returns how they are."""
        console = Console(highlight=False)
        with Live(console=console, auto_refresh=False) as live:
            while True:
                now = self._now()
                is_over = self._is_over(now)
                live.update(Group(_screen(now, console.height - 1), *map(Text, self._waiting(now))), refresh=True)
                if is_over:
                    return now
                time.sleep(INTERVAL)

    def follow_in_lines(self) -> dict[str, Desktop]:
        """The same with a line for each change, for files and pipes."""
        told: dict[str, str] = {}
        while True:
            now = self._now()
            for name, desktop in now.items():
                if told.get(name) != (words := f"{_why(desktop)} ({where(desktop)})"):
                    told[name] = words
                    print(f"{name}: {words}", flush=True)
            is_waiting, is_over = self._silent_since is not None, self._is_over(now)
            if not is_waiting:
                for words in self._waiting(now):
                    print(words, flush=True)
            if is_over:
                return now
            time.sleep(INTERVAL)

    def _now(self) -> dict[str, Desktop]:
        there = _look(self._path)
        gone = {"state": "GONE", "reason": "its account was removed"}
        return {
            name: self._steady(name, there.get(name) or {**old, **gone})
            for name, old in self._before.items()
            if name in there or not old.get("is_spare")  # one of a pool that is gone is somebody's
        }

    def _steady(self, name: str, desktop: Desktop) -> Desktop:
        """The desktop; while a place that did not answer is asked again, it is what it was before that."""
        if name in self._silent and desktop["state"] == "REQUESTED" and not desktop["reason"]:
            return self._silent[name]
        self._silent.pop(name, None)
        if is_silent(desktop):
            self._silent[name] = desktop
        return desktop

    def _is_over(self, now: Mapping[str, Desktop]) -> bool:
        left = [desktop for name, desktop in now.items() if not self._is_settled(name, desktop)]
        if not left or not all(map(is_silent, left)):
            self._silent_since = None
            return not left
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        return time.monotonic() >= self._silent_since + PATIENCE

    def _waiting(self, now: Mapping[str, Desktop]) -> Iterator[str]:
        """A line about those whose places do not answer, once they are the only ones left."""
        if self._silent_since is not None:
            silent = [desktop["reason"] for desktop in now.values() if is_silent(desktop)]
            reasons = " / ".join(dict.fromkeys(silent))
            yield f"{len(silent)} waiting for their place to answer ({reasons}); Ctrl-C leaves them asked for"

    def _is_settled(self, name: str, desktop: Desktop) -> bool:
        if desktop["state"] == "GONE":
            return True
        if desktop["state"] not in ENDS or (desktop["state"] == "STOPPED" and desktop["want"] == "up"):
            return False
        # What it was before it heard of the command does not count: one that runs is started at once, and no other.
        is_new = desktop["since"] != self._before[name]["since"]
        return is_new or (self._action != "restart" and desktop["state"] == GOALS[self._action])


def _screen(desktops: Mapping[str, Desktop], height: int) -> Group:
    """A line for each where they fit the screen, else the sums alone."""
    if len(desktops) > height - 4:
        failed = {name: desktop for name, desktop in desktops.items() if desktop["state"] == "FAILED"}
        return Group(*_reasons(failed)[: height // 2], Text(sums_of(desktops.values())))
    table = Table.grid(padding=(0, 2))
    for name, desktop in desktops.items():
        table.add_row(name, state_of(desktop), Text(where(desktop)), Text(told_of(desktop)))
    return Group(table, Text(sums_of(desktops.values())))


def _table(desktops: Mapping[str, Desktop]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("account", "kind", "where", "want", "state", "since"):
        table.add_column(heading, no_wrap=True)
    table.add_column("restarts", justify="right", no_wrap=True)
    for name, desktop in desktops.items():
        since = ago(time.time() - desktop["since"])
        place = Text(where(desktop))
        table.add_row(
            name, kind_of(desktop), place, desktop["want"], state_of(desktop), since, str(desktop["restarts"])
        )
    return table


def _reasons(desktops: Mapping[str, Desktop]) -> Sequence[Text]:
    return [Text(f"{name}: {words}") for name, desktop in desktops.items() if (words := told_of(desktop))]
