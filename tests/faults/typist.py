"""Somebody who types all the while that a fault goes on: keys up, echoes down, one after the other."""

from __future__ import annotations

import asyncio
import contextlib

import picows

from tests.engines.desktop import BANNER, client


class Typist:
    """`echoes` counts the keys that came back; `heard.closed` says why it ended, if it did."""

    def __init__(self, transport, heard):
        self.transport = transport
        self.heard = heard
        self.echoes = 0

    async def type(self):
        """One key, and its echo."""
        self.transport.send(picows.WSMsgType.BINARY, b"k")
        self.echoes += 1
        await self.heard.until(
            lambda: self.heard.closed or len(self.heard.data) == len(BANNER) + self.echoes, seconds=20
        )
        assert self.heard.closed is None

    async def go_on(self):
        """Type until cancelled."""
        while True:
            await self.type()
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def typing(port, path="/websockify"):
    """A typist at work while the context lasts, whose session must be whole at the end."""
    async with client(port, path) as (transport, heard):
        await heard.until(lambda: heard.data)
        typist = Typist(transport, heard)
        work = asyncio.ensure_future(typist.go_on())
        try:
            yield typist
        finally:
            work.cancel()
            await asyncio.wait([work])
        if not work.cancelled():
            work.result()
        assert heard.closed is None
        assert bytes(heard.data) in (BANNER + b"k" * typist.echoes, BANNER + b"k" * (typist.echoes - 1))
