"""One whole round on the daemon's loop, with files and threads. (The rest is in tests/test_launcher.py.)"""

from __future__ import annotations

import asyncio

from tests.fakeplace import World, roster, settings
from vncgate.model import DesktopState
from vncgate.store import Store


async def test_a_daemon_is_killed_and_the_next_finds_all_and_leaves_no_file_behind(tmp_path):
    world = World()
    world.store = Store(tmp_path / "desktops")
    world.place.boot = 0.01
    names = [f"ws{number}" for number in range(10)]
    await world.start(settings(policy="on_demand"), roster(*names))
    for name in names:
        world.launcher.visit(name)
    await world.running(*names)
    assert len(list(world.store.folder.iterdir())) == 10
    await world.restart()
    await world.running(*names)
    assert len(world.place.started) == 10
    world.place.die("ws1")
    await world.launcher.restart_desktops(["ws2"])
    await world.launcher.stop_desktops(["ws3"])
    await asyncio.sleep(0.1)
    await world.running(*(set(names) - {"ws3"}))
    await world.launcher.stop_desktops(["*"])
    await world.until(lambda: world.states() == {DesktopState.STOPPED})
    assert list(world.store.folder.iterdir()) == []
    await world.launcher.aclose()
