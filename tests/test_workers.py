"""The whole daemon with worker processes: one killed, the master killed or stopped, and what is in their memory."""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import signal
import time
from pathlib import Path

import pytest

from tests.live import PASSWORD, live, parent, state
from tests.ports import free_ports

STOPPED_FOR = 3.0
"""Seconds: above `pool.LATE` and `pool.LOOK`, after which a master judges workers by their silence."""


async def test_a_killed_worker_takes_only_its_own(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        await gate.come(12)
        await gate.until_true(lambda: connections(gate, 12))
        before = await gate.workers()
        victim, other = before
        os.kill(victim, signal.SIGKILL)
        assert await gate.all_type() == before[other]["connections"] > 0
        await gate.until_true(lambda: replaced(gate, victim))
        after = await gate.workers()
        assert other in after
        assert sorted(worker["restarts"] for worker in after.values()) == [0, 1]
        await gate.until_ended(victim)
        assert state(victim) == ""  # reaped
        gate.until(lambda: f"worker {victim} was killed by SIGKILL" in gate.log)
        lost = before[victim]["connections"]
        assert f"worker {victim} ended, and {lost} connections with it; another is started now" in gate.log
        late = await gate.come(8)
        assert await gate.all_type(late) == 8


async def connections(gate, count):
    return sum(worker["connections"] for worker in (await gate.ask())["workers"]) == count


async def replaced(gate, victim):
    workers = set(await gate.workers())
    return len(workers) == 2 and victim not in workers


async def others_stand(gate, before):
    workers = set(await gate.workers())
    return len(workers) == len(before) and not workers & before


async def test_who_comes_while_a_worker_is_dead_waits_and_is_served(tmp_path, free_port):
    """The only one: there is nobody else to accept."""
    async with live(tmp_path, free_port, workers=1) as gate:
        (worker,) = await gate.workers()
        os.kill(worker, signal.SIGKILL)
        people = await gate.come(4)
        assert await gate.all_type(people) == 4
        await gate.until_true(lambda: others_stand(gate, {worker}))


async def test_a_killed_nursery_costs_nothing(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        await gate.come(4)
        worker, other = await gate.workers()
        os.kill(parent(worker), signal.SIGKILL)
        assert await gate.all_type() == 4
        for pid in (worker, other):
            os.kill(pid, signal.SIGKILL)
        await gate.until_true(lambda: others_stand(gate, {worker, other}))
        assert await gate.all_type(await gate.come(4)) == 4


async def test_the_master_is_killed_and_the_next_one_starts_beside_its_workers(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        early = await gate.come(8)
        orphans = gate.family() - {gate.pid}
        gate.kill()
        assert await gate.all_type() == 8
        await gate.again()
        late = await gate.come(4)
        assert await gate.all_type() == 12
        assert not orphans & set(await gate.workers())
        assert await gate.all_type(early) == 8
        await gate.leave()
        await gate.until_ended(*orphans)
        late = await gate.come(4)
        assert await gate.all_type(late) == 4


async def test_the_master_is_killed_while_the_token_file_is_bad(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        await gate.come(4)
        gate.write(*gate.lines(), "nonsense")
        await gate.until_true(lambda: trouble(gate))
        gate.kill()
        before = len(gate.log)
        gate.launch()
        await gate.until_ended(gate.pid)
        gate.kill()  # reaps it
        assert "workshop.tokens:5:1: error" in gate.log[before:]
        assert await gate.all_type() == 4
        with pytest.raises(ConnectionRefusedError):
            await gate.sit_down(0)
        gate.write(*gate.lines())
        await gate.again()
        await gate.come(4)
        assert await gate.all_type() == 8


async def trouble(gate):
    return (await gate.ask())["trouble"]


async def test_orphans_end_after_drain_timeout(tmp_path, free_port):
    async with live(tmp_path, free_port, settings="drain_timeout = 0.5\n") as gate:
        await gate.come(2)
        orphans = gate.family() - {gate.pid}
        gate.kill()
        await gate.until_ended(*orphans)
        assert "2 desktops are kept until they end" in gate.log or "1 desktops are kept until they end" in gate.log
        assert "still in use after 0.5 s and are ended" in gate.log
        assert await gate.all_type() == 0
        assert {person.heard.closed[0] for person in gate.people} == {1001}


async def test_nobody_at_a_desktop_nobody_left(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        orphans = gate.family() - {gate.pid}
        gate.kill()
        await gate.until_ended(*orphans)


async def test_a_master_that_is_stopped_for_seconds_costs_nothing(tmp_path, free_port):
    """Its workers' heartbeats came, it only has not listened; new people are served by the workers meanwhile."""
    async with live(tmp_path, free_port) as gate:
        await gate.come(4)
        before = set(await gate.workers())
        os.kill(gate.pid, signal.SIGSTOP)
        deadline = time.monotonic() + STOPPED_FOR
        while time.monotonic() < deadline:
            assert await gate.all_type() == len(gate.people)
            await gate.come(1)
            await asyncio.sleep(0.2)
        os.kill(gate.pid, signal.SIGCONT)
        await gate.until_true(lambda: connections(gate, len(gate.people)))
        assert await gate.all_type() == len(gate.people)
        assert set(await gate.workers()) == before
        assert "hangs" not in gate.log


async def test_a_stop_ends_stopped_workers_too(tmp_path, free_port):
    """A worker that hangs does not hold the end up: `live` sees that it comes within 5 s, and no process is left."""
    async with live(tmp_path, free_port) as gate:
        await gate.come(4)
        (worker, _) = await gate.workers()
        os.kill(worker, signal.SIGSTOP)


async def test_a_gate_that_cannot_begin_leaves_no_process(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        (other,) = free_ports(1)
        second = type(gate)(tmp_path, gate.peer, gate.ports, gate.settings)
        second.environ["VNCGATE_CONTROL"] = str(tmp_path / "other")
        second.control, second.web, second.shared = tmp_path / "other", other, gate.shared
        second.configure()
        second.launch()
        assert await asyncio.to_thread(second._process.wait, 20) == 1
        assert f"port {gate.shared} on 127.0.0.1 is in use by another program" in second.log
        await gate.until_true(lambda: none_left(second))
        assert await gate.all_type(await gate.come(4)) == 4


async def none_left(gate):
    return not gate.family()


def memory(pid):
    """All that a process has in memory, where it may be read."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights, *_ = line.split()
            start, end = (int(number, 16) for number in where.split("-"))
            if rights.startswith("r") and not line.endswith(("[vvar]", "[vsyscall]")):
                file.seek(start)
                try:
                    yield file.read(end - start)
                except OSError:  # a guard page
                    continue


def shapes_of(tokens):
    """A password as such, and as it travels with a token file that is handed over."""
    content = tokens.read_bytes()
    start = content.index(PASSWORD.encode())
    return PASSWORD.encode(), base64.b64encode(content)[(start - 12) // 3 * 4 + 4 : (start + len(PASSWORD)) // 3 * 4]


def has_any(pid, shapes):
    return any(shape in piece for piece in memory(pid) for shape in shapes)


def has_all(pid, shapes):
    return all(has_any(pid, [shape]) for shape in shapes)


async def test_no_password_is_in_a_worker_or_in_the_log(tmp_path, free_port):
    """Neither at the start nor after an upgrade with a token file that was handed over, nor in one born later."""
    async with live(tmp_path, free_port, settings='log_level = "debug"\n') as gate:
        shapes = shapes_of(gate.tokens)
        for generation in range(2):
            if generation:
                await gate.upgrade("--tokens", str(gate.tokens))
            await gate.come(4)
            victim = next(iter(await gate.workers()))
            os.kill(victim, signal.SIGKILL)
            await gate.until_true(functools.partial(replaced, gate, victim))
            assert has_all(gate.pid, shapes[: 1 + generation])  # the search finds it where it must be
            family = gate.family() - {gate.pid}
            assert len(family) >= 3 + 2 * generation  # a nursery and its workers, of which one may have ended
            assert not [pid for pid in family if has_any(pid, shapes)]
        for pid in gate.family():
            for file in ("environ", "cmdline"):
                assert PASSWORD.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()
        assert PASSWORD not in gate.log
