"""All that is published of a roster: Apache's snippet, and the static copy of the pages. What fails is tried again."""

from __future__ import annotations

import asyncio
import logging

from vncgate.errors import PublishError, SettingsError
from vncgate.model import Outcomes, Roster
from vncgate.publish import ApachePublisher
from vncgate.settings import Settings
from vncgate.web import export

log = logging.getLogger(__name__)

INTERVAL = 60.0
"""Seconds after which what could not be published is tried again."""


class Publications:
    """Whatever of the two the settings ask for. What is published stands until something better can take its place."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._apache = ApachePublisher(settings) if settings.apache.snippet else None
        self._pages_written = Outcomes()
        self._roster = Roster()
        self._is_due = False
        self.pages_error = ""
        """Why the static pages could not be written; empty when they could."""

    @property
    def apache_error(self) -> str:
        """What is wrong with Apache's snippet, or with Apache."""
        return self._apache.last_error if self._apache else ""

    def outcomes(self) -> dict[str, Outcomes]:
        """How often what was published."""
        found = {"pages": self._pages_written} if self._settings.landing.export else {}
        if self._apache is not None:
            found |= {"apache snippet": self._apache.written, "apache reload": self._apache.reloaded}
        return found

    async def publish(self, roster: Roster) -> None:
        """Apache's snippet and the static pages. What fails is in the log, and is told by the errors."""
        self._roster = roster
        wrong, failed = "", False
        try:
            if self._apache is not None:
                await self._apache.publish(roster)
        except PublishError as error:
            log.error("%s", error)
            failed = True
        try:
            if folder := self._settings.landing.export:
                await asyncio.to_thread(export.export, folder, self._settings, roster)
        except (PublishError, SettingsError) as error:
            wrong = str(error)
            log.error("%s", error)
        self.pages_error = wrong
        self._pages_written = self._pages_written.then(not wrong)
        self._is_due = failed or bool(wrong)

    async def keep_trying(self, lock: asyncio.Lock) -> None:
        """Try again what could not be published: a disk has room again, an administrator mended Apache's files.

        `lock` keeps off whoever else publishes.
        """
        while True:
            await asyncio.sleep(INTERVAL)
            async with lock:
                if self._is_due:
                    await self.publish(self._roster)

    async def aclose(self) -> None:
        """Wait a moment for a reload of Apache under way."""
        if self._apache is not None:
            await self._apache.aclose()
