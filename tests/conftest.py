"""What every test gets: uvloop, and a check that it leaves no task, process or file descriptor behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop
from hypothesis import settings

from tests.fakeplace import World
from tests.ports import free_ports

settings.register_profile("vncgate", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("vncgate")
uvloop.new_event_loop().close()  # with a process's first loop libuv makes a pipe that it keeps


def nothing_skipped(report):
    """Where everything is required (CI), a skip is a failure."""
    if report.skipped and os.environ.get("VNCGATE_REQUIRE_ALL", "") not in ("", "0"):
        report.outcome = "failed"
        report.longrepr = f"skipped though VNCGATE_REQUIRE_ALL is set: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return nothing_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return nothing_skipped((yield))


def pytest_collection_modifyitems(items):
    """Tests on real parts, which mostly wait, come first, and the others fill the processors beside them.

    Of these the last files come first (upgrade, workers ...): so none of the long ones is left to one process alone.
    """
    files = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (0, 0) if item.get_closest_marker("real") else (1, -files[item.path]))


def pytest_collection_finish():
    """All tests and what they import stay: `gc.collect()` before each test need not look at them (0.15 s each time)."""
    gc.collect()
    gc.freeze()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when nothing else is to be done: an hour passes at once."""

    def __init__(self):
        super().__init__()
        self._now = 0.0
        real_select = self._selector.select

        def select(timeout=None):
            ready = real_select(0)
            if not ready and timeout:
                self._now += timeout
            elif not ready and timeout is None:
                return real_select(5)  # only a thread or a socket can wake it
            return ready

        self._selector.select = select

    def time(self):
        return self._now


def pytest_asyncio_loop_factories(config, item):
    """Tests run on the loop that the daemon runs on; those marked `virtual_time` on a clock of their own."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"uvloop": uvloop.new_event_loop}


def _descriptors() -> dict[int, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(entry.readlink())
            if target != "/dev/null":  # libuv keeps one in reserve while the loop lives
                found[int(entry.name)] = target
    return found


def _children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found.update((task / "children").read_text().split())
    return found


def _settled(look, before, patience: float = 2.0):
    """What is still there beyond `before`, after giving the kernel and other threads a moment to let go."""
    deadline = time.monotonic() + patience
    while True:
        left = look() - before
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_leaks(request):
    """Fail a test that leaves a child process or a file descriptor behind.

    Fixtures of a wider scope may own some: those that existed before the test are not counted, and a
    fixture of a wider scope that starts things while the test is set up requests nothing of this one.
    """
    gc.collect()
    descriptors, children = _descriptors(), _children()
    yield
    left = _settled(_children, children)
    assert not left, "child processes left behind: " + ", ".join(
        Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") for pid in left
    )
    left = _settled(lambda: set(_descriptors()), set(descriptors))
    now = _descriptors()
    assert not left, f"file descriptors left behind: { {fd: now.get(fd) for fd in left} }"


@pytest.fixture(autouse=True)
def no_leaked_tasks(request):
    """Fail a test that leaves an asyncio task behind in the loop that it runs in: its own, or its module's."""
    marker = request.node.get_closest_marker("asyncio")
    loop = marker.kwargs.get("loop_scope", "function") if marker else "function"
    request.getfixturevalue(f"no_tasks_left_in_the_loop_of_the_{loop}")


@pytest_asyncio.fixture(loop_scope="function")
async def no_tasks_left_in_the_loop_of_the_function():
    async with no_tasks_left():
        yield


@pytest_asyncio.fixture(loop_scope="module")
async def no_tasks_left_in_the_loop_of_the_module():
    async with no_tasks_left():
        yield


@contextlib.asynccontextmanager
async def no_tasks_left():
    before = asyncio.all_tasks()
    yield
    for _ in range(20):
        left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"tasks left behind: {left}")


class Ports:
    """Gives ports of 127.0.0.1 that are free."""

    def __call__(self) -> int:
        return free_ports(1)[0]

    def many(self, count: int) -> list[int]:
        return free_ports(count)


@pytest.fixture
def free_port():
    """A function that gives a port of 127.0.0.1 that is free."""
    return Ports()


@pytest_asyncio.fixture
async def world():
    """A launcher of desktops at a fake place; `start()` it."""
    world = World()
    yield world
    await world.launcher.aclose()
