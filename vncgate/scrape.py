"""GET /metrics, wherever it is answered: the facts of that moment, written out in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
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


def processes(labels: Iterable[dict[str, str]]) -> Iterator[Metric]:
    """Of several processes, what every client of Prometheus' says of its own (process_...), and their memory's share.

    Processes that are gone meanwhile are left out.
    """
    from prometheus_client import Metric, ProcessCollector

    memory = Metric("process_proportional_memory_bytes", "Memory, what is shared with others by share (PSS).", "gauge")
    merged = {memory.name: memory}
    for label in labels:
        pid = label["pid"]
        for family in ProcessCollector(pid=functools.partial(str, pid), registry=None).collect():
            into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                into.add_sample(sample.name, label, sample.value)
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            if share := re.search(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE):  # proc(5); a zombie has none
                memory.add_sample(memory.name, label, int(share[1]) * 1024)
    yield from merged.values()
