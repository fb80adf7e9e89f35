"""Live state for open pages: one sampler looks once a second for all listeners, while there are any.

The stream is that of server-sent events (WHATWG HTML, section 9.2): first `accounts` with the whole list, then
`change` with what differs: `{"changed": [...], "removed": [paths]}`. A listener that reads slowly is not queued
for: it holds the list it saw last, and gets the difference to the newest one when it can take it. So it costs
one message and its connection's own buffer, however long it lags. A listener to one account is told of that alone,
and is not even woken by what happens to others: a class in its waiting rooms costs what changes there. Those who come
together, as when class begins, share one look, and the message of their language.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping

from vncgate.languages import Words
from vncgate.render.cards import Card

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks at the accounts."""
MOMENT = 0.02
"""Seconds that a newcomer waits for others to share its first look with."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that no proxy takes the stream for dead."""

ENGLISH = Words()
Cards = Mapping[str, Card]
ALL = ""
"""In the place of a path: all accounts."""


class Events:
    """What changed, for any number of listeners. `run()` must be under way while there are listeners."""

    def __init__(self, look: Callable[[], Cards]) -> None:
        self._look = look
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._newcomers: set[asyncio.Event] = set()
        self._wanted = asyncio.Event()
        self._come = asyncio.Event()
        self._cards: Cards = {}
        self._before: Cards = {}  # the list before this one
        # By language, as far as somebody asked: the message that has all of the list, and that from the one before.
        self._wholes: dict[str, bytes] = {}
        self._steps: dict[str, bytes] = {}
        self._closed = False

    async def run(self) -> None:
        """Sample until cancelled; sleep while nobody listens."""
        while True:
            await self._wanted.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._come.wait()
                await asyncio.sleep(MOMENT)
            try:
                self._sample()
            except Exception as error:  # a defect must not leave every open page with what it shows now
                log.error("a defect: the accounts could not be looked at", exc_info=error)

    async def close(self) -> None:
        """End all streams, now and from now on."""
        self._closed = True
        for news in set().union(*self._listeners.values()):
            news.set()

    async def listen(self, path: str = ALL, words: Words = ENGLISH) -> AsyncGenerator[bytes]:
        """The messages of one listener, with a heartbeat where nothing happens, in its language; ends at `close()`.

        They are about all accounts, or about the one of `path`, whether it is there or not.
        """
        news = asyncio.Event()
        try:
            await self._first_look(path, news)
            seen = self._of(path)
            yield self._all(seen, words)
            while await self._wait(news):
                if (now := self._of(path)) == seen:
                    yield b": still here\n\n"
                else:
                    text, seen = self._since(seen, now, words), now
                    yield text
        finally:
            self._leave(path, news)

    async def _first_look(self, path: str, news: asyncio.Event) -> None:
        """Wait for a look that begins after now."""
        self._listeners[path].add(news)
        self._newcomers.add(news)
        self._wanted.set()
        self._come.set()
        if not self._closed:
            await news.wait()
        if not self._closed:
            news.clear()

    def _leave(self, path: str, news: asyncio.Event) -> None:
        self._newcomers.discard(news)
        self._listeners[path].discard(news)
        if not self._listeners[path]:
            del self._listeners[path]
        if not self._listeners:
            self._wanted.clear()

    async def _wait(self, news: asyncio.Event) -> bool:
        """Wait for news, or for the time of a heartbeat. False: no more to come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT):
                await news.wait()
        if not self._closed:
            news.clear()
        return not self._closed

    def _of(self, path: str) -> Cards:
        if path == ALL:
            return self._cards
        return {path: self._cards[path]} if path in self._cards else {}

    def _sample(self) -> None:
        self._come.clear()
        before, now = self._cards, self._look()
        if now != before:
            self._before, self._cards = before, now
            self._wholes, self._steps = {}, {}
            for path in self._listeners.keys() & {ALL, *_differing(before, now)}:
                for news in self._listeners[path]:
                    news.set()
        for news in self._newcomers:
            news.set()
        self._newcomers.clear()

    def _all(self, seen: Cards, words: Words) -> bytes:
        if seen is not self._cards:
            return whole(seen, words)
        if words.code not in self._wholes:
            self._wholes[words.code] = whole(seen, words)
        return self._wholes[words.code]

    def _since(self, seen: Cards, now: Cards, words: Words) -> bytes:
        if seen is not self._before or now is not self._cards:
            return difference(seen, now, words)
        if words.code not in self._steps:
            self._steps[words.code] = difference(seen, now, words)
        return self._steps[words.code]


def _differing(before: Cards, after: Cards) -> list[str]:
    """The paths of what is not the same; what is gone is among them."""
    return [path for path in {**before, **after} if before.get(path) != after.get(path)]


def whole(cards: Cards, words: Words = ENGLISH) -> bytes:
    """The `accounts` message."""
    return message("accounts", [card.public(words) for card in cards.values()])


def difference(before: Cards, after: Cards, words: Words = ENGLISH) -> bytes:
    """The `change` message that makes `after` of `before`."""
    changed = [card.public(words) for path, card in after.items() if before.get(path) != card]
    return message("change", {"changed": changed, "removed": [path for path in before if path not in after]})


def message(event: str, value: object) -> bytes:
    """One server-sent event. JSON has no raw newline in it, so one `data:` line carries it."""
    return f"event: {event}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
