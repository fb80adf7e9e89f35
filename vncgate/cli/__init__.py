"""The command line: one parser, each command in the module of its room.

Exit status: 0 done, 1 refused or failed (one clear line says why), 2 no such command or flag, or an unreadable file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vncgate import __version__
from vncgate.errors import VncgateError

from . import demo, doctor, operate, rehearse, render, run, tokens


def parser() -> argparse.ArgumentParser:
    """The whole command line; each command sets `run`, a function from the arguments to an exit status."""
    top = argparse.ArgumentParser(
        prog="vncgate", description="A workshop's desktops in every participant's browser, from one text file."
    )
    top.add_argument("--version", action="version", version=f"vncgate {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (run, demo, tokens, render, operate, doctor, rehearse):
        module.register(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    args = parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except VncgateError as error:
        print(f"vncgate: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output (head, less) went away
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130
    return status
