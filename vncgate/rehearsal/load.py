"""How busy the gate, Apache and the whole host are meanwhile, read from /proc (proc(5)): no privilege is needed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

APACHE = frozenset({"apache2", "httpd"})
"""What Apache's processes are called on Debian and on RHEL."""


@dataclass(frozen=True, slots=True)
class Load:
    """The most that was seen, over some seconds each. None: it could not be seen, or there is none."""

    gate: float | None = None
    """Cores that the gate's processes used together."""
    busiest: float | None = None
    """Share of a core that the busiest of them used: each runs on one at a time."""
    apache: float | None = None
    """Cores that Apache's processes used together."""
    host: float | None = None
    """Share of all of the host's cores that was busy, players included where they run there."""

    def to_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return {"gate": self.gate, "busiest": self.busiest, "apache": self.apache, "host": self.host}


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as /proc/PID/stat has it; `cpu` in seconds."""

    pid: int
    parent: int
    name: str
    cpu: float


class Observer:
    """Watches the gate on this host, whose processes are `pids` and their children, and what else runs here."""

    def __init__(self, pids: Collection[int], proc: Path = Path("/proc")) -> None:
        self._pids = pids
        self._proc = proc
        self._peak = Load()
        self._before = self._snapshot()

    def look(self) -> Load:
        """See what was used since the last look; returns the most so far. Blocks for some milliseconds."""
        then, processes, busy = self._before
        self._before = now, after, busy_now = self._snapshot()
        seconds = now - then
        used = {pid: process.cpu - processes[pid].cpu for pid, process in after.items() if pid in processes}
        gate = [used[pid] / seconds for pid in _trees(self._pids, after) if pid in used]
        apache = [used[pid] / seconds for pid, process in after.items() if pid in used and process.name in APACHE]
        seen = Load(
            gate=sum(gate) if gate else None,
            busiest=max(gate, default=None),
            apache=sum(apache) if apache else None,
            host=(busy_now - busy) / seconds / (os.cpu_count() or 1),
        )
        peak = self._peak
        self._peak = Load(
            _most(peak.gate, seen.gate),
            _most(peak.busiest, seen.busiest),
            _most(peak.apache, seen.apache),
            _most(peak.host, seen.host),
        )
        return self._peak

    def _snapshot(self) -> tuple[float, dict[int, Process], float]:
        tick = os.sysconf("SC_CLK_TCK")
        # user nice system idle iowait irq softirq steal; guests' time is in user's already
        fields = [int(word) for word in (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy = (sum(fields) - fields[3] - fields[4]) / tick
        return time.monotonic(), {process.pid: process for process in _processes(self._proc, tick)}, busy


def _processes(proc: Path, tick: int) -> Iterator[Process]:
    for folder in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            head, _, tail = (folder / "stat").read_text(errors="replace").rpartition(")")
            fields = tail.split()
            yield Process(
                pid=int(folder.name),
                parent=int(fields[1]),
                name=head.partition("(")[2],
                cpu=(int(fields[11]) + int(fields[12])) / tick,
            )


def _trees(roots: Collection[int], processes: Mapping[int, Process]) -> set[int]:
    """`roots` and all that descend from them."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, todo = set(), [pid for pid in roots if pid in processes]
    while todo:
        pid = todo.pop()
        found.add(pid)
        todo += children.get(pid, [])
    return found


def _most(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)
