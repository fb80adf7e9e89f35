"""People at the desktops of a gate that runs as processes of its own, all of them in the test's process.

async with live(folder, free_port, accounts=4) as gate:
    await gate.come(4)
    assert await gate.all_type() == 4
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import picows

from tests.engines.desktop import BANNER, Peer, client
from tests.real.gate import RunningGate
from vncgate import control

PATIENCE = 60.0
PASSWORD = "Canary88"


class Person:
    """Somebody at a desktop that echoes."""

    def __init__(self, transport, heard):
        self._transport = transport
        self.heard = heard

    async def type(self):
        """Type something that was never typed before, and wait to see it. False: the desktop is gone."""
        text = os.urandom(8).hex().encode()
        seen = len(self.heard.data)
        self._transport.send(picows.WSMsgType.BINARY, text)
        await self.heard.until(lambda: len(self.heard.data) >= seen + len(text) or self.heard.gone.is_set())
        return bytes(self.heard.data[seen:]) == text

    def leave(self):
        """Close the window."""
        self._transport.disconnect()


class LiveGate(RunningGate):
    """A gate whose desktops are all one Peer: ws01, ws02, ... with an own port where the number is odd."""

    def __init__(self, folder, peer, ports, settings, *flags, only_own=False):
        super().__init__(folder, settings, *flags)
        self.ports = ports
        self.peer = peer
        self.people = []
        self._stack = contextlib.AsyncExitStack()
        self.only_own = only_own
        self.write(*self.lines())

    def line_of(self, number):
        """The line of an account, the first is 0."""
        port = self.ports[number] if number % 2 or self.only_own else "-"
        return f"ws{number:02} 127.0.0.1 path{number:02} {port} {self.peer.port} {PASSWORD}"

    def lines(self, *without):
        """The lines of all accounts but these."""
        return [self.line_of(number) for number in range(len(self.ports)) if number not in without]

    async def sit_down(self, number):
        """Somebody new at an account, by its own port where it has one."""
        way = (self.ports[number], "/websockify") if number % 2 else (self.shared, f"/ws/path{number:02}")
        transport, heard = await self._stack.enter_async_context(client(*way))
        await heard.until(lambda: len(heard.data) >= len(BANNER) or heard.gone.is_set())
        assert heard.data == BANNER, heard.closed
        person = Person(transport, heard)
        self.people.append(person)
        return person

    async def come(self, count):
        """So many new people, one after another, over all accounts."""
        return [await self.sit_down(number % len(self.ports)) for number in range(count)]

    async def leave(self):
        """All people go."""
        self.people.clear()
        await self._stack.aclose()

    async def all_type(self, people=None):
        """How many of these people (None: of all) still have their desktop."""
        return sum(await asyncio.gather(*(person.type() for person in (self.people if people is None else people))))

    async def ask(self, route="/status", body=None):
        """A command over the control socket."""
        return await asyncio.to_thread(control.call, self.control, route, body)

    async def run(self, *args):
        """An operator's command line: exit status, what it said, and its complaint."""
        done = await asyncio.to_thread(self.command, *args)
        return done.returncode, done.stdout, done.stderr

    async def upgrade(self, *args):
        """`vncgate upgrade`, which succeeds; what it said."""
        status, said, complaint = await self.run("upgrade", *args)
        assert status == 0, complaint + self.log
        return said

    async def workers(self, state="serving"):
        """Workers in a state, by process number."""
        return {worker["pid"]: worker for worker in (await self.ask())["workers"] if worker["state"] == state}

    async def until_true(self, condition):
        """Wait until an asynchronous condition is true."""
        deadline = time.monotonic() + PATIENCE
        while not await condition():
            assert time.monotonic() < deadline, f"waited in vain:\n{self.log}"
            await asyncio.sleep(0.05)

    async def until_ended(self, *pids):
        """Wait until these processes are gone, or wait for somebody to reap them."""
        deadline = time.monotonic() + PATIENCE
        while any(map(is_alive, pids)):
            assert time.monotonic() < deadline, f"still there:\n{self.log}"
            await asyncio.sleep(0.02)

    async def again(self):
        """Start another gate in the place of this one that was killed, and wait until it serves."""
        before = len(self.log)
        self.launch()
        await asyncio.to_thread(self.until, lambda: "serving" in self.log[before:])

    def family(self):
        """All processes of this gate that are there: they alone have its control socket in their environment."""
        wanted, found = f"VNCGATE_CONTROL={self.control}".encode(), set()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
        return found


def is_alive(pid):
    """Whether a process runs, or is stopped; a zombie is not alive."""
    return bool(state(pid)) and state(pid) != "Z"


def state(pid):
    """The state of a process as in proc_pid_stat(5), nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def parent(pid):
    """The process number of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.asynccontextmanager
async def live(folder, free_port, *flags, accounts=4, workers=2, settings="", environ=None, only_own=False):
    """A gate that serves; at the end it is told to stop, does so in time, and leaves no process."""
    lines = f"probe = false\nworkers = {workers}\nhandshakes = 10000\n{settings}"
    async with Peer() as peer:
        gate = LiveGate(folder, peer, free_port.many(accounts), lines, *flags, only_own=only_own)
        gate.environ |= environ or {}
        try:
            await asyncio.to_thread(gate.start)
            yield gate
            if is_alive(gate.pid):
                assert await asyncio.to_thread(gate.stop) < 5.0
            await gate.leave()
            await gate.until_true(lambda: _none_of(gate.family()))
            assert "\nTraceback" not in gate.log, gate.log
        finally:
            await gate.leave()
            with contextlib.suppress(ProcessLookupError):
                gate.kill()
            for pid in gate.family():  # what a failed test left
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def _none_of(found):
    return not found
