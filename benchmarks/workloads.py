"""What is measured. A workload is a function (bench, peer) -> figures; the registry at the end names them all.

A figure's name ends in its unit; `load` is the share of its core that the load used. A run that makes no sense raises
Skipped. Workloads with Apache are in through_apache.py.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import through_apache
from benchmarks.load import Part, Window, desktops, measure, viewers
from benchmarks.machine import Bench, Skipped, answers, free_memory, free_range
from benchmarks.peers import PEERS, Guarded, Peer, Relay, Site, Vncgate

GIB = 2**30
RECORDING = Path(__file__).with_name("recording.json.gz")
BULK_UPDATE = 262144
CLIPBOARD_FRAME = 10240
"""What noVNC sends in one frame at most: it gathers 10 KiB."""
AT_A_TIME = 32
"""Viewers that connect at the same time where it is not connecting that is measured."""

Figures = dict[str, float]


@dataclass
class Stage:
    """A relay with its load, everybody arrived."""

    relay: Relay
    desktop: Part
    player: Part
    arrival: dict
    idle_mb: float
    """Memory of the relay before anybody came."""
    arrival_cpu: float
    """Seconds of the relay's CPU that the arrival took."""

    def measure(self, seconds: float, warm: float = 1.0) -> Window:
        """See load.measure."""
        return measure(self.relay, self.player, self.desktop, seconds, warm)


@contextlib.contextmanager
def stage(
    bench: Bench,
    peer: Peer,
    count: int,
    player: Sequence[object],
    desktop: Sequence[object] = (),
    pinned: bool = True,
) -> Iterator[Stage]:
    """`count` viewers at desktops through a relay; all must arrive."""
    with arriving(bench, peer, count, ["-j", AT_A_TIME, *player], desktop, pinned) as ready:
        if ready.arrival["connected"] != count:
            raise Skipped(f"only {ready.arrival['connected']} of {count} arrived: {ready.arrival['failed']}")
        yield ready


@contextlib.contextmanager
def arriving(
    bench: Bench,
    peer: Peer,
    count: int,
    player: Sequence[object],
    desktop: Sequence[object] = (),
    pinned: bool = True,
) -> Iterator[Stage]:
    """The same, however many arrive."""
    affordable(peer, count)
    with (
        desktops(bench, count, *desktop, pinned=pinned) as (screens, port),
        peer.serve(bench, Site(count, port, pinned=pinned)) as relay,
    ):
        idle, before = relay.tree.pss(), relay.tree.used()
        with viewers(bench, relay, count, *player, pinned=pinned) as (eyes, arrival):
            yield Stage(relay, screens, eyes, arrival, idle, relay.tree.used().cpu - before.cpu)


def affordable(peer: Peer, count: int) -> None:
    """Raise Skipped where a peer is not to be tried with so many desktops."""
    if count > peer.most:
        raise Skipped(peer.why)
    if peer.name == "websockify" and count * 4 > free_memory() * 0.8:
        raise Skipped(f"{count} websockify processes need {count * 4} MB, and {free_memory():.0f} are free")


# ---- one desktop as fast as it goes


def bulk_down(bench: Bench, peer: Peer) -> Figures:
    """One desktop pours updates of 256 KiB."""
    with stage(bench, peer, 1, ["-p"], ["-b", "-s", BULK_UPDATE]) as on:
        window = on.measure(bench.seconds(3, 10))
        return _per_gib(window, window.player["in"])


def bulk_up(bench: Bench, peer: Peer) -> Figures:
    """One viewer sends clipboard texts in frames of 10 KiB."""
    with stage(bench, peer, 1, ["-u", CLIPBOARD_FRAME]) as on:
        window = on.measure(bench.seconds(3, 10))
        return _per_gib(window, window.desktop["in"])


def _per_gib(window: Window, count: int) -> Figures:
    return {
        "cpu_s_per_gib": window.cpu / (count / GIB),
        "gib_per_s": count / GIB / window.seconds,
        "load": window.load,
    }


# ---- a class


def a_class(count: int, bench: Bench, peer: Peer, *, rate: float, pinned: bool = True) -> Figures:
    """`count` desktops, each asked `rate` times a second for 8 KiB."""
    with stage(bench, peer, count, ["-r", rate], pinned=pinned) as on:
        window = on.measure(bench.seconds(4, 15))
        return _round_trips(window) | {
            "pss_mb": on.relay.tree.pss(),
            "cpu_us_per_desktop_s": _per_desktop(window, count),
        }


def mix(count: int, bench: Bench, peer: Peer) -> Figures:
    """`count` desktops replay TigerVNC's sessions; a pointer moves five times a second."""
    recording = bench.folder / "recording"
    if not recording.exists():
        recording.write_text(as_text(json.loads(gzip.decompress(RECORDING.read_bytes()))))
    with stage(bench, peer, count, ["-c", "-r", 5], ["-m", recording]) as on:
        window = on.measure(bench.seconds(5, 20))
        return {
            "cpu_us_per_desktop_s": _per_desktop(window, count),
            "cpu_us": window.cpu / max(1, window.player["answers"]) * 1e6,
            "p50_ms": window.player["latency"]["p50"],
            "p99_ms": window.player["latency"]["p99"],
            "updates_per_s": window.player["answers"] / window.seconds,
            "mib_per_s": window.player["in"] / 2**20 / window.seconds,
            "dropped": window.player["dropped"],
            "load": window.load,
        }


def as_text(recording: dict) -> str:
    """A recording as desktop.c reads it: {name: [[milliseconds, bytes], ...]}."""
    return "\n".join("".join(f"{delay} {size}\n" for delay, size in track) for track in recording.values())


def _round_trips(window: Window) -> Figures:
    player = window.player
    return {
        "cpu_us": window.cpu / max(1, player["answers"]) * 1e6,
        "cores": window.cpu / window.seconds,
        "p50_ms": player["latency"]["p50"],
        "p99_ms": player["latency"]["p99"],
        "late_share": player["late"] / max(1, player["asked"] + player["late"]),
        "dropped": player["dropped"],
        "lag_p99_ms": player["lag"]["p99"],
        "load": window.load,
    }


def _per_desktop(window: Window, count: int) -> float:
    return window.cpu / window.seconds / count * 1e6


# ---- coming


def one_by_one(bench: Bench, peer: Peer) -> Figures:
    """200 viewers connect, one after the other is in."""
    return _arrivals(bench, peer, 200, ["-j", 1])


def all_at_once(count: int, bench: Bench, peer: Peer) -> Figures:
    """`count` viewers connect at the same moment."""
    return _arrivals(bench, peer, count, [])


def _arrivals(bench: Bench, peer: Peer, count: int, player: list[object]) -> Figures:
    with arriving(bench, peer, count, player) as on:
        return {
            "banner_p50_ms": on.arrival["banner"]["p50"],
            "banner_p99_ms": on.arrival["banner"]["p99"],
            "total_s": on.arrival["seconds"],
            "failed": count - on.arrival["connected"],
            "cpu_s": on.arrival_cpu,
        }


def start(count: int, bench: Bench, peer: Peer) -> Figures:
    """From the start of the process to the moment at which every account, each on its port, can be connected to."""
    if peer.name == "websockify" and count > 60:
        raise Skipped("60 take more than a GB already")
    with desktops(bench, count, pinned=False) as (_, port):
        began = time.monotonic()
        with peer.launch(bench, Site(count, port, own_ports=True, pinned=False)) as relay:
            relay.wait()
            ready, cpu = time.monotonic(), relay.tree.used().cpu
            while True:
                with viewers(bench, relay, count, "-j", AT_A_TIME, pinned=False) as (_, arrival):
                    if arrival["connected"] == count:
                        break
                ready = time.monotonic()  # the last account was there, and another was not
        # Memory of another that nobody has visited but who asked whether it is there.
        with peer.serve(bench, Site(count, port, own_ports=True, pinned=False)) as relay:
            time.sleep(3)
            return {"ready_s": ready - began, "pss_mb": relay.tree.pss(), "cpu_s": cpu}


def change(bench: Bench, peer: Peer) -> Figures:
    """One line of 1,000 changes: port and path are new. Until the new port serves; 100 others are in use meanwhile."""
    count, used, times = 1000, 100, 10
    with desktops(bench, count, pinned=False) as (_, port), contextlib.ExitStack() as stack:
        site = Site(count, port, own_ports=True, pinned=False)
        relay = stack.enter_context(peer.serve(bench, site))
        eyes, arrival = stack.enter_context(viewers(bench, relay, used, "-r", 10, pinned=False))
        if arrival["connected"] != used:
            raise Skipped(f"only {arrival['connected']} of {used} arrived: {arrival['failed']}")
        time.sleep(3)
        eyes.mark()
        took = []
        for i in range(times):
            took.append(_change_one(relay, 500 + i))
            time.sleep(0.5)
        told = eyes.mark()
        took.sort()
        return {
            "effect_p50_ms": took[times // 2] * 1e3,
            "effect_max_ms": took[-1] * 1e3,
            "others_dropped": told["dropped"],
            "others_late": told["late"],
            "others_p99_ms": told["latency"]["p99"],
        }


def _change_one(relay: Relay, account: int) -> float:
    tokens = relay.folder / "workshop.tokens"
    lines = tokens.read_text().splitlines(keepends=True)
    port = free_range(1)
    fields = lines[account].split()
    fields[2], fields[3] = f"{fields[2]}x", str(port)
    lines[account] = " ".join(fields) + "\n"
    new = relay.folder / "new"
    new.touch(0o600)
    new.write_text("".join(lines))
    began = time.monotonic()
    new.rename(tokens)
    while not answers(port, relay.path):
        if time.monotonic() - began > 30:
            raise TimeoutError("the changed account was not served for 30 s")
        time.sleep(0.001)
    return time.monotonic() - began


# ---- staying


def idle(bench: Bench, peer: Peer) -> Figures:
    """1,000 desktops (websockify: 100) are connected, and nothing moves."""
    count = 100 if peer.name == "websockify" else 1000
    with stage(bench, peer, count, []) as on:
        time.sleep(2)
        window = on.measure(bench.seconds(3, 10), 0)
        now = on.relay.tree.pss()
        return {
            "idle_mb": on.idle_mb,
            "connected_mb": now,
            "kb_each": (now - on.idle_mb) * 1024 / count,
            "cores": window.cpu / window.seconds,
        }


def soak(bench: Bench, peer: Peer) -> Figures:
    """200 desktops, five updates a second each; five viewers a second hang up and come back."""
    seconds = bench.seconds(20, 600)
    with stage(bench, peer, 200, ["-r", 5, "-k", 5]) as on:
        time.sleep(5)
        memory, files = on.relay.tree.pss(), on.relay.tree.descriptors()
        window = on.measure(seconds, 0)
        return {
            "minutes": seconds / 60,
            "start_mb": memory,
            "end_mb": on.relay.tree.pss(),
            "start_files": files,
            "end_files": on.relay.tree.descriptors(),
            "returned": window.player["returned"],
            "failed": sum(window.player["failed"].values()),
            "p99_ms": window.player["latency"]["p99"],
            "late_share": window.player["late"] / max(1, window.player["asked"] + window.player["late"]),
            "load": window.load,
        }


# ---- all of them


@dataclass(frozen=True)
class Workload:
    """A name, what it does to whom, and how often it is done in a short run and in a full one."""

    name: str
    run: Callable[[Bench, Peer], Figures]
    peers: tuple[str, ...]
    rounds: tuple[int, int] = (2, 5)

    @property
    def about(self) -> str:
        """One line."""
        run = self.run if isinstance(self.run, partial) else partial(self.run)
        about = run.func.__doc__.splitlines()[0].replace("`count`", self.name.rpartition("-")[2])
        return about.replace("`rate` times", "once" if (rate := run.keywords.get("rate")) == 1 else f"{rate} times")


OURS = (Vncgate.name,)
EVERY = tuple(name for name in PEERS if name != Guarded.name)
ALSO_GUARDED = tuple(PEERS)
FAST = ("vncgate", "c", "haproxy")
CURVE = (10, 100, 500, 1000, 2000, 5000)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("bulk-down", bulk_down, ALSO_GUARDED, (3, 7)),
        Workload("bulk-up", bulk_up, EVERY, (2, 5)),
        Workload("class-60", partial(a_class, 60, rate=20), EVERY, (2, 5)),
        Workload("class-200", partial(a_class, 200, rate=20), ALSO_GUARDED, (3, 7)),
        Workload("class-1000", partial(a_class, 1000, rate=20), EVERY, (1, 3)),
        Workload("mix-60", partial(mix, 60), EVERY, (1, 3)),
        Workload("connect", one_by_one, ALSO_GUARDED, (2, 5)),
        *(Workload(f"storm-{count}", partial(all_at_once, count), EVERY, (1, 3)) for count in (60, 500, 2000)),
        Workload("start-1", partial(start, 1), EVERY, (2, 5)),
        Workload("start-60", partial(start, 60), EVERY, (1, 3)),
        *(Workload(f"start-{count}", partial(start, count), FAST, (1, 3)) for count in (1000, 5000)),
        Workload("change", change, OURS, (1, 3)),
        Workload("idle", idle, EVERY, (1, 3)),
        *(
            Workload(f"curve-{count}", partial(a_class, count, rate=1, pinned=False), FAST[:2], (1, 3))
            for count in CURVE
        ),
        Workload("apache-60", through_apache.a_class, OURS, (1, 3)),
        Workload("soak", soak, OURS, (1, 1)),
    )
}
