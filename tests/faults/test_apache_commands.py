"""Apache's commands fail, hang or are not there: the old snippet stands, and desktops do not wait for them."""

from __future__ import annotations

import asyncio

import pytest

from tests.engines.desktop import Peer, client
from tests.faults.typist import typing
from tests.workshop import Workshop
from vncgate import publish

COMMANDS = {
    "fails": ("echo AH00526: Syntax error; exit 1", "AH00526: Syntax error"),
    "hangs": ("exec sleep 1000", "did not end within 0.5 s"),
    "cannot be stopped": ("trap '' TERM; while :; do sleep 1000; done", "did not end within 0.5 s"),
    "floods": ("exec yes AH00526", "did not end within 0.5 s"),
    "crashes": ("kill -SEGV $$", "killed by SIGSEGV"),
}


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


@pytest.mark.parametrize("how", COMMANDS)
async def test_a_config_test_that_fails_or_hangs_leaves_the_old_snippet(workshop, monkeypatch, caplog, how):
    monkeypatch.setattr(publish, "COMMAND_TIMEOUT", 0.5)
    snippet, broken = workshop.folder / "vncgate.conf", workshop.folder / "broken"
    script, words = COMMANDS[how]
    config = {
        "apache.snippet": snippet,
        "apache.form": "guide",
        "apache.reload": "",
        "apache.configtest": ["sh", "-c", f"test ! -e {broken} || {{ {script}; }}"],
    }
    one, two = workshop.free_port.many(2)
    async with Peer() as peer:
        first = f"ws01 127.0.0.1 path-ws01 {one} {peer.port} pass1"
        workshop.write(first)
        async with workshop.running(**config), typing(one):
            old = snippet.read_text()
            broken.touch()
            workshop.write(first, f"ws02 127.0.0.1 path-ws02 {two} {peer.port} pass2")
            await workshop.until(lambda status: [each["state"] for each in status["accounts"]] == ["RUNNING"] * 2)
            async with client(two) as (_, heard):  # while the test is still under way, or after
                await heard.until(lambda: heard.data)
            await workshop.until(lambda status: status["apache_error"])
            error = workshop.gate.status()["apache_error"]
            assert words in error
            assert "so the old one stands again" in error
            assert len(error) < 20_000
            assert error in caplog.text
            assert snippet.read_text() == old
            broken.unlink()
            async with asyncio.timeout(10):
                await workshop.ask("/reload", {})
            assert workshop.gate.status()["apache_error"] == ""
            assert "path-ws02" in snippet.read_text()
