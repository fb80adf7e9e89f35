"""Tests of vncgate.launchers.ways: a way lasts as long as its desktop, whoever looks at that meanwhile.

That something goes through them is in the suite of the places that have them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vncgate.errors import LaunchError
from vncgate.kinds import SshLogin
from vncgate.launchers.lines import Line, Lines
from vncgate.launchers.ways import Ways

NODE = "node01", "ada"
NONCE = "0123456789abcdef"
THERE = "127.0.0.1", 5901


class Listener:
    def __init__(self):
        self.is_closed = False

    def close(self):
        self.is_closed = True


class Connection:
    """It listens where it is told to, after `listening` is set."""

    def __init__(self):
        self.listening = asyncio.Event()
        self.listeners = []

    async def forward_local_path_to_port(self, path, host, port):
        await self.listening.wait()
        Path(path).touch()
        self.listeners.append(Listener())
        return self.listeners[-1]

    def is_closed(self):
        return False

    def close(self):
        pass

    async def wait_closed(self):
        pass


class Node:
    """A host that lets us in when `open` is set."""

    def __init__(self, monkeypatch):
        self.connection = Connection()
        self.open = asyncio.Event()

        async def log_in(_):
            await self.open.wait()
            return self.connection

        monkeypatch.setattr(Line, "_log_in", log_in)


@pytest.fixture
async def node(monkeypatch):
    return Node(monkeypatch)


@pytest.fixture
async def lines(node):
    lines = Lines(SshLogin())
    yield lines
    await lines.aclose()


async def steps():
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("slow", ["open", "listening"])
async def test_of_a_desktop_that_ends_while_it_is_looked_at_nothing_is_left(node, lines, tmp_path, slow):
    ways, gate = Ways(lines, tmp_path), {"open": node.open, "listening": node.connection.listening}
    waits = gate.pop(slow)
    (other,) = gate.values()
    other.set()

    async def look():
        with ways.look(NONCE):
            await ways.lead(NONCE, NODE, THERE)

    looking = asyncio.ensure_future(look())
    await steps()
    ways.end(NONCE)
    waits.set()
    with pytest.raises(LaunchError, match="has ended while it was looked at"):
        await looking
    assert list(tmp_path.iterdir()) == []
    assert all(listener.is_closed for listener in node.connection.listeners)
    assert lines.line(NODE)._holders == 0
    assert not ways._ended


async def test_what_was_seen_before_the_end_leads_nowhere(node, lines, tmp_path):
    ways = Ways(lines, tmp_path)
    node.open.set()
    node.connection.listening.set()
    with ways.look(NONCE):
        ways.end(NONCE)
        with pytest.raises(LaunchError):
            await ways.lead(NONCE, NODE, THERE)
    assert list(tmp_path.iterdir()) == []


async def test_a_way_is_made_once_and_again_after_a_job_waited_meanwhile(node, lines, tmp_path):
    ways = Ways(lines, tmp_path)
    node.open.set()
    node.connection.listening.set()
    for _ in range(2):
        for _ in range(2):
            with ways.look(NONCE):
                assert (await ways.lead(NONCE, NODE, THERE)).unix == f"{tmp_path}/{NONCE}.sock"
        assert lines.line(NODE)._holders == 1
        with ways.look(NONCE):
            ways.end(NONCE)
        assert list(tmp_path.iterdir()) == []
    assert len(node.connection.listeners) == 2
    assert lines.line(NODE)._holders == 0


async def test_of_a_daemon_that_was_killed_nothing_is_left(node, lines, tmp_path):
    """Neither of a desktop that ends before anybody is led there, nor of others, once there is a way of our own."""
    ways, killed = Ways(lines, tmp_path), [f"{number:016d}" for number in range(3)]
    for nonce in killed:
        (tmp_path / f"{nonce}.sock").touch()
    ways.end(killed[0])
    assert not (tmp_path / f"{killed[0]}.sock").exists()
    node.open.set()
    node.connection.listening.set()
    for nonce in (NONCE, "f" * 16):
        await ways.lead(nonce, NODE, THERE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{NONCE}.sock", f"{'f' * 16}.sock"]
    ways.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_place_without_a_folder_for_ways_has_ends_too(lines, tmp_path):
    Ways(lines, tmp_path / ("long" * 50)).end(NONCE)
