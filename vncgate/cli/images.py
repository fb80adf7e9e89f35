"""`vncgate images`: brings images of Apptainer to the hosts of a place."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from vncgate import settings
from vncgate.cli.config import add_config
from vncgate.errors import LaunchError
from vncgate.kinds import SshPlace

if TYPE_CHECKING:
    from vncgate.images import Delivery


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `images`."""
    actions = commands.add_parser("images", help="images that desktops run in").add_subparsers(
        metavar="ACTION", required=True
    )
    words = "copy an image of Apptainer to all hosts of a place that do not have it"
    parser = actions.add_parser("deploy", help=words, description=words[0].upper() + words[1:] + ".")
    parser.add_argument("image", metavar="KIND|FILE", help="a kind, or a file with the name of a kind's image")
    parser.add_argument("--place", default="", metavar="NAME", help="the place (default: that of the kind)")
    add_config(parser)
    parser.set_defaults(run=_deploy)


def _deploy(args: argparse.Namespace) -> int:
    from vncgate import images  # asyncssh is half of what all other commands take to start

    chosen = settings.load(args.config, os.environ).desktops
    delivery = images.plan(chosen, args.image, args.place)
    place = chosen.place(delivery.place)
    if isinstance(place, SshPlace):
        return asyncio.run(_to_hosts(delivery, place))
    try:
        is_new = images.copy(delivery)
    except OSError as error:
        raise LaunchError(f"{error.filename or delivery.path}: {error.strerror}") from None
    print(f"{delivery.path}: {'copied' if is_new else 'has it already'}")
    return 0


async def _to_hosts(delivery: Delivery, place: SshPlace) -> int:
    from vncgate import images

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        rows = {}

        def progress(host: str, count: int) -> None:
            if host not in rows:
                rows[host] = bars.add_task(host, total=delivery.size)
            bars.update(rows[host], completed=count)

        failed = await images.deploy(
            delivery, place, progress=progress, done=lambda host, words: print(f"{host}: {words}")
        )
    for host, why in failed.items():
        print(f"{host}: {why}", file=sys.stderr)
    return 1 if failed else 0
