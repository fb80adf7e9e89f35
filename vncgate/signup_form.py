"""The sign-up form: what was typed into it, and what is wrong with that. Pure.

The names that fields have in the page's form: `answer.NAME`, `accept.NAME` (its value is the digest of the text that
was shown), `code`, and `key`, a secret of the page that makes sending it twice the same as once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from vncgate.languages import N_
from vncgate.signup_settings import FieldType, SignupField

LONGEST = {FieldType.TEXTAREA: 4000, FieldType.EMAIL: 254}
"""Characters of an answer, by type; `LINE` for all others."""
LINE = 200
"""Characters of an answer of one line."""
TICKED = "yes"
"""What is kept of a checkbox that is ticked."""
KEY = re.compile(r"[A-Za-z0-9_-]{22,64}", re.ASCII)
"""What a form's key looks like: 128 random bits or more."""
_EMAIL = re.compile(r"[^@\s<>()\[\],;:\\\"]+@[^@\s<>()\[\],;:\\\".]+(\.[^@\s<>()\[\],;:\\\".]+)+")
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?", re.ASCII)
_TEL = re.compile(r"\+?[0-9 ()/.-]{3,40}", re.ASCII)

Faults: TypeAlias = dict[str, str]
"""What is wrong, by the name of the field in the form; texts that N_() made."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A form as it was sent: `answers` and `accepted` (the digests) by their names, made fit to be kept."""

    answers: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    key: str = ""


def read(questions: tuple[SignupField, ...], given: Mapping[str, str]) -> Filled:
    """What was sent in the fields of the form; all else is left out. Nothing is judged."""
    answers = {}
    for question in questions:
        text = given.get(f"answer.{question.name}", "")
        if question.type is FieldType.TEXTAREA:
            answers[question.name] = _lines(text)
        elif question.type is FieldType.CHECKBOX:
            answers[question.name] = TICKED if text else ""
        else:
            answers[question.name] = _line(text)
    accepted = {name.removeprefix("accept."): value for name, value in given.items() if name.startswith("accept.")}
    key = given.get("key", "")
    return Filled(answers, accepted, _line(given.get("code", "")), key if KEY.fullmatch(key) else "")


def faults(
    questions: tuple[SignupField, ...], documents: Mapping[str, str], code: str, filled: Filled, language: str
) -> Faults:
    """What is wrong with a form, in the order of its fields; nothing: it is good.

    `documents` are the digests of the texts as they are now, by name; `code` is the event code (empty: there is none).
    `language` is the one of questions' texts in what is said.
    """
    found = {}
    for question in questions:
        if words := next(_wrong(question, filled.answers[question.name], language), ""):
            found[f"answer.{question.name}"] = words
    if code and not hmac.compare_digest(_same(filled.code).encode(), _same(code).encode()):
        found["code"] = (
            N_("This is not the event code. Please look at it again.")
            if filled.code
            else N_("Please enter the event code.")
        )
    for name, digest in documents.items():
        given = filled.accepted.get(name, "")
        if not given:
            found[f"accept.{name}"] = N_("Please read this, and tick the box if you agree.")
        elif given != digest:
            found[f"accept.{name}"] = N_(
                "This text has changed since you opened the page. Please read it again, and tick the box if you agree."
            )
    return found


def is_email(text: str) -> bool:
    """Whether it looks like an e-mail address; only a mail can show whether it is one."""
    return len(text) <= LONGEST[FieldType.EMAIL] and text.isprintable() and _EMAIL.fullmatch(text) is not None


def digest(text: str) -> str:
    """What a document's text is known by: SHA-256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def person_id(key: str) -> str:
    """The id of whoever sends the form with this key. It is no secret, and tells nothing about the key."""
    return hashlib.sha256(f"person {key}".encode()).hexdigest()[:32]


def pin_of(key: str, digits: int) -> str:
    """The PIN of whoever sends the form with this key: as random as the key, and the same each time it is sent."""
    number = int.from_bytes(hashlib.sha256(f"PIN {key}".encode()).digest())
    return f"{number % 10**digits:0{digits}}"


def _wrong(question: SignupField, answer: str, language: str) -> Iterator[str]:
    longest = LONGEST.get(question.type, LINE)
    if not answer:
        if question.required:
            yield _MISSING.get(question.type, N_("Please fill in this field."))
        return
    if len(answer) > longest:
        yield N_("Please write no more than {count} characters.", count=longest)
    if question.type is FieldType.CHOICE and answer not in (option.value for option in question.options):
        yield N_("Please choose one of these.")
    if question.type is FieldType.EMAIL and not is_email(answer):
        yield N_("Please write an e-mail address such as name@example.org.")
    if question.type is FieldType.NUMBER and not _NUMBER.fullmatch(answer):
        yield N_("Please write a number in digits.")
    if question.type is FieldType.TEL and not _TEL.fullmatch(answer):
        yield N_("Please write a telephone number such as +49 221 123456.")
    if question.pattern and not re.fullmatch(question.pattern, answer):
        if help_text := question.help.words(language):
            yield N_("Please write it in the way that is asked for: {help}", help=help_text)
        yield N_("Please write it in the way that is asked for.")


_MISSING = {
    FieldType.CHOICE: N_("Please choose one of these."),
    FieldType.CHECKBOX: N_("Please tick this box, or you cannot sign up."),
}


def _line(text: str) -> str:
    """One line of printable text: what is not printable, line ends among it, is a blank."""
    text = unicodedata.normalize("NFC", text)
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _lines(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    return "\n".join(
        "".join(char if char.isprintable() else " " for char in line) for line in text.splitlines()
    ).strip()


def _same(code: str) -> str:
    """A code as it is compared: blanks, dashes and capitals do not count, as it is read off a screen."""
    return re.sub(r"[\s-]", "", code).casefold()
