"""Tasks: every one has a name and an owner, and none fails unheard. No other module makes them by hand.

And threads for what may hang for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import threading
from collections.abc import Callable, Coroutine
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


def in_thread(work: Callable[[], Result], name: str) -> asyncio.Future[Result]:
    """Do `work` in a thread of its own; who waits for it sets a limit. Awaited, it raises OSError where no thread is to
    be had. Who cancels it waits no longer, and does not end the thread.

    Not in the loop's pool of threads, as asyncio.to_thread() does: what hangs, as a share or a named pipe may, would
    hold one of its few for ever, and the end of the process too.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return  # nobody waits any more
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # it is what `work` returned

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001  (it is raised where the future is awaited)
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:
        settle(None, OSError(errno.EAGAIN, "no thread can be started; may the gate have more (TasksMax=, ulimit -u)?"))
    return future


def _hear(task: asyncio.Task[Any], expected: type[Exception] | tuple[type[Exception], ...]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is not None and not isinstance(error, expected):
        log.error("task %r failed", task.get_name(), exc_info=error)
