"""The token file that the gate serves: which one it is, what is wrong with it, and that the last good roster stays."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vncgate.checks import NO_KINDS, NO_SUCH_KIND, check_roster
from vncgate.control import HandedOver
from vncgate.errors import TokensError
from vncgate.handover import State
from vncgate.model import Problem, Roster, Severity
from vncgate.rekeying import rekey
from vncgate.roster import parse_tokens, read_tokens
from vncgate.settings import Settings
from vncgate.tokens import Parsed, parse

log = logging.getLogger(__name__)

STAYS = "; the last good roster stays"
NEW_KINDS = " (kinds that are new come in with the settings: `systemctl reload vncgate`, or `vncgate upgrade`)"
MOST_LINES = 50
"""Problems of a token file that are logged at once."""


class TokenFile:
    """The file on disk, or the one that a command handed over in its place."""

    def __init__(self, path: Path, settings: Settings, environ: Mapping[str, str], left: State) -> None:
        """`left` is what the gate before this one left: a file that was handed over to it, and its last good roster."""
        self.source = str(path)
        """What problems are named by."""
        self.problems: tuple[Problem, ...] = ()
        """All that is wrong with it, as it was read last."""
        self.trouble = ""
        """Why it was not taken, when it was read last; empty when it was."""
        # systemd.exec(5), LoadCredential=: copied when the service starts, and never again.
        credentials = environ.get("CREDENTIALS_DIRECTORY")
        self.is_credential = credentials is not None and path.is_relative_to(credentials)
        self._path = path
        self._settings = settings
        self._before = left.roster
        self._handed = HandedOver.from_json(left.tokens) if left.tokens else None
        self._served: Roster | None = None

    async def first(self) -> Roster:
        """The roster to begin with; of a file that broke while the gate started anew, the last good one."""
        try:
            return await self.load()
        except TokensError:
            if not self._before:
                raise
            self._log(self.problems)
            self.trouble += STAYS
            log.error("%s", self.trouble)
            return (await asyncio.to_thread(parse_tokens, self._before.encode(), 0o600)).roster

    async def reload(self, handed: HandedOver | None, *, lacks_settings: bool = False) -> Roster:
        """The roster of `handed`, which from now on is the file; without one, of the file on disk.

        With `lacks_settings` there are newer settings than ours, which could not be taken: an account that needs a kind
        of desktop, where ours have none, is an error then. Raises TokensError as `load()` does, and all stays as it is.
        """
        before, self._handed = self._handed, self.which(handed)
        try:
            return await self.load(lacks_settings=lacks_settings)
        except BaseException:
            self._handed = before
            raise

    def which(self, handed: HandedOver | None) -> HandedOver | None:
        """The file that counts in the place of the one on disk, now that a command hands over `handed`."""
        return handed or (self._handed if self.is_credential else None)

    async def load(self, *, lacks_settings: bool = False) -> Roster:
        """The roster as the file has it. Raises TokensError with all problems. See `reload()`."""
        handed = self._handed
        self.source = handed.name if handed else str(self._path)
        return await self._judged(_parse(handed) if handed else read_tokens(self._path), lacks_settings)

    async def rekey(self) -> str:
        """Give the desktops that the gate starts new passwords; tells what was done, or what command does it. Its owner
        hears of the change as of any other.
        """
        command = "vncgate tokens rekey TOKENS" if self.is_credential else f"vncgate tokens rekey {self._path}"
        if self.is_credential or not os.access(self._path.parent, os.W_OK):
            return f"new VNC passwords are yours to write, as the gate may not: {command}"
        try:
            done = await asyncio.to_thread(rekey, self._path)
        except TokensError as error:
            return f"{error}; then give the desktops new VNC passwords: {command}"
        return f"new VNC passwords: {done.given} in the token file, {done.others} left to VNC servers of their own"

    def serves(self, roster: Roster) -> None:
        """Told when a roster is made true."""
        self._served = roster

    async def _judged(self, reading: Coroutine[Any, Any, Parsed], lacks_settings: bool) -> Roster:
        before, self.problems = frozenset(self.problems), ()
        trouble = self.trouble
        try:
            parsed = await reading
        except TokensError as error:
            raise self._not_taken(str(error)) from None
        misfits = check_roster(parsed.roster, self._settings)
        if lacks_settings:
            misfits = tuple(replace(it, severity=Severity.ERROR) if it.message == NO_KINDS else it for it in misfits)
        self.problems = tuple(sorted((*parsed.problems, *misfits)))
        errors = sum(problem.severity is Severity.ERROR for problem in self.problems)
        if self._served is not None or not errors:  # else they are what the daemon ends with
            self._log([problem for problem in self.problems if problem not in before])
        if errors:
            raise self._not_taken(f"{self.source} has {errors} error{'s' if errors > 1 else ''}")
        if not parsed.roster and (self._served or parse(self._before.encode()).roster):
            # An editor's or a script's accident far sooner than the wish to throw everybody out.
            raise self._not_taken(f"{self.source} has no accounts (`vncgate stop` stops them)")
        if trouble:
            log.info("%s is good again", self.source)
        self.trouble = ""
        return parsed.roster

    def _log(self, problems: Sequence[Problem]) -> None:
        for problem in problems[:MOST_LINES]:
            level = logging.ERROR if problem.severity is Severity.ERROR else logging.WARNING
            log.log(level, "%s: %s", problem.place(self.source), problem.message)
        if len(problems) > MOST_LINES:
            log.warning("and %d more; `vncgate check` lists them all", len(problems) - MOST_LINES)

    def _not_taken(self, trouble: str) -> TokensError:
        if self._served is not None:
            trouble += STAYS
            if any(NO_SUCH_KIND in problem.message for problem in self.problems):
                trouble += NEW_KINDS
            log.error("%s", trouble)
        self.trouble = trouble
        return TokensError("\n".join([*(problem.render(self.source) for problem in self.problems), self.trouble]))


async def _parse(handed: HandedOver) -> Parsed:
    if handed.content is None:
        raise TokensError(handed.trouble)
    return await asyncio.to_thread(parse_tokens, handed.content, handed.mode)
