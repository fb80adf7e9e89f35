"""Whether there is news on disk, code or settings, and whether it can take over.

It is tried out by being started beside the daemon that runs, up to the point of serving.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vncgate import handover
from vncgate.errors import ControlError
from vncgate.process import Process, describe_exit, inherited, spawn

if TYPE_CHECKING:
    from vncgate.control import HandedOver

log = logging.getLogger(__name__)

TRIAL = "VNCGATE_TRIAL"
"""The environment's variable that makes `vncgate run` end, with status 0, where it would begin to serve."""
TRIAL_TIMEOUT = 45.0
"""Seconds that the trial may take."""
STOP_GRACE = 2.0
"""Seconds that a trial which takes longer has to end."""
MOST_LINES = 20
"""Lines of what it said that an operator is shown."""


def fingerprint() -> int:
    """What changes with the code on disk: our package's files, what is installed beside it, and Python itself."""
    package = Path(__file__).parent
    seen = []
    for file in sorted([*package.rglob("*.*"), package.parent, Path(sys.executable)]):
        with contextlib.suppress(OSError):  # it was removed meanwhile, which is a change as well
            status = file.stat()
            if "__pycache__" not in file.parts:
                seen.append((str(file), status.st_mtime_ns, status.st_size))
    return hash(tuple(seen))


def command() -> list[str]:
    """What started this process, as it would be started now."""
    return [sys.executable, *sys.orig_argv[1:]]


async def try_out(state: handover.State, environ: Mapping[str, str]) -> None:
    """Start the code on disk as it will be started with `state`.

    Raises ControlError, with what it said, when it fails.
    """
    said: collections.deque[str] = collections.deque(maxlen=MOST_LINES)
    file = handover.state_file(state)
    try:
        process = await spawn(
            command(),
            name="the trial of an upgrade",
            log=said.append,
            stdin=file,
            env={**inherited(environ), handover.VARIABLE: "0", TRIAL: "1"},
        )
    except OSError as error:
        raise ControlError(f"the code on disk cannot be started: {error}") from None
    finally:
        os.close(file)
    why = await _ended(process)
    if why:
        why = f"what is on disk cannot take over, so nothing changes: its trial {why}"
        lines = list(said)
        for line in (why, *lines):
            log.error("%s", line)
        if any(line.startswith('  File "') for line in lines):  # a traceback, of which the log is the place
            lines = lines[-1:]
        raise ControlError("\n".join([why, *lines]))


async def _ended(process: Process) -> str:
    """How it failed, in words, or nothing."""
    try:
        await asyncio.wait([process.exited], timeout=TRIAL_TIMEOUT)
        if not process.exited.done():
            return f"was not ready within {TRIAL_TIMEOUT:g} s"
        status = process.exited.result()
        return describe_exit(status) if status else ""
    finally:
        await process.stop(STOP_GRACE)


class News:
    """What differs from what runs, and what became of it when it was to be taken up."""

    def __init__(self, config: bytes) -> None:
        """`config` is the content of the settings' file that runs."""
        self.error = ""
        """Why the news that there are were not taken up; empty where there are none."""
        self._config = config
        self._code = fingerprint()
        self._refused: tuple[bytes | None, bytes | None, int] | None = None

    async def take_up(
        self,
        tokens: HandedOver | None,
        config: HandedOver,
        start: Callable[[HandedOver | None, HandedOver], Awaitable[dict[str, Any]]] | None,
    ) -> dict[str, Any] | None:
        """`start` anew where settings or code are new, and return its answer; else, or where that fails, None.

        The token file is tried with them, as it may need them: new kinds of desktops, and accounts that have them. What
        failed once is not tried again before one of all these changes; a file that only the trial reads may have.
        `start` is None where this daemon cannot.
        """
        code = await asyncio.to_thread(fingerprint)
        news = f"settings ({config.name})" if config.content != self._config else ""
        news = news or ("code on disk" if code != self._code else "")
        seen = (tokens.content, config.content, code) if tokens else None
        if not news:
            self.error = ""
        elif start is None:
            self.error = f"there are new {news}, which only a restart takes up (this gate has no workers)"
        elif seen is None or seen != self._refused:
            try:
                return {**await start(tokens, config), "changes": f"new {news}: starting anew"}
            except ControlError as error:
                self._refused, self.error = seen, str(error)
        return None
