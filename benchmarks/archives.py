"""How fast files go home: `python -m benchmarks.archives`, which prints a table in half a minute.

Large files that are in memory already (--megabytes of them, of random bytes), by turns:

    tar c | cat          what a person at the desktop would do
    agent tar, agent zip the agent alone, into a pipe that cat reads
    gate zip, tar.zst    the same through a gate, by curl: read by an agent, sent as it is read
    gate archive         what was built beforehand, by curl
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.real.gate import ME, RunningGate
from vncgate import seat_links
from vncgate.takeaway.agents import LOADER, program
from vncgate.takeaway.room import PURPOSE

FILES = 4
LEAST = 0.8
"""What the agent's tar must reach of `tar c | cat`."""


def main() -> int:
    """Measure, and print; 1 where the target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archives", description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1024, help="of all files (default: 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (default: 5)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "files" / "ws01"
        files.mkdir(parents=True)
        for number in range(FILES):
            with (files / f"f{number}").open("wb") as file:
                for _ in range(args.megabytes // FILES):
                    file.write(os.urandom(1 << 20))
        with Gate(folder) as fetch:
            ways = {
                "tar c | cat": lambda: piped(["tar", "c", "-C", str(files.parent), "ws01"]),
                "agent tar": lambda: agent(folder, "tar"),
                "agent zip": lambda: agent(folder, "zip"),
                "gate zip": lambda: fetch("all.zip"),
                "gate tar.zst": lambda: fetch("all.tar.zst"),
                "gate archive": lambda: fetch("archive.zip"),
            }
            return show(measure(ways, args.rounds), args.megabytes)


def measure(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The median of the seconds that each takes; all take turns, so that what else the machine does is shared."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, go in ways.items():
            began = time.perf_counter()
            go()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def show(seconds: dict[str, float], megabytes: int) -> int:
    """Print the table; returns the exit status."""
    yardstick = seconds["tar c | cat"]
    print(f"{'':16}{'MiB/s':>8}{'x tar c | cat':>16}")
    for name, value in seconds.items():
        print(f"{name:16}{megabytes / value:8.0f}{yardstick / value:16.2f}")
    is_reached = yardstick / seconds["agent tar"] >= LEAST
    print(f"agent tar >= {LEAST} x tar c | cat: {'reached' if is_reached else 'missed'}")
    return 0 if is_reached else 1


def piped(argv: list[str], **options: object) -> None:
    """Run a command into a cat."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, **options) as running:
        subprocess.run(["cat"], stdin=running.stdout, stdout=subprocess.DEVNULL, check=True)
    if running.returncode:
        sys.exit(f"{argv[0]} failed")


def agent(folder: Path, form: str) -> None:
    """An archive by an agent."""
    order = {"do": "pack", "root": str(folder / "files" / "ws01"), "paths": [], "name": "ws01", "format": form}
    given = folder / "order"
    given.write_bytes(program() + json.dumps(order).encode() + b"\n")
    with given.open("rb") as stdin:
        piped([os.path.realpath(sys.executable), "-I", "-S", "-c", LOADER], stdin=stdin)


class Gate:
    """A gate with that folder; what it gives fetches something by its link, with curl."""

    def __init__(self, folder: Path) -> None:
        self._gate = RunningGate(folder)
        self._gate.environ["STATE_DIRECTORY"] = str(folder / "state")
        self._url = f"http://127.0.0.1:{self._gate.web}/"
        self._gate.settings = f"""access = "seat"
public_url = "{self._url}"
probe = false
[files]
root = "{folder}/files/{{account}}"
user = "{ME}"
"""
        self._folder = folder

    def __enter__(self) -> Callable[[str], None]:
        self._gate.write("ws01 127.0.0.1 path-ws01 - 5999 secret01 pin=480113")
        self._gate.__enter__()
        if (done := self._gate.command("archive", "build")).returncode:
            sys.exit(done.stderr)
        key = (self._folder / "state" / "seats.key").read_bytes().strip()
        token = seat_links.sign(key, PURPOSE, f"ws01.{int(time.time()) + 3600}.")

        def fetch(name: str) -> None:
            argv = ["curl", "-fsS", "-o", os.devnull, "-H", f"Authorization: Bearer {token}", f"{self._url}take/{name}"]
            subprocess.run(argv, check=True)

        return fetch

    def __exit__(self, *_: object) -> None:
        self._gate.__exit__()


if __name__ == "__main__":
    sys.exit(main())
