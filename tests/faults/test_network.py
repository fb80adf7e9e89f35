"""Between the browser and the gate: a network that is slow, loses packets, or is cut for a while or for good."""

from __future__ import annotations

import asyncio
from pathlib import Path

import picows
import pytest

from tests.engines.desktop import Peer, client
from tests.faults.link import Link
from tests.faults.typist import typing
from tests.workshop import Workshop
from vncgate.engines.room import READ_SIZE
from vncgate.settings import Settings

MIB = 1 << 20


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


def account(workshop):
    return workshop.gate.status()["accounts"][0]


async def test_a_slow_and_lossy_network_keeps_its_session_and_costs_a_bounded_buffer(workshop, peer):
    """A train: 1 Mbit/s, 80 ms each way, a packet of 50 lost. A desktop that pours, and later a few keys.

    No pong comes within two intervals, because all that the desktop sent is before the ping: it is not taken for dead.
    """
    peer.echo = False
    workshop.write(f"ws01 127.0.0.1 path-ws01 - {peer.port} secret01")
    async with (
        workshop.running(ping_interval=0.5),
        Link(workshop.shared, delay=0.08, rate=125_000, loss=0.02) as link,
        client(link.port, "/ws/path-ws01") as (transport, heard),
    ):
        await heard.until(lambda: heard.data)
        peer.writer.write(bytes(20 * MIB))
        await asyncio.sleep(2.5)
        for n in range(1, 4):
            transport.send(picows.WSMsgType.BINARY, b"key")
            async with asyncio.timeout(10):
                while len(peer.received) < 3 * n:
                    await asyncio.sleep(0.02)
        assert heard.closed is None
        got = len(heard.data)
        assert 50_000 < got < MIB
        # What the gate took of the desktop and the browser has not: its buffer, the kernel's and the link's.
        waiting = account(workshop)["bytes_down"] - got
        assert waiting < Settings().max_buffer + READ_SIZE + kernel_buffers()


def kernel_buffers():
    """The most that the kernel keeps of what one process wrote on loopback: tcp(7), tcp_wmem."""
    return int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])


async def test_a_cut_that_is_mended_in_time_keeps_the_session(workshop, peer):
    workshop.write(f"ws01 127.0.0.1 path-ws01 - {peer.port} secret01")
    async with (
        workshop.running(ping_interval=2.0),
        Link(workshop.shared) as link,
        typing(link.port, "/ws/path-ws01") as typist,
    ):
        link.cut()
        await asyncio.sleep(1.5)
        echoes = typist.echoes
        assert account(workshop)["connections"] == 1
        link.mend()
        async with asyncio.timeout(10):
            while typist.echoes < echoes + 10:
                await asyncio.sleep(0.02)


async def test_a_cut_for_good_is_noticed_by_ping_and_frees_everything(workshop, peer, caplog):
    caplog.set_level("INFO")
    workshop.write(f"ws01 127.0.0.1 path-ws01 - {peer.port} secret01")
    async with (
        workshop.running(ping_interval=0.3),
        Link(workshop.shared) as link,
        client(link.port, "/ws/path-ws01", X_Forwarded_For="192.0.2.7") as (_, heard),
    ):
        await heard.until(lambda: heard.data)
        link.cut()
        async with asyncio.timeout(10):
            assert await peer.gone.get() == "eof", "the desktop's side is closed, too"
        await workshop.until(lambda status: status["accounts"][0]["connections"] == 0)
        (record,) = [record for record in caplog.records if "did not answer a ping" in record.getMessage()]
        assert record.getMessage().startswith("the browser did not answer a ping within 0.3 s; ")
        assert (record.account, record.client) == ("ws01", "192.0.2.7")
        link.mend()
