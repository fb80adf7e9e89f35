"""A place that is asked for all of its desktops at once: one question for whoever wants to know, and not too often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from vncgate import tasks
from vncgate.errors import LaunchError

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Answer(Generic[Found]):
    """What came of the question `number`, at `when` by the loop's clock: `found`, or why nothing was."""

    number: int
    when: float
    found: Found | None
    trouble: LaunchError | None = None

    def known(self) -> Found:
        """What was found. Raises LaunchError where nothing was said."""
        if self.trouble is not None:
            raise self.trouble.with_traceback(None)
        assert self.found is not None  # noqa: S101
        return self.found


class Survey(Generic[Found]):
    """Asks for all: once for all who want to know, and no more often than every `interval` seconds.

    What `ask` raises as LaunchError is an answer too.
    """

    def __init__(self, ask: Callable[[], Awaitable[Found]], interval: float, title: str) -> None:
        self._ask = ask
        self._interval = interval
        self._title = title
        self._answer: Answer[Found] | None = None
        self._asking: asyncio.Task[Answer[Found]] | None = None
        self.asked = 0
        """Questions that were asked: only later ones can know what is done now."""

    async def look(self, after: int = 0) -> Answer[Found]:
        """The answer to a question later than number `after`; it may be `interval` seconds old."""
        answer = self._answer
        is_fresh = answer is not None and asyncio.get_running_loop().time() < answer.when + self._interval
        while answer is None or not is_fresh or answer.number <= after:
            if self._asking is None or self._asking.done():
                self._asking = tasks.spawn(self._question(), f"ask {self._title}")
            answer = await asyncio.shield(self._asking)
            is_fresh = True
        return answer

    async def _question(self) -> Answer[Found]:
        loop = asyncio.get_running_loop()
        if self._answer is not None:
            await asyncio.sleep(self._answer.when + self._interval - loop.time())
        self.asked += 1
        try:
            found = await self._ask()
        except LaunchError as error:
            self._answer = Answer(self.asked, loop.time(), None, error)
        else:
            self._answer = Answer(self.asked, loop.time(), found)
        return self._answer

    async def aclose(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            await tasks.end(self._asking)
