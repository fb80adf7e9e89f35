"""`vncgate run`: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from pathlib import Path

from vncgate import handover, log, settings
from vncgate.cli.config import add_config
from vncgate.control import HandedOver
from vncgate.nursery import Nursery
from vncgate.settings import EngineName
from vncgate.upgrade import TRIAL


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
    flag("--workers", metavar="N", help="processes that run the relay (one a core); 0: none but the daemon")
    flag("--control", metavar="PATH", help="unix socket of the operator's commands")
    flag("--watch", metavar="auto|inotify|poll", help="how changes of the token file are noticed (auto)")
    flag("--log-level", metavar="LEVEL", help="debug, info, warning or error (info)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped, or (in the trial of an upgrade) until it is clear that we could."""
    inherited = handover.inherit(os.environ)
    config = HandedOver.from_json(inherited.state.config) if inherited.state.config else None
    names = ("web", "listen", "shared_port", "engine", "workers", "control", "watch", "log_level")
    flags = {name: getattr(args, name) for name in names}
    file, content = (Path(config.name), config.content) if config else (args.config, None)
    if file is not None and content is None:
        content = settings.read(file)
    chosen = settings.load(file, os.environ, flags, content)
    # Before there are threads and secrets here.
    nursery = _nursery() if chosen.engine is EngineName.RELAY and chosen.workers != 0 else None
    inherited.reveal()

    import uvloop  # here, so that the other commands start without it

    from vncgate.daemon import Gate

    async def serve() -> None:
        name = str(file.absolute()) if file else ""
        gate = Gate(args.tokens, chosen, config=content or b"", config_name=name, nursery=nursery, inherited=inherited)
        await (gate.trial() if TRIAL in os.environ else gate.run())

    with (
        contextlib.closing(log.setup(chosen.log_level, os.environ)),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve())
    return 0


def _nursery() -> Nursery:
    from vncgate.worker import main  # before the fork: what is imported now is shared by all processes

    return Nursery.fork(main)
