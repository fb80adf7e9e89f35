"""GET /metrics, wherever it is answered: the facts of that moment, written out in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

from vncgate.render.metrics import Facts, exposition, families

if TYPE_CHECKING:
    from prometheus_client import Metric

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PROC = Path("/proc")
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
_FAMILIES = {
    "process_proportional_memory_bytes": "Memory, what is shared with others by share (PSS).",
    "process_virtual_memory_bytes": "Virtual memory size in bytes.",
    "process_resident_memory_bytes": "Resident memory size in bytes.",
    "process_start_time_seconds": "Start time of the process since unix epoch in seconds.",
    "process_cpu_seconds_total": "Total user and system CPU time spent in seconds.",
    "process_open_fds": "Number of open file descriptors.",
    "process_max_fds": "Maximum number of open file descriptors.",
}
"""What every client of Prometheus' says of its own process, in the same words; and the memory's share."""


def handler(facts: Callable[[], Facts]) -> Handler:
    """The handler. `facts` is called in the loop; what takes long, writing thousands of accounts out, is not in it.

    One answer is written at a time, however many are asked for.
    """
    lock = asyncio.Lock()

    async def metrics(request: web.Request) -> web.Response:
        async with lock:
            media_type, text = await asyncio.to_thread(_write, facts(), request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": media_type})

    return metrics


def application(metrics: Handler) -> web.Application:
    """A site of its own, with nothing but /metrics."""
    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


def _write(facts: Facts, accept: str) -> tuple[str, bytes]:
    workers = ({"role": "worker", "pid": str(worker.pid)} for worker in facts.workers if worker.pid)
    measured = processes([{"role": "master", "pid": str(os.getpid())}, *workers])
    return exposition([*families(facts), *measured], accept)


def processes(labels: Iterable[dict[str, str]], proc: Path = _PROC) -> Iterator[Metric]:
    """Of several processes, what every client of Prometheus' says of its own (process_...), and their memory's share.

    Processes that are gone meanwhile are left out. Prometheus' own ProcessCollector says nothing where /proc has
    processes only (systemd's ProcSubset=pid); here, only the start times are missing then.
    """
    from prometheus_client import Metric

    families = {
        name: Metric(name.removesuffix("_total"), text, "counter" if name.endswith("_total") else "gauge")
        for name, text in _FAMILIES.items()
    }
    booted = _booted(proc)
    for label in labels:
        process = proc / label["pid"]
        for found in (_stat(process, booted), _memory_share(process), _descriptors(process)):
            with contextlib.suppress(OSError):
                for name, value in found:
                    families[name].add_sample(name, label, value)
    yield from families.values()


def _booted(proc: Path) -> int | None:
    """When the machine was started, in seconds since the epoch: proc_stat(5)."""
    with contextlib.suppress(OSError):
        if match := re.search(r"^btime (\d+)$", (proc / "stat").read_text(), re.MULTILINE):
            return int(match[1])
    return None


def _stat(process: Path, booted: int | None) -> Iterator[tuple[str, float]]:
    fields = (process / "stat").read_text().rpartition(")")[2].split()  # from the third on: proc_pid_stat(5)
    yield "process_virtual_memory_bytes", int(fields[20])
    yield "process_resident_memory_bytes", int(fields[21]) * _PAGE
    yield "process_cpu_seconds_total", (int(fields[11]) + int(fields[12])) / _TICKS
    if booted is not None:
        yield "process_start_time_seconds", booted + int(fields[19]) / _TICKS


def _memory_share(process: Path) -> Iterator[tuple[str, float]]:
    rollup = (process / "smaps_rollup").read_text()
    if share := re.search(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE):  # proc_pid_smaps(5); a zombie has none
        yield "process_proportional_memory_bytes", int(share[1]) * 1024


def _descriptors(process: Path) -> Iterator[tuple[str, float]]:
    yield "process_open_fds", sum(1 for _ in (process / "fd").iterdir())
    if limit := re.search(r"^Max open files +(\d+) ", (process / "limits").read_text(), re.MULTILINE):
        yield "process_max_fds", int(limit[1])
