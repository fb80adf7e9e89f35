"""A desktop that echoes, and a relay before it."""

from __future__ import annotations

import pytest

from tests.engines.desktop import Peer
from tests.engines.raw import World
from vncgate.model import Desktop


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


@pytest.fixture
async def world(request, peer):
    world = World(getattr(request, "param", None))
    yield await world.open(Desktop("127.0.0.1", peer.port))
    await world.close()
