"""A daemon in this process, for tests: a token file, free ports, a control socket.

workshop = Workshop(tmp_path, free_port)
workshop.write("ws01 127.0.0.1 path-ws01 - 5901 secret01")
async with workshop.running():
    await workshop.ask("/status")
"""

from __future__ import annotations

import asyncio
import contextlib

from vncgate import control, settings
from vncgate.daemon import Gate


class Workshop:
    """A token file in a folder, and the daemon that serves it while `running()`; without probes, if not asked for."""

    def __init__(self, folder, free_port):
        self.folder = folder
        self.tokens = folder / "workshop.tokens"
        self.control = folder / "control"
        self.web, self.shared = free_port.many(2)
        self.free_port = free_port
        self.gate = None

    def write(self, *lines):
        new = self.tokens.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.chmod(0o600)
        new.rename(self.tokens)

    @contextlib.asynccontextmanager
    async def running(self, environ=None, inherited=None, **flags):
        flags = {
            "web": f"127.0.0.1:{self.web}",
            "shared_port": self.shared,
            "control": self.control,
            "probe": False,
            "workers": 0,
        } | flags
        self.gate = Gate(self.tokens, settings.load(flags=flags), environ or {}, inherited=inherited)
        task = asyncio.ensure_future(self.gate.run())
        try:
            async with asyncio.timeout(20):
                await asyncio.wait(
                    [task, asyncio.ensure_future(self.gate.started.wait())], return_when="FIRST_COMPLETED"
                )
                if task.done():
                    await task
            yield self.gate
        finally:
            self.gate.started.set()
            self.gate.shut_down()
            async with asyncio.timeout(10):
                await asyncio.wait([task])
        task.result()

    async def ask(self, *args):
        return await asyncio.to_thread(control.call, self.control, *args)

    async def hand_over(self, content, trouble=""):
        handed = control.HandedOver("/etc/handed.tokens", content, 0o100644, trouble)
        return await self.ask("/reload", {"tokens": handed.to_json()})

    async def until(self, condition, seconds=10):
        async with asyncio.timeout(seconds):
            while not condition(self.gate.status()):
                await asyncio.sleep(0.02)
