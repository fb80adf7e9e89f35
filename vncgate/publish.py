"""Keeping Apache's snippet true: written whole, tested by Apache itself, and loaded no more often than it must.

A graceful reload pins an old Apache process for as long as a desktop is open in it, and when all slots are pinned
Apache serves nobody. So there is a reload only after a change of the file, at most one in RELOAD_INTERVAL seconds,
and none in the form `single`, whose one line serves every account.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from vncgate import tasks
from vncgate.errors import PublishError
from vncgate.files import replace_file
from vncgate.model import Outcomes, Roster
from vncgate.process import describe_exit, spawn
from vncgate.render.apache import render
from vncgate.settings import Form, Settings

log = logging.getLogger(__name__)

RELOAD_INTERVAL = 60.0
"""Seconds between two reloads at least, and before one that failed is tried again."""
COMMAND_TIMEOUT = 30.0
"""Seconds that Apache's config test and its reload may take each; name look-ups can make them slow."""
MOST_LINES = 50
"""Lines that are kept of what such a command says."""
CLOSE_TIMEOUT = 1.0
"""Seconds that `aclose()` waits for a reload under way."""
PENDING = ".pending"
"""Suffix of an empty file beside the snippet that is there from a change until Apache has loaded it, so that a daemon
which ended in between knows. No Include of *.conf picks it up."""
OLD = ".old"
"""Suffix of the snippet that was, kept beside the new one until Apache's config test has passed: a daemon that was
killed in between would leave a file that nobody tested. It is empty where there was none."""


class ApachePublisher:
    """Writes the snippet that `settings.apache` names, and reloads Apache where that is needed.

    A reload that must wait is made by a task of its own, which tries again until it succeeds; `aclose()` ends it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._apache = settings.apache
        self._clock = clock
        self._sleep = sleep
        self._lock = asyncio.Lock()  # no reload while an untested file is in place
        self._next_reload = clock()
        self._pending = False
        self._reloader: asyncio.Task[None] | None = None
        self._refused = ""
        self._not_reloaded = ""
        self.written = Outcomes()
        """How `publish()` went."""
        self.reloaded = Outcomes()
        """How reloads of Apache went."""

    @property
    def last_error(self) -> str:
        """Why the snippet, or Apache, is not as the roster wants it; empty when all is well."""
        return self._refused or self._not_reloaded

    async def publish(self, roster: Roster) -> None:
        """Make the snippet say what `roster` says, and have Apache load it (at once, or when the next reload is due).

        Raises PublishError when the snippet cannot be written, or Apache's own config test fails with it: the old
        file is back in place then (or none, if there was none), and the message has what Apache said.
        """
        if self._apache.snippet is None:
            return
        async with self._lock:
            try:
                await asyncio.to_thread(_recover, self._apache.snippet)
                text = render(roster, self._settings).encode()
                if self._settings.snippet_form is Form.SINGLE:
                    await self._put_single(self._apache.snippet, text)
                else:
                    await self._put_guide(self._apache.snippet, text)
            except (PublishError, OSError) as error:
                self.written = self.written.then(False)
                self._refused = str(error)
                if isinstance(error, OSError):
                    self._refused = f"{self._apache.snippet}: cannot be written: {error.strerror or error}"
                raise PublishError(self._refused) from None
            self.written = self.written.then(True)
            self._refused = ""

    async def aclose(self) -> None:
        """End the waiting reload, if there is one: the next daemon makes it. One under way may end, for a second."""
        if self._reloader is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT), self._lock:
                    pass
            await tasks.end(self._reloader)
            self._reloader = None
        if self._pending:
            log.warning("Apache has not loaded the last change of %s; the next start does that", self._apache.snippet)

    async def _put_single(self, snippet: Path, text: bytes) -> None:
        if await asyncio.to_thread(replace_file, snippet, text):
            command = shlex.join(self._apache.reload) or "apachectl graceful"
            log.warning("%s is new: reload Apache this once (%s), then never for accounts", snippet, command)

    async def _put_guide(self, snippet: Path, text: bytes) -> None:
        reloads = bool(self._apache.reload)
        marker = snippet.with_name(snippet.name + PENDING)
        old = await asyncio.to_thread(_read, snippet)
        self._pending = self._pending or (reloads and await asyncio.to_thread(marker.exists))
        if old == text and not self._pending:
            return
        replacing = tasks.spawn(
            asyncio.to_thread(_replace, snippet, old, text, marker if reloads else None), "apache snippet", OSError
        )
        try:
            await asyncio.shield(replacing)
            await self._test(f"with the new {snippet}, so the old one stands again")
        except BaseException:
            # Cancelled or refused, the file that Apache does not refuse is the one that must lie there.
            await asyncio.wait([replacing])  # a thread goes on, whoever is cancelled
            await asyncio.to_thread(_put_back, snippet, old, None if self._pending else marker)
            raise
        await asyncio.to_thread(_kept(snippet).unlink, missing_ok=True)
        if old != text:
            log.info("%s was written", snippet)
        if reloads:
            self._pending = True
            if self._reloader is None or self._reloader.done():
                self._reloader = tasks.spawn(self._reload_when_due(marker), "apache reload")

    async def _reload_when_due(self, marker: Path) -> None:
        while self._pending:
            await self._sleep(max(0.0, self._next_reload - self._clock()))
            async with self._lock:
                self._next_reload = self._clock() + RELOAD_INTERVAL
                try:
                    await self._test("so Apache was not reloaded")
                    await _run(self._apache.reload, "Apache could not be reloaded")
                except PublishError as error:
                    self.reloaded = self.reloaded.then(False)
                    self._not_reloaded = str(error)
                    log.error("%s; trying again in %g s", error, RELOAD_INTERVAL)
                else:
                    self.reloaded = self.reloaded.then(True)
                    self._pending, self._not_reloaded = False, ""
                    await asyncio.to_thread(marker.unlink, missing_ok=True)
                    log.info("Apache was reloaded")

    async def _test(self, consequence: str) -> None:
        """Whatever else is wrong in Apache's configuration fails here too: a reload would end Apache for good."""
        if self._apache.configtest:
            await _run(self._apache.configtest, f"Apache's config test failed {consequence}")


async def _run(argv: Sequence[str], failure: str) -> None:
    """Run a command; PublishError, with `failure` and what it said first, where it does not succeed in time."""
    command = shlex.join(argv)
    lines: list[str] = []

    def hear(line: str) -> None:
        if len(lines) < MOST_LINES:
            lines.append(line)

    try:
        process = await spawn(argv, name=argv[0], log=hear)
    except OSError as error:
        raise PublishError(f"{failure}: {error.strerror or error}") from None
    try:
        await asyncio.wait([process.exited], timeout=COMMAND_TIMEOUT)
        ended = process.exited.done()
    finally:
        await process.stop(1.0)
    if not ended:
        lines.append(f"`{command}` did not end within {COMMAND_TIMEOUT:g} s")
    elif status := process.exited.result():
        lines.append(f"`{command}` {describe_exit(status)}")
    else:
        return
    raise PublishError("\n".join([f"{failure}:", *(f"    {line}" for line in lines)]))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _kept(snippet: Path) -> Path:
    return snippet.with_name(snippet.name + OLD)


def _recover(snippet: Path) -> None:
    """Put the file back that a daemon which was killed kept."""
    old = _read(_kept(snippet))
    if old is not None:
        log.warning("%s was not tested when the gate ended, so the one before it is put back first", snippet)
        replace_file(snippet, old)
        _kept(snippet).unlink()


def _replace(snippet: Path, old: bytes | None, new: bytes, marker: Path | None) -> None:
    if old == new:
        return
    if marker is not None:
        marker.touch()
    replace_file(_kept(snippet), old or b"")
    replace_file(snippet, new)


def _put_back(snippet: Path, old: bytes | None, marker: Path | None) -> None:
    if old is None:
        snippet.unlink(missing_ok=True)
    else:
        replace_file(snippet, old)
    _kept(snippet).unlink(missing_ok=True)
    if marker is not None:
        marker.unlink(missing_ok=True)
