"""What of sign-up stands in files: the documents to accept, and the event code; read again when they change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vncgate import tasks
from vncgate.errors import SettingsError
from vncgate.signup_form import digest
from vncgate.signup_settings import SignupSettings

log = logging.getLogger(__name__)

AGAIN = 5.0
"""Seconds after which files are looked at again."""
PATIENCE = 5.0
"""Seconds that a disk may take."""
LARGEST = 1_000_000
"""Characters of a document."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document in one language; `text` is Markdown, `digest` its SHA-256 in hex."""

    name: str
    title: str
    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class Read:
    """What the files have in them: documents' texts by path, and the event code (empty: there is none)."""

    texts: Mapping[Path, str]
    code: str


class SignupTexts:
    """They are read as it is made, which blocks; raises SettingsError where one cannot be."""

    def __init__(self, settings: SignupSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._read = read(settings)
        self._looked = clock()

    @property
    def code(self) -> str:
        """The event code; empty: there is none."""
        return self._read.code

    def documents(self, language: str) -> list[Document]:
        """The documents, in the settings' order, in this language or in the one that there is."""
        found = []
        for each in self._settings.documents:
            text = self._read.texts[each.path(language)]
            found.append(Document(each.name, each.title.words(language), text, digest(text)))
        return found

    async def look_again(self) -> None:
        """Take up what was written to the files since. What cannot be read stays as it was, and is logged."""
        if self._clock() - self._looked < AGAIN:
            return
        self._looked = self._clock()
        try:
            async with asyncio.timeout(PATIENCE):
                self._read = await tasks.in_thread(lambda: read(self._settings), "sign-up texts")
        except SettingsError as error:
            log.error("%s; what it was counts on", error)
        except (OSError, TimeoutError):
            log.error("the documents of sign-up cannot be read within %g s; what they were counts on", PATIENCE)


def read(settings: SignupSettings) -> Read:
    """What the files have in them now. It blocks; raises SettingsError with a line for each that cannot be read."""
    texts, problems, code = {}, [], ""
    for document in settings.documents:
        for name in document.file.texts.values():
            try:
                texts[Path(name)] = _text(Path(name))
            except SettingsError as error:
                problems.append(f"signup.documents: {document.name}: {error}")
    if settings.code_file:
        try:
            code = next(iter(_text(settings.code_file).splitlines()), "").strip()
            if not code:
                problems.append(f"signup.code_file: {settings.code_file} has no code in its first line")
        except SettingsError as error:
            problems.append(f"signup.code_file: {error}")
    if problems:
        raise SettingsError("\n".join(problems))
    return Read(texts, code)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8") from None
    if len(text) > LARGEST:
        raise SettingsError(f"{path} has more than {LARGEST} characters")
    return text
