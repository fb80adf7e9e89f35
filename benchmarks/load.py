"""The load: desktops and viewers, both in C, on a core of their own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.machine import Bench, free_range
from benchmarks.peers import Relay
from benchmarks.processes import ALL_CORES, LOAD_CORE, Tree, Used, running


@dataclass
class Part:
    """A desktop.c or player.c that runs."""

    process: subprocess.Popen
    tree: Tree

    def read(self) -> dict:
        """The next line that it says."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[0]} ended with {self.process.wait()}")
        return json.loads(line)

    def mark(self) -> dict:
        """Its counters since the last time."""
        self.process.stdin.write(b"mark\n")
        self.process.stdin.flush()
        return self.read()


@contextlib.contextmanager
def _part(bench: Bench, name: str, arguments: list[object], pinned: bool) -> Iterator[Part]:
    command = [bench.program(name), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(command, cores=LOAD_CORE if pinned else ALL_CORES, show=bench.show, **pipes) as process:
        yield Part(process, Tree(process))


@contextlib.contextmanager
def desktops(bench: Bench, count: int, *arguments: object, pinned: bool = True) -> Iterator[tuple[Part, int]]:
    """`count` desktops, each on a port of its own; gives them and the first port."""
    port = free_range(count)
    with _part(bench, "desktop", [*arguments, port, count], pinned) as part:
        part.read()
        yield part, port


@contextlib.contextmanager
def viewers(
    bench: Bench, relay: Relay, count: int, *arguments: object, pinned: bool = True
) -> Iterator[tuple[Part, dict]]:
    """`count` viewers of the accounts from 0 on; gives them and their report of how they arrived."""
    with _part(bench, "player", ["-n", count, *arguments, *relay.player], pinned) as part:
        yield part, part.read()


@dataclass
class Window:
    """What happened in a measured time: `player` and `desktop` their counters, `cpu` the relay's seconds."""

    player: dict
    desktop: dict
    seconds: float
    cpu: float
    load: float
    """The share of its core (of all, where nothing is pinned) that the load used."""


def measure(relay: Relay, player: Part, desktop: Part, seconds: float, warm: float = 1.0) -> Window:
    """Let it run for `warm` seconds, then look what happens for `seconds`."""
    time.sleep(warm)
    player.mark()
    desktop.mark()
    before, loads = relay.tree.used(), _used(player, desktop)
    time.sleep(seconds)
    after, loads_after = relay.tree.used(), _used(player, desktop)
    told = player.mark()
    return Window(
        told,
        desktop.mark(),
        after.when - before.when,
        after.cpu - before.cpu,
        loads_after.share_since(loads),
    )


def _used(*parts: Part) -> Used:
    return Tree(*(part.process for part in parts)).used()
