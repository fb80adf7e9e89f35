"""DNS that fails or says nothing: whose desktop has a name that cannot be looked up waits alone."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from tests.engines.desktop import Peer, client
from tests.faults.namespaces import mount
from tests.real.gate import RunningGate
from tests.workshop import Workshop

RESOLVER = "127.0.0.53"


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


@pytest.fixture
def look_ups(tmp_path):
    """Names are in /etc/hosts, or are asked of a resolver that is ours; see resolver()."""
    hosts, resolv = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost in-hosts.test\n")
    resolv.write_text(f"nameserver {RESOLVER}\noptions timeout:20 attempts:1\n")
    switch = tmp_path / "nsswitch.conf"
    switch.write_text("hosts: files dns\n")
    for ours in (hosts, resolv, switch):
        mount("--bind", ours, f"/etc/{ours.name}")


@contextlib.contextmanager
def silent_resolver():
    """Takes every question and answers none while the context lasts; then it says SERVFAIL (RFC 1035, 4.1.1)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((RESOLVER, 53))
        yield
        sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                question, asker = sock.recvfrom(512)
                sock.sendto(question[:2] + b"\x81\x82" + question[4:], asker)


async def test_names_that_hang_hold_up_no_other_desktop(workshop, look_ups):
    async with Peer() as peer:
        workshop.write(
            *(f"hung{n} hung{n}.example path-hung{n} - 5901 x{n}" for n in range(12)),
            f"named in-hosts.test path-named - {peer.port} named",
            f"ws01 127.0.0.1 path-ws01 - {peer.port} secret01",
        )
        with silent_resolver():
            async with workshop.running(connect_timeout=2.0), contextlib.AsyncExitStack() as stack:
                hung = [
                    (await stack.enter_async_context(client(workshop.shared, f"/ws/path-hung{n}")))[1]
                    for n in range(12)
                ]
                for path in ("path-ws01", "path-named"):
                    async with client(workshop.shared, f"/ws/{path}") as (_, heard):
                        await heard.until(lambda: heard.data, seconds=1.5)
                for n, browser in enumerate(hung):
                    await browser.gone.wait()
                    why = f"desktop hung{n}.example:5901 did not answer within 2 s: its name is still being looked up"
                    assert browser.closed == (1014, why)


async def test_names_that_fail_are_offline_and_recover_with_dns(workshop, look_ups):
    """Nobody listens at the resolver's address, until it is back: the next probe finds the desktop."""
    async with Peer() as peer:
        hosts = Path("/etc/hosts")
        workshop.write(f"late late.example path-late - {peer.port} secret01")
        async with workshop.running(probe=True, handshake_timeout=0.5):
            await workshop.until(lambda status: status["accounts"][0]["ready"] == "offline")
            reason = workshop.gate.status()["accounts"][0]["reason"]
            assert reason == f"desktop late.example:{peer.port} cannot be looked up now"
            async with client(workshop.shared, "/ws/path-late") as (_, heard):
                await heard.gone.wait()
                assert heard.closed == (1014, reason)
            hosts.write_text("127.0.0.1 localhost late.example\n")
            async with client(workshop.shared, "/ws/path-late") as (_, heard):
                await heard.until(lambda: heard.data)


def test_a_look_up_that_hangs_does_not_hold_the_end(tmp_path, look_ups):
    gate = RunningGate(tmp_path, "connect_timeout = 0.5\n")
    gate.write("hung hung.example path-hung - 5901 secret01")
    with silent_resolver(), gate:
        gate.until(lambda: "its name is still being looked up" in gate.log)
        assert gate.stop() < 5
