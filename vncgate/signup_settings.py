"""Sign-up and mail: the sections `[signup]`, `[[signup.fields]]`, `[[signup.documents]]` and `[mail]`. Values only."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, field_validator, model_validator

from vncgate.kinds import File, Flag, Section, like

ANY = ""
"""The language of a text that is for all."""
_CODE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True)
class PerLanguage:
    """One text in several languages, by their codes."""

    texts: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.texts.values())

    def __str__(self) -> str:
        return self.words("en")

    def words(self, language: str) -> str:
        """The text in `language` or, where there is none, the one for all, in English, or the first that there is."""
        for code in (language, ANY, "en", *self.texts):
            if code in self.texts:
                return self.texts[code]
        return ""


def _per_language(value: object) -> PerLanguage:
    match value:
        case PerLanguage():
            return value
        case str():
            return PerLanguage({ANY: value} if value else {})
        case dict() if all(isinstance(text, str) and _CODE.fullmatch(code) for code, text in value.items()):
            return PerLanguage(value)
    raise ValueError('write a text, or one for each language, as { en = "Name", de = "Name" }')


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return value


def _option(value: object) -> object:
    return {"value": value, "label": value} if isinstance(value, str) else value


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _aware(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise ValueError("write it with its time zone, as 2026-03-06T18:00:00+01:00")
    return value


def _sender(value: str) -> str:
    if value and (not value.isprintable() or "@" not in parseaddr(value)[1]):
        raise ValueError('write it as workshop@example.org or "The Workshop <workshop@example.org>"')
    return value


_Decimal = BeforeValidator(_number)  # as variables have it
Texts = Annotated[PerLanguage, PlainValidator(_per_language)]
Pattern = Annotated[str, AfterValidator(_compiles)]
FieldName = Annotated[str, like(r"[a-z][a-z0-9_]{0,39}", "email or shoe_size: small letters, digits, '_'")]
Moment = Annotated[datetime | None, AfterValidator(_aware)]


class FieldType(enum.StrEnum):
    """What is typed into a field, or chosen."""

    TEXT = "text"
    EMAIL = "email"
    TEL = "tel"
    NUMBER = "number"
    TEXTAREA = "textarea"
    CHOICE = "choice"
    CHECKBOX = "checkbox"


class Option(Section):
    """One of the answers among which a field of type `choice` lets choose."""

    value: Annotated[str, Field(min_length=1, max_length=200)]
    """What is kept."""
    label: Texts
    """What is read."""


class SignupField(Section):
    """One question of the sign-up form. Those named `name` and `email` tell who it is, and where mails go."""

    name: FieldName
    """What the answer is called in exports: small letters, digits, `_`."""
    label: Annotated[Texts, Field(validate_default=False)]
    """What stands beside the field: a text, or one for each language (`label.en`, `label.de`)."""
    type: FieldType = FieldType.TEXT
    """`text`, `email`, `tel`, `number`, `textarea` (several lines), `choice` or `checkbox`."""
    required: Flag = False
    """Whether nobody signs up without an answer; a checkbox must be ticked."""
    pattern: Pattern = ""
    """Regular expression (Python's) that the whole answer must match."""
    help: Texts = PerLanguage()
    """What is read below the label, and again where an answer does not match the pattern."""
    options: tuple[Annotated[Option, BeforeValidator(_option)], ...] = ()
    """What can be chosen (type `choice`): texts, or tables as `{ value = "ce", label.en = "Chemistry" }`."""

    @model_validator(mode="after")
    def _consistent(self) -> SignupField:
        if not self.label:
            raise ValueError("label: is empty")
        if (self.type is FieldType.CHOICE) != bool(self.options):
            raise ValueError("type choice, and no other, needs options to choose among")
        if self.pattern and self.type in (FieldType.CHOICE, FieldType.CHECKBOX):
            raise ValueError(f"pattern: is for what is typed, not for type {self.type}")
        if twice := _twice(option.value for option in self.options):
            raise ValueError(f"options: {twice!r} is there twice")
        if self.name == "email" and self.type is not FieldType.EMAIL:
            raise ValueError('type: the field named email is where mails go: write type = "email"')
        return self


class SignupDocument(Section):
    """A text that is accepted on its own by everybody who signs up: terms of use, privacy, a licence."""

    name: FieldName
    """What it is called in the record: small letters, digits, `_`."""
    title: Texts
    """What it is called on the pages: a text, or one for each language."""
    file: Annotated[PerLanguage, PlainValidator(_per_language)]
    """File of the text, in Markdown: a path, or one for each language (`file.en`, `file.de`)."""

    @field_validator("title", "file")
    @classmethod
    def _there(cls, value: PerLanguage) -> PerLanguage:
        if not value:
            raise ValueError("is empty")
        return value

    def path(self, language: str) -> Path:
        """The file in a language."""
        return Path(self.file.words(language))


class SignupSettings(Section):
    """The form by which people get a seat by themselves (access `seat`)."""

    enabled: Flag = False
    """Whether there is a form at all."""
    fields: tuple[SignupField, ...] = ()
    """The questions, in their order. Empty: name and e-mail address, both required."""
    documents: tuple[SignupDocument, ...] = ()
    """The texts to accept."""
    code_file: File = None
    """File whose first line is the event code, which whoever signs up has to know. None: there is none."""
    opens: Moment = None
    """When the form opens, as 2026-03-01T09:00:00+01:00. None: it is open."""
    closes: Moment = None
    """When it closes. None: it does not."""
    capacity: Annotated[Annotated[int, Field(ge=1, le=100000, strict=True)] | None, _Decimal] = None
    """How many people get a seat. None: as many as there are accounts that are no spares."""
    waiting: Flag = True
    """Whether those who come when all seats are taken wait for one; who has waited longest gets the next."""
    information: Texts = PerLanguage()
    """What people with a seat read beside their account, in Markdown: how to get in, where, when. A text, or one for
    each language (`information.en`, `information.de`)."""
    privacy: Texts = PerLanguage()
    """What the page about personal data says first, in Markdown: who is responsible, whom to ask, for how long data is
    kept. A text, or one for each language."""

    @model_validator(mode="after")
    def _consistent(self) -> SignupSettings:
        if twice := _twice(each.name for each in self.fields):
            raise ValueError(f"fields: there are two of the name {twice}")
        if twice := _twice(each.name for each in self.documents):
            raise ValueError(f"documents: there are two of the name {twice}")
        if self.opens and self.closes and self.closes <= self.opens:
            raise ValueError("closes: is not after opens")
        return self

    @property
    def questions(self) -> tuple[SignupField, ...]:
        """The fields of the form."""
        return self.fields or USUAL


class MailSettings(Section):
    """Where mails to those who sign up are sent from. Without `host` none are sent."""

    host: str = ""
    """Mail server (SMTP) that takes the mails. Empty: none are sent."""
    port: Annotated[Annotated[int, Field(ge=1, le=65535, strict=True)] | None, _Decimal] = None
    """Its port. None: 587, with security `tls` 465, with `none` 25."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls`: TLS is begun on the connection, and nothing is sent without. `tls`: from its first byte on. `none`:
    for a server on this host."""
    ca_file: File = None
    """Certificates that the server's is checked against. None: those that this machine trusts."""
    user: str = ""
    """Who logs in to it. Empty: nobody does."""
    password_file: File = None
    """File whose first line is the password."""
    sender: Annotated[str, AfterValidator(_sender)] = ""
    """Address that mails come from, as workshop@example.org or "The Workshop <workshop@example.org>"."""

    @property
    def at(self) -> int:
        """The port that is really used."""
        return self.port or {"starttls": 587, "tls": 465, "none": 25}[self.security]


def _twice(names: Iterable[str]) -> str:
    return next((name for name, count in Counter(names).items() if count > 1), "")


def _usual(**values: Any) -> SignupField:
    return SignupField.model_validate({"required": True, **values})


USUAL = (
    _usual(name="name", label={"en": "Name", "de": "Name"}),
    _usual(name="email", type="email", label={"en": "E-mail address", "de": "E-Mail-Adresse"}),
)
"""The fields of a form for which none are written."""
