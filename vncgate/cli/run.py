"""`vncgate run`: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from pathlib import Path

from vncgate import log, settings
from vncgate.cli.config import add_config


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run`."""
    parser = commands.add_parser(
        "run",
        help="the daemon: proxies, pages, Apache's snippet",
        description="Serve the accounts of a token file until SIGTERM. Flags beat VNCGATE_... variables, "
        "which beat the settings file. Every setting is in docs/settings.md.",
    )
    parser.add_argument("tokens", type=Path, metavar="TOKENS", help="the token file; it is watched")
    add_config(parser)
    flag = parser.add_argument
    flag("--web", metavar="HOST:PORT", help='landing page and viewer (127.0.0.1:8080); "off": none')
    flag("--listen", metavar="ADDRESS", help="address of the websocket ports (127.0.0.1)")
    flag("--shared-port", type=int, metavar="N", help="port of all accounts as /ws/PATH (8081); 0: none")
    flag("--engine", metavar="relay|websockify", help="how proxies run (relay)")
    flag("--control", metavar="PATH", help="unix socket of the operator's commands")
    flag("--watch", metavar="auto|inotify|poll", help="how changes of the token file are noticed (auto)")
    flag("--log-level", metavar="LEVEL", help="debug, info, warning or error (info)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped."""
    import uvloop  # here, so that the other commands start without it

    from vncgate.daemon import Gate

    names = ("web", "listen", "shared_port", "engine", "control", "watch", "log_level")
    chosen = settings.load(args.config, os.environ, {name: getattr(args, name) for name in names})

    async def serve() -> None:
        await Gate(args.tokens, chosen).run()

    with (
        contextlib.closing(log.setup(chosen.log_level, os.environ)),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve())
    return 0
