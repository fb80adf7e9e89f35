"""`vncgate demo`: a workshop on this machine, to try everything with."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from vncgate import log


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo`."""
    parser = commands.add_parser(
        "demo",
        help="a workshop with desktops on this machine, to try it",
        description="Start desktops (TigerVNC's where it is installed, else embedded ones) and a gate on this machine, "
        "print the address and the passwords, and end all of it on Ctrl-C.",
    )
    flag = parser.add_argument
    flag("--accounts", type=_count, default=4, metavar="N", help="accounts and desktops (4)")
    flag("--web", default="127.0.0.1:8080", metavar="HOST:PORT", help="landing page and viewer (127.0.0.1:8080)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo until it is interrupted."""
    import uvloop  # here, so that the other commands start without it

    from vncgate import demo

    with (
        contextlib.closing(log.setup("warning", {})),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(demo.run(args.accounts, args.web))
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 999:
        raise argparse.ArgumentTypeError("must be a number from 1 to 999")
    return int(text)
