"""Live state for open landing pages: one sampler looks once a second for all listeners, while there are any.

The stream is that of server-sent events (WHATWG HTML, section 9.2): first `accounts` with the whole list, then
`change` with what differs: `{"changed": [...], "removed": [paths]}`. A listener that reads slowly is not queued
for: it holds the list it saw last, and gets the difference to the newest one when it can take it. So it costs
one message and its connection's own buffer, however long it lags. A listener to one account is told of that alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping

from vncgate.render.cards import Card

INTERVAL = 1.0
"""Seconds between two looks at the accounts."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that no proxy takes the stream for dead."""

Cards = Mapping[str, Card]


class Events:
    """What changed, for any number of listeners. `run()` must be under way while there are listeners."""

    def __init__(self, look: Callable[[], Cards]) -> None:
        self._look = look
        self._listeners = 0
        self._wanted = asyncio.Event()
        self._changed = asyncio.Condition()
        self._cards: Cards = {}
        self._step: tuple[Cards, bytes] = ({}, b"")  # the list before this one, and the message from it to this one
        self._closed = False

    async def run(self) -> None:
        """Sample until cancelled; sleep while nobody listens."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(INTERVAL)
            await self._sample()

    async def close(self) -> None:
        """End all streams, now and from now on."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    async def listen(self, path: str = "") -> AsyncGenerator[bytes]:
        """The messages of one listener, a heartbeat among them where nothing happens; ends at `close()`.

        They are about all accounts, or about the one of `path`, whether it is there or not.
        """
        self._listeners += 1
        self._wanted.set()
        try:
            await self._sample()
            seen = self._of(path)
            yield message("accounts", [card.public for card in seen.values()])
            while await self._news(path, seen):
                if (now := self._of(path)) == seen:
                    yield b": still here\n\n"
                else:
                    text, seen = self._since(seen, now), now
                    yield text
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._wanted.clear()

    async def _news(self, path: str, seen: Cards) -> bool:
        """Wait for a list other than `seen`, or for the time of a heartbeat. False: no more to come."""
        try:
            async with asyncio.timeout(HEARTBEAT), self._changed:
                await self._changed.wait_for(lambda: self._closed or self._of(path) != seen)
        except TimeoutError:
            pass
        return not self._closed

    def _of(self, path: str) -> Cards:
        if not path:
            return self._cards
        return {path: self._cards[path]} if path in self._cards else {}

    async def _sample(self) -> None:
        now = self._look()
        if now != self._cards:
            self._step = (self._cards, difference(self._cards, now))
            self._cards = now
            async with self._changed:
                self._changed.notify_all()

    def _since(self, seen: Cards, now: Cards) -> bytes:
        before, text = self._step
        return text if before is seen and now is self._cards else difference(seen, now)


def difference(before: Cards, after: Cards) -> bytes:
    """The `change` message that makes `after` of `before`."""
    changed = [card.public for path, card in after.items() if before.get(path) != card]
    return message("change", {"changed": changed, "removed": [path for path in before if path not in after]})


def message(event: str, value: object) -> bytes:
    """One server-sent event. JSON has no raw newline in it, so one `data:` line carries it."""
    return f"event: {event}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
