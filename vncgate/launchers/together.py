"""One question for all who want to know the same within a moment: a class of desktops is looked at in one go.

A host must be told which desktops are meant: of one whose folder is on a share that is away, only the name is left to
look for. And its answer is for now. A Survey (survey.py) asks a place that lists all desktops by itself, and that must
not be asked too often, so its answer may be some seconds old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from vncgate import tasks
from vncgate.errors import LaunchError

MOMENT = 0.02
"""Seconds within which all questions become one."""


class Together:
    """Asks `ask(names)` for what is known of desktops, by name. It raises LaunchError, which all who asked are told."""

    def __init__(self, ask: Callable[[Collection[str]], Awaitable[Mapping[str, str]]], title: str) -> None:
        self._ask = ask
        self._title = title
        self._names: set[str] = set()
        self._next: asyncio.Task[Mapping[str, str]] | None = None  # the question that can still be joined
        self._questions: set[asyncio.Task[Mapping[str, str]]] = set()

    async def look(self, name: str) -> Mapping[str, str]:
        """The answer to a question for `name` and whatever else is asked within a moment. It is never an old one."""
        self._names.add(name)
        if self._next is None:
            self._next = tasks.spawn(self._question(), f"look at {self._title}", expected=LaunchError)
            self._questions.add(self._next)
            self._next.add_done_callback(self._questions.discard)
        return await asyncio.shield(self._next)

    async def _question(self) -> Mapping[str, str]:
        await asyncio.sleep(MOMENT)
        names, self._names, self._next = sorted(self._names), set(), None
        return await self._ask(names)

    async def aclose(self) -> None:
        """Ask no more."""
        await tasks.end(*self._questions)
