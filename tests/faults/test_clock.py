"""The wall clock is set, ten years on and back again: what serves does not look at it."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.engines.desktop import Peer
from tests.faults.typist import typing
from tests.workshop import Workshop
from vncgate import cli
from vncgate.supervisor import Supervisor

YEARS = 10 * 365 * 86400.0


@pytest.fixture
def clock(monkeypatch):
    """A wall clock that a test sets: `clock[0]` is how far it is off, in seconds."""
    off, right = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: right() + off[0])
    monkeypatch.setitem(Supervisor.__init__.__kwdefaults__, "wall_clock", time.time)
    return off


async def test_a_clock_that_is_set_forth_and_back_changes_nothing_that_serves(tmp_path, free_port, clock, capsys):
    workshop = Workshop(tmp_path, free_port)
    async with Peer() as peer:
        workshop.write(
            f"ws01 127.0.0.1 path-ws01 - {peer.port} secret01", f"dead 127.0.0.1 path-dead - {free_port()} secret02"
        )
        async with (
            workshop.running(probe=True, probe_interval=0.2, ping_interval=0.2),
            typing(workshop.shared, "/ws/path-ws01") as typist,
        ):
            for off in (YEARS, -YEARS, 0.0, -3600.0):
                clock[0] = off
                echoes = typist.echoes
                await workshop.ask("/restart", {"accounts": ["dead"]})
                await workshop.until(lambda status: status["accounts"][1]["ready"] == "offline")
                assert (await workshop.ask("/reload", {})) == {"changes": "2 unchanged"}
                await workshop.until(lambda _, before=echoes: typist.echoes > before)
                for flags in ([], ["--json"]):
                    status = await asyncio.to_thread(cli.main, ["status", "--control", str(workshop.control), *flags])
                    assert status == 0
                table, _, as_json = capsys.readouterr().out.partition("{")
                assert " -" not in table.replace(" - ", " ")
                assert [account["state"] for account in json.loads("{" + as_json)["accounts"]] == ["RUNNING"] * 2
