"""Tasks: every one has a name and an owner, and none fails unheard. No other module makes them by hand."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def spawn(
    work: Coroutine[Any, Any, Result], name: str, expected: type[Exception] | tuple[type[Exception], ...] = ()
) -> asyncio.Task[Result]:
    """Start `work` as a task of the running loop, which its caller keeps and ends.

    What it raises is logged as an error, at once and whether or not somebody awaits it, save for what is `expected`:
    that concerns only whoever awaits the task.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(functools.partial(_hear, expected=expected))
    return task


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended, whatever they raise. Cancelled itself, it waits no longer."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _hear(task: asyncio.Task[Any], expected: type[Exception] | tuple[type[Exception], ...]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is not None and not isinstance(error, expected):
        log.error("task %r failed", task.get_name(), exc_info=error)
