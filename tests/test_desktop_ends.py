"""When a desktop is ended because nobody uses it, or its time is over."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakeplace import EPOCH, roster, settings
from vncgate.desktop_ends import LATE_NEWS
from vncgate.launchers.base import Seen, Sighting
from vncgate.model import Desktop, DesktopState, Want

pytestmark = pytest.mark.virtual_time

STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


async def test_nobody_uses_it_and_is_warned(world):
    await world.start(settings(idle_timeout=7200.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    ready = EPOCH + asyncio.get_running_loop().time()
    await asyncio.sleep(6890)
    assert world.status().idle_end is None
    world.told.clear()
    await asyncio.sleep(20)
    assert world.status().idle_end == pytest.approx(ready + 7200, abs=2)
    assert world.told == [{"ws01"}]
    await asyncio.sleep(300)
    assert (world.state(), world.status().reason) == (STOPPED, "nobody used it for 2 h")
    assert world.status().want is Want.DOWN
    assert world.place.running == {}
    await asyncio.sleep(7200)
    assert world.state() is STOPPED
    world.launcher.visit("ws01")
    await world.running()


@pytest.mark.parametrize("answer", ["stay", "used"])
async def test_who_answers_the_warning_keeps_it(world, answer):
    await world.start(settings(idle_timeout=600.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    for _ in range(5):
        await asyncio.sleep(500)
        assert world.status().idle_end is not None  # 300 s before: half of it would be the same
        world.told.clear()
        now = asyncio.get_running_loop().time()
        world.launcher.stay("ws01") if answer == "stay" else world.launcher.used("ws01", now)
        assert world.status().idle_end is None
        await asyncio.sleep(0.1)
        assert world.told == [{"ws01"}]
    world.launcher.used("ws01", 0.0)  # old news change nothing
    await asyncio.sleep(590)
    assert world.state() is RUNNING
    await asyncio.sleep(20)
    assert world.state() is STOPPED


async def test_a_key_in_the_last_moment_is_heard_though_it_is_told_later(world):
    await world.start(settings(idle_timeout=600.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await asyncio.sleep(599)
    pressed = asyncio.get_running_loop().time()
    await asyncio.sleep(3)
    world.launcher.used("ws01", pressed)
    await asyncio.sleep(500)
    assert world.state() is RUNNING


async def test_of_a_short_time_half_is_left_for_the_warning(world):
    await world.start(settings(idle_timeout=60.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await asyncio.sleep(27)
    assert world.status().idle_end is None
    await asyncio.sleep(6)
    assert world.status().idle_end is not None


async def test_a_time_limit_is_told_and_warned_of_when_it_is_near(world):
    await world.start(settings(), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    end = EPOCH + asyncio.get_running_loop().time() + 3600
    desktop = world.place.of("ws01")
    desktop.sighting = Sighting(Seen.RUNNING, Desktop(unix=f"/{desktop.handle.nonce}"), "node7", ends=end)
    await asyncio.sleep(3290)
    assert (world.status().ends, world.status().is_ending, world.status().host) == (end, False, "node7")
    await asyncio.sleep(20)
    assert (world.status().ends, world.status().is_ending) == (end, True)


@pytest.mark.parametrize(("timeout", "warned"), [(7200.0, 300.0), (600.0, 300.0), (60.0, 30.0), (7.0, 3.5)])
@pytest.mark.parametrize("pressed", [0.0, 1.3, 2.99])
async def test_the_warning_and_the_end_come_when_they_are_promised(world, timeout, warned, pressed):
    await world.start(settings(idle_timeout=timeout), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await asyncio.sleep(pressed)
    loop = asyncio.get_running_loop()
    last = loop.time()
    world.launcher.used("ws01", last)
    world.told.clear()
    await asyncio.sleep(timeout - warned - 1)
    await world.until(lambda: world.status().idle_end is not None)
    assert loop.time() - last == pytest.approx(timeout - warned, abs=0.02)
    await asyncio.sleep(0.05)
    assert world.told == [{"ws01"}], "whoever shows it is told at once"
    assert world.status().idle_end == pytest.approx(EPOCH + last + timeout, abs=0.51)
    await asyncio.sleep(warned - 1)
    await world.until(lambda: world.state() is not RUNNING)
    assert timeout <= loop.time() - last == pytest.approx(timeout + LATE_NEWS, abs=0.02)


async def test_each_key_puts_the_end_off_by_the_whole_time(world):
    await world.start(settings(idle_timeout=20.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    loop = asyncio.get_running_loop()
    pressed = loop.time()
    for _ in range(20):
        await asyncio.sleep(pressed + 19.9 - loop.time())
        pressed = loop.time()
        await asyncio.sleep(LATE_NEWS)  # so long it may take until that is known here
        assert world.state() is RUNNING
        world.launcher.used("ws01", pressed)
    await world.until(lambda: world.state() is not RUNNING)
    assert loop.time() - pressed == pytest.approx(20 + LATE_NEWS, abs=0.02)


async def test_nobody_is_timed_any_more_once_it_is_closed(world):
    await world.start(settings(idle_timeout=20.0), roster("ws01"))
    world.launcher.visit("ws01")
    await world.running()
    await world.launcher.aclose()
    world.launcher.used("ws01", asyncio.get_running_loop().time())
    world.told.clear()
    await asyncio.sleep(600)
    assert (world.told, world.state()) == ([], RUNNING)
