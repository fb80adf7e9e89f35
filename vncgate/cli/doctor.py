"""`vncgate doctor`: looks whether everything is ready for the class."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vncgate.cli.config import add_config, page_url
from vncgate.doctor.base import Finding, Result

INDENT = 19
"""Columns before a message: the mark and the step."""
_STYLES = {Result.OK: "green", Result.WARNING: "yellow", Result.ERROR: "bold red", Result.SKIPPED: "dim"}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor`."""
    parser = commands.add_parser(
        "doctor",
        help="is everything ready for the class? and what to do where it is not",
        description="Look at the whole chain, from the token file to a desktop through the public address, and say "
        "what to do about what is wrong. Nothing is changed; each desktop is logged in to once. Root sees most.",
    )
    parser.add_argument(
        "tokens", type=Path, nargs="?", metavar="TOKENS", help="the token file (that of the gate on this host)"
    )
    add_config(parser)
    flag = parser.add_argument
    flag("--url", type=page_url, metavar="URL", help="the landing page's address, as participants type it")
    flag(
        "--sample",
        type=_sample,
        default=3,
        metavar="N",
        help="accounts to log in through the URL: a number, or all (3)",
    )
    flag("--control", type=Path, metavar="PATH", help="the daemon's control socket (or VNCGATE_CONTROL)")
    flag("--json", action="store_true", help="the findings as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine, and show each finding as it comes; 1 where one is an error."""
    import uvloop  # here, so that the other commands start without them

    from vncgate.doctor.examination import Order, examine

    order = Order(args.tokens, args.config, args.control, os.environ, args.url or "", args.sample)
    # A file or a pipe gets whole lines; only a terminal has a width to fit into.
    console = Console(highlight=False, quiet=args.json, width=None if sys.stdout.isatty() else 1000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        findings = runner.run(_show(examine(order, os.getuid()), console))
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    console.print(_summary(findings))
    return 1 if any(finding.result is Result.ERROR for finding in findings) else 0


async def _show(examination: AsyncGenerator[Finding | str, None], console: Console) -> list[Finding]:
    findings: list[Finding] = []
    with console.status("") as busy:  # shown in a terminal only
        async with contextlib.aclosing(examination) as steps:
            async for each in steps:
                if isinstance(each, Finding):
                    console.print(_lines(each, console.width), soft_wrap=True)
                    findings.append(each)
                else:
                    busy.update(each)
    return findings


def _lines(finding: Finding, width: int) -> Text:
    """One finding: its mark, step and message; below it, indented, what to do."""
    text = Text(no_wrap=True)
    text.append(f"{finding.result:7}", _STYLES[finding.result])
    text.append(f" {finding.step:10} ").append(_wrapped(finding.message, width))
    if finding.advice:
        text.append(f"\n{' ' * INDENT}").append(_wrapped(f"-> {finding.advice}", width, "   "), "cyan")
    return text


def _wrapped(text: str, width: int, further: str = "") -> str:
    """`text` in the column of messages; its further lines begin with `further`. No word, so no command, is cut."""
    lines = textwrap.wrap(
        text, max(20, width - INDENT), subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )
    return f"\n{' ' * INDENT}".join(lines)


def _summary(findings: Sequence[Finding]) -> Text:
    number = Counter(finding.result for finding in findings)
    words = [
        f"{number[result]} {result}{'' if result in (Result.OK, Result.SKIPPED) or number[result] == 1 else 's'}"
        for result in (Result.ERROR, Result.WARNING, Result.OK, Result.SKIPPED)
        if number[result]
    ]
    if number[Result.ERROR]:
        return Text(f"\nNot ready: {', '.join(words)}.", "bold red")
    return Text(f"\nReady{', with warnings' if number[Result.WARNING] else ''}: {', '.join(words)}.", "bold green")


def _sample(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a number from 1 on, or all")
    return int(text)
