"""The command line: one parser, each command in the module of its room.

Exit status: 0 done, 1 refused or failed (one clear line says why), 2 no such command or flag, or an unreadable file.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable, Sequence

from vncgate import __version__
from vncgate.errors import VncgateError

MODULES = (
    "run", "demo", "tokens", "render", "operate", "desktop", "seats", "images", "token", "cards", "archive", "workshop",
    "doctor", "rehearse",
)  # fmt: skip
"""Where the commands are, in the order in which help lists them."""


def parser(modules: Iterable[str] = MODULES) -> argparse.ArgumentParser:
    """The command line; each command sets `run`, a function from the arguments to an exit status."""
    top = argparse.ArgumentParser(
        prog="vncgate", description="A workshop's desktops in every participant's browser, from one text file."
    )
    top.add_argument("--version", action="version", version=f"vncgate {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in modules:
        importlib.import_module(f"{__name__}.{module}").register(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    words = sys.argv[1:] if argv is None else argv
    # The daemon stays for a week, and so does what it imports: it does without the other commands.
    args = parser(["run"] if words[:1] == ["run"] else MODULES).parse_args(words)
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
