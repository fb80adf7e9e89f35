"""A portal's day with a real gate and real desktops on its host: the REST API, and `vncgate desktop` beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.real.conftest import need
from tests.real.gate import RunningGate

need("Xvnc")
pytestmark = pytest.mark.real

SETTINGS = """
[api]
tokens = "{folder}/api.tokens"
[desktops]
folder = "{folder}/d"
[desktops.kinds.bare]
command = ["sh", "-c", "echo hello from $HOME; exec sleep infinity"]
home = "{folder}/homes/{{account}}"
policy = "manual"
[desktops.kinds.broken]
command = "xterm"
home = "/dev/null/{{account}}"
policy = "manual"
"""
KINDS = {"ws01": "bare", "ws02": "bare", "ws03": "broken"}
WRONG = "The home folder /dev/null/ws03 cannot be made: Not a directory"


@pytest.fixture
def gate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a")  # a short name, for sockets
    gate = RunningGate(folder, SETTINGS.format(folder=folder))
    gate.write(*(f"{name} - {name} - - pw-{name} desktop={kind}" for name, kind in KINDS.items()))
    with gate:
        yield gate
        gate.command("desktop", "stop", "--all")


def token(gate, *args):
    argv = [sys.executable, "-m", "vncgate", "token", *args, "--config", gate.config]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout.strip()


class Portal:
    """A client with a token, which follows the events."""

    def __init__(self, gate, secret):
        self._base = f"http://127.0.0.1:{gate.web}/api/v1"
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {secret}"})
        self._stream = None
        self.sessions = {}

    async def ask(self, method, path, **more):
        async with self._session.request(method, self._base + path, **more) as response:
            return response.status, await response.json(content_type=None)

    async def follow(self):
        """Begin to follow the events, anew where the gate was away."""
        self._stream, self.sessions = await self._session.get(f"{self._base}/events"), {}

    async def until(self, name, state, since=0):
        """Hear events until a session is in this state, into which it came after `since`."""
        async with asyncio.timeout(30):
            while not (session := self.sessions.get(name)) or session["state"] != state or session["since"] <= since:
                event, _, data = (await self._stream.content.readuntil(b"\n\n")).decode().partition("\ndata: ")
                told = json.loads(data) if data else []
                for session in told["changed"] if event == "event: change" else told:
                    self.sessions[session["account"]] = session
        return self.sessions[name]

    async def ends(self):
        """Wait until the stream is over."""
        async with asyncio.timeout(30):
            await self._stream.content.read()

    async def __aenter__(self):
        await self.follow()
        return self

    async def __aexit__(self, *_):
        self._stream.close()
        await self._session.close()


async def give(gate, *args):
    """An operator's command: its exit status, what it said, and what it complained of."""
    done = await asyncio.to_thread(gate.command, *args)
    return done.returncode, done.stdout, done.stderr


def processes(gate):
    """Desktops of this gate, by their VNC servers."""
    mine = f"{gate.folder}/d/".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(path.read_bytes())
    return [command for command in found if b"-rfbunixpath" in command and mine in command]


async def test_a_portals_day(gate):
    secret = token(gate, "create", "--scope", "read,write", "portal")
    async with Portal(gate, secret) as portal:
        await portal.until("ws01", "STOPPED")
        assert {name: session["kind"] for name, session in portal.sessions.items()} == KINDS
        status, session = await portal.ask("POST", "/sessions", json={"account": "ws01"})
        assert (status, session["want"]) == (202, "up")
        running = await portal.until("ws01", "RUNNING")
        assert (running["place"], running["reason"], running["viewer"]) == ("local", "", "desk/ws01")
        assert len(processes(gate)) == 1
        _, log = await portal.ask("GET", "/sessions/ws01/logs")
        assert f"hello from {gate.folder}/homes/ws01" in log["log"]

        await portal.ask("POST", "/sessions", json={"account": "ws03"})
        assert WRONG in (await portal.until("ws03", "FAILED"))["reason"]

        assert gate.account("ws01")["launched"]["state"] == "RUNNING"
        gate.kill()  # desktops stay, and so does the token
        gate.launch()
        gate.until(lambda: gate.log.count("info serving") == 2)
        await portal.follow()
        again = await portal.until("ws01", "RUNNING")
        assert len(processes(gate)) == 1
        await portal.ask("POST", "/sessions/ws01/restart")
        await portal.until("ws01", "RUNNING", since=again["since"])

        assert (await portal.ask("DELETE", "/sessions/ws01"))[0] == 202
        await portal.until("ws01", "STOPPED")
        assert processes(gate) == []
        assert token(gate, "revoke", "portal") == "revoked: portal"
        await portal.ends()
        assert (await portal.ask("GET", "/sessions"))[0] == 401
    assert "API: token portal: POST /api/v1/sessions: 202" in gate.log
    assert secret not in gate.log
    assert "pw-ws" not in gate.log


async def test_an_operators_day(gate):
    status, out, err = await give(gate, "desktop", "start", "--all")
    assert status == 1
    assert err.startswith(f"vncgate: ws03 is not RUNNING: FAILED: {WRONG}")
    assert {"ws01: RUNNING (local)", "ws02: RUNNING (local)"} <= set(out.splitlines())
    assert len(processes(gate)) == 2
    status, out, _ = await give(gate, "status")
    assert status == 0
    assert f"ws03: desktop FAILED: {WRONG}" in out
    assert [line.split()[6] for line in out.splitlines() if line.startswith(" ws0")] == ["RUNNING", "RUNNING", "FAILED"]
    status, out, _ = await give(gate, "desktop", "restart", "ws01")
    assert (status, out.splitlines()[-1]) == (0, "ws01: RUNNING (local)")
    status, out, _ = await give(gate, "desktop", "logs", "ws0[12]")
    assert (status, out.count("hello from")) == (0, 2)
    status, out, _ = await give(gate, "desktop", "stop", "--all")
    assert (status, processes(gate)) == (0, [])
    metrics = subprocess.run(
        ["curl", "-s", "--unix-socket", gate.control, "http://vncgate/metrics"], capture_output=True, text=True
    ).stdout
    assert 'vncgate_launched_desktops{kind="bare",state="STOPPED"} 2.0' in metrics
