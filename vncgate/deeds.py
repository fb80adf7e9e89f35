"""The tasks of one desktop: one deed at a time, the outcome of which somebody waits for, and one thing beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from vncgate import tasks

Outcome = TypeVar("Outcome")


class Deeds(Generic[Outcome]):
    """Begun here, ended by `aclose()`."""

    def __init__(self) -> None:
        self._deed: asyncio.Task[None] | None = None
        self._aside: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def do(
        self,
        deed: Callable[[], Coroutine[Any, Any, Outcome]],
        name: str,
        then: Callable[[Outcome | Exception], None],
    ) -> None:
        """Run `deed`, and `then` with its outcome, or with the defect that broke it.

        Where another deed takes its place, nobody is interested in the outcome any more.
        """

        async def run() -> None:
            outcome: Outcome | Exception
            try:
                outcome = await deed()
            except Exception as error:
                if self._deed is not asyncio.current_task():
                    raise
                outcome = error
            if self._deed is asyncio.current_task():
                self._deed = None
                then(outcome)

        self._deed = self._spawn(run(), name)

    def do_aside(self, deed: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run `deed` beside, unless something runs there already."""
        if self._aside is None or self._aside.done():
            self._aside = self._spawn(deed(), name)

    @property
    def under_way(self) -> asyncio.Task[None] | None:
        """The task of the deed that runs now."""
        return self._deed

    async def end_aside(self) -> None:
        """Let nothing run beside."""
        if self._aside is not None:
            await tasks.end(self._aside)

    async def aclose(self) -> None:
        """End all that runs."""
        await tasks.end(*self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = tasks.spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
