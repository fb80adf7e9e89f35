"""A desktop that echoes, a relay before it, and a nursery for workers."""

from __future__ import annotations

import asyncio

import pytest

from tests.engines.desktop import Peer
from tests.engines.raw import World
from vncgate.model import Desktop
from vncgate.nursery import Nursery


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


@pytest.fixture
async def world(request, peer):
    world = World(getattr(request, "param", None))
    yield await world.open(Desktop("127.0.0.1", peer.port))
    await world.close()


@pytest.fixture(scope="module")
def nursery():
    """A function that gives a Pool its nursery: one process serves all tests of a module, one after another."""
    one = asyncio.run(Nursery.execute())
    yield lambda: Nursery(one._sock.dup())
    one.close()
