"""Two hundred reloads in a row, while people type: nobody is cut, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import _children, _descriptors
from tests.engines.desktop import Peer
from tests.faults.typist import typing
from tests.workshop import Workshop
from vncgate.scrape import processes

RELOADS = 200
MEGABYTES = 8
"""What resident memory may have grown: what allocators keep for later."""


def resident():
    """This process's resident memory in bytes: proc_pid_statm(5)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held():
    """What a process can leak, by kind."""
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "children": len(_children()),
        "descriptors": len(_descriptors()),
    }


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


async def test_two_hundred_reloads_under_load_leave_nothing_behind(workshop, monkeypatch):
    """Of 20 accounts every third comes, goes, moves or is renamed each time; four keep their desktop and type."""
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # pytest keeps every event until the end
    ports = workshop.free_port.many(20)
    snippet, pages = workshop.folder / "vncgate.conf", workshop.folder / "pages"
    config = {"apache.snippet": snippet, "apache.form": "guide", "apache.configtest": "", "landing.export": pages}
    async with Peer() as peer:

        def lines(turn):
            for n in range(20):
                state = 0 if n < 4 else (n + turn) % 3
                if state != 1:
                    port = ports[n] if state == 0 else "-"
                    yield f'ws{n} 127.0.0.1 path-ws{n} {port} {peer.port} pass{n} name="{turn if n >= 4 else n}"'

        workshop.write(*lines(0))
        async with workshop.running(**config) as gate, contextlib.AsyncExitStack() as stack:
            typists = [await stack.enter_async_context(typing(ports[n])) for n in range(4)]

            async def reload(turn):
                """By whichever way is first: the watcher sees every change, too."""
                workshop.write(*lines(turn))
                if turn % 10 == 1:
                    os.kill(os.getpid(), signal.SIGHUP)
                elif turn % 10 > 1:
                    await gate.reload()
                expected = [(line.split("name=")[1].strip('"'), "RUNNING") for line in lines(turn)]
                await workshop.until(
                    lambda status: [(account["title"], account["state"]) for account in status["accounts"]] == expected
                )

            for turn in range(1, 20):  # what is made once, is made
                await reload(turn)
            await settled()
            before, echoes = held(), [typist.echoes for typist in typists]
            for turn in range(20, 20 + RELOADS // 2):
                await reload(turn)
            memory = resident()  # now each thread of the pool has had its turn, and its allocator what it keeps
            for turn in range(20 + RELOADS // 2, 20 + RELOADS):
                await reload(turn)
            await reload(19)
            await settled()
            assert held() == before
            assert resident() - memory < MEGABYTES * 1024 * 1024
            assert all(typist.echoes > before for typist, before in zip(typists, echoes, strict=True))


async def test_fifty_reloads_leave_nothing_behind_in_the_workers(workshop):
    """Two accounts keep their desktops and type; others come, go and move."""
    ports = workshop.free_port.many(8)
    async with Peer() as peer:

        def lines(turn):
            for n in range(8):
                state = 0 if n < 2 else (n + turn) % 3
                if state != 1:
                    yield f"ws{n} 127.0.0.1 path-ws{n} {ports[n] if state == 0 else '-'} {peer.port} pass{n}"

        workshop.write(*lines(0))
        async with workshop.running(workers=2) as gate, typing(ports[0]) as one, typing(ports[1]) as two:

            async def reload(turn):
                workshop.write(*lines(turn))
                await gate.reload()
                names = [line.partition(" ")[0] for line in lines(turn)]
                await workshop.until(
                    lambda status: [a["name"] for a in status["accounts"] if a["state"] == "RUNNING"] == names
                )

            for turn in range(1, 13):
                await reload(turn)
            pids = [worker["pid"] for worker in gate.status()["workers"]]
            before, echoes = {pid: held_by(pid) for pid in pids}, one.echoes + two.echoes
            for turn in range(13, 61):  # the 60th is as the 12th
                await reload(turn)
            assert [worker["pid"] for worker in gate.status()["workers"]] == pids
            for pid, (descriptors, memory) in before.items():
                async with asyncio.timeout(10):  # a port is closed in a moment
                    while held_by(pid)[0] != descriptors:
                        await asyncio.sleep(0.05)
                assert held_by(pid)[1] - memory < MEGABYTES * 1024 * 1024
            assert one.echoes + two.echoes > echoes


def held_by(pid):
    """How many descriptors a process has open, and its resident memory in bytes."""
    found = {sample.name: sample.value for each in processes([{"pid": str(pid)}]) for sample in each.samples}
    return found["process_open_fds"], found["process_resident_memory_bytes"]


async def settled():
    """The watcher's threads, and what is closed in a moment, have ended."""
    for _ in range(20):
        await asyncio.sleep(0.05)
