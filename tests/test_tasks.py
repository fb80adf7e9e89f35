"""Tasks: named, heard when they fail, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from pathlib import Path

import pytest

import vncgate
from vncgate.tasks import end, in_thread, spawn


def test_no_other_module_makes_tasks_by_hand():
    """A linter can forbid asyncio.create_task, but not a loop's."""
    package = Path(vncgate.__file__).parent
    makers = {path for path in package.rglob("*.py") if re.search(r"\b(create_task|ensure_future)\b", path.read_text())}
    assert makers == {package / "tasks.py"}


async def fail(error):
    raise error


async def sleep_on(log):
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        log.append("cleaned up")


async def test_it_has_a_name_and_gives_its_result(caplog):
    task = spawn(asyncio.sleep(0, "done"), "nap")
    assert task.get_name() == "nap"
    assert await task == "done"
    assert not caplog.records


async def test_a_failure_is_heard_though_nobody_awaits_it(caplog):
    task = spawn(fail(ValueError("no")), "clock")
    await asyncio.wait([task])
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("ERROR", "vncgate.tasks")
    assert record.getMessage() == "task 'clock' failed"
    assert isinstance(record.exc_info[1], ValueError)


async def test_what_is_expected_concerns_only_who_awaits_it(caplog):
    with pytest.raises(FileNotFoundError):
        await spawn(fail(FileNotFoundError()), "start", expected=OSError)
    assert not caplog.records


async def test_end_waits_for_what_a_task_does_last(caplog):
    ends = []
    tasks = [spawn(sleep_on(ends), "one"), spawn(sleep_on(ends), "two")]
    await asyncio.sleep(0)
    await end(*tasks)
    assert all(task.cancelled() for task in tasks)
    assert ends == ["cleaned up", "cleaned up"]
    await end(*tasks)  # those that have ended already
    await end()
    assert not caplog.records


async def test_end_outlives_a_task_that_fails_while_it_ends(caplog):
    async def stubborn():
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the disk is full")

    task = spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    await end(task)
    assert isinstance(task.exception(), OSError)
    assert [record.getMessage() for record in caplog.records] == ["task 'stubborn' failed"]


async def test_who_ends_tasks_can_be_cancelled():
    may_go = asyncio.Event()

    async def slow():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await may_go.wait()

    task = spawn(slow(), "slow")
    ending = spawn(end(task), "end")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait([ending])
    assert ending.cancelled()
    assert not task.done()
    may_go.set()
    await task


async def test_work_in_a_thread_of_its_own_gives_its_result_or_raises():
    assert await in_thread(lambda: threading.current_thread().name, "a name") == "a name"
    with pytest.raises(KeyError, match="lost"):
        await in_thread(lambda: {}["lost"], "fails")


async def test_where_no_thread_can_be_started_that_is_an_error_like_any_of_the_system(monkeypatch):
    def none(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    with pytest.raises(OSError, match="no thread can be started"):
        await in_thread(lambda: "never", "none")


async def test_who_waits_no_longer_leaves_the_thread_to_itself():
    release = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await in_thread(release.wait, "hangs")
    (thread,) = (each for each in threading.enumerate() if each.name == "hangs")
    assert thread.daemon  # the end of the process does not wait for it
    release.set()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
