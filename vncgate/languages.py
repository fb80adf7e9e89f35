"""The languages that people read: which one a request is answered in, and the texts in it.

Texts are written in English where they are used, which is also how catalogues (`locale/de.po`) name them:

    templates    {{ _("Sign in") }}, {{ _("%(count)s of %(all)s", count=1, all=2) }}, {% trans %}Sign in{% endtrans %}
    Python       N_("nobody used it for {span}", span="5 min") where it is made, words.of(text) where it is shown
    JavaScript   say("Connected"), say("Trying again in {seconds} s", { seconds }), sayMany(count, "one", "many")

`make words` brings the catalogues up to date with the code; the German is then written into them by hand.
A text is a whole sentence, or all of a label, never a piece that is glued to others: their order differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from gettext import c2py
from typing import Any

from babel import Locale, UnknownLocaleError, dates, negotiate_locale, numbers

ENGLISH = "en"
"""What the texts in the code are in."""
PLURAL = "(n != 1)"
"""English's rule, as catalogues write it: which form counts have (0: the first)."""
PLACEHOLDER = re.compile(r"\{(\w+)\}|%\((\w+)\)s")
"""What stands in a text for a value."""


class Text(str):
    """An English text that can be said in other languages; N_() makes it. It is a plain `str` to all who do not ask."""

    __slots__ = ("message", "values")

    message: str
    values: Mapping[str, object]

    def __new__(cls, message: str, values: Mapping[str, object]) -> Text:
        """`message` with `values` for its placeholders."""
        text = super().__new__(cls, message.format(**values) if values else message)
        text.message, text.values = message, values
        return text

    def __getnewargs__(self) -> tuple[str, Mapping[str, object]]:  # type: ignore[override]
        return self.message, self.values


def N_(message: str, /, **values: object) -> Text:  # noqa: N802 (gettext's own name for it)
    """Mark a text for translation; values that are such texts are translated as well."""
    return Text(message, values)


def joined(parts: Iterable[str], between: str = "; ") -> Text:
    """Texts of whatever kind one after the other, without those that are empty."""
    values = {f"part{number}": part for number, part in enumerate(filter(None, parts))}
    return Text(between.join(f"{{{name}}}" for name in values), values)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Texts of one language by the English ones: one each, or one for each form of a count.

    `plural` is gettext's rule for these forms, an expression of C in `n`.
    """

    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plural: str = PLURAL


class Words:
    """One language. `code` is its name as in HTML (BCP 47: "de", "pt-BR"), `name` what it calls itself."""

    def __init__(self, code: str = ENGLISH, catalogue: Catalogue | None = None) -> None:
        self.code = code
        self.catalogue = catalogue or Catalogue()
        self._form: Callable[[int], int] = c2py(self.catalogue.plural)
        self._locale = Locale.parse(code, sep="-")
        name = self._locale.get_display_name() or code
        self.name = name[0].upper() + name[1:]

    def __repr__(self) -> str:
        return f"Words({self.code!r})"

    def gettext(self, message: str) -> str:
        """The text, or the English one where the catalogue does not have it."""
        return self.catalogue.texts.get(message, (message,))[0]

    def ngettext(self, one: str, many: str, count: int) -> str:
        """The text for a count."""
        forms = self.catalogue.texts.get(one)
        if forms is None or len(forms) == 1:
            return one if count == 1 else many
        return forms[self._form(count)]

    def of(self, text: str) -> str:
        """A text that N_() made, in this language; any other is looked up as it is."""
        if not isinstance(text, Text):
            return self.gettext(text)
        values = {name: self.of(value) if isinstance(value, str) else value for name, value in text.values.items()}
        message = self.gettext(text.message)
        return message.format(**values) if values else message

    def moment(self, when: datetime) -> str:
        """Day and time, in the time's own zone: "6 Mar 2026, 09:00"."""
        return dates.format_datetime(when, "d MMM y, HH:mm" if self.code == ENGLISH else "short", locale=self._locale)

    def day(self, when: date) -> str:
        """The day: "6 March 2026"."""
        return dates.format_date(when, "d MMMM y" if self.code == ENGLISH else "long", locale=self._locale)

    def clock(self, when: datetime) -> str:
        """The time of day, in the time's own zone: "09:00"."""
        return dates.format_time(when, "HH:mm" if self.code == ENGLISH else "short", locale=self._locale)

    def number(self, value: float) -> str:
        """A number: "1,234.5" or "1.234,5"."""
        return numbers.format_decimal(value, locale=self._locale)


class Languages(Mapping[str, Words]):
    """Those that a site offers, by code, in the order of its switch; `default` is for who asks for none of them."""

    def __init__(self, offered: Iterable[Words] = (), default: str = ENGLISH) -> None:
        self._words = {words.code: words for words in offered} or {ENGLISH: Words()}
        self.default = self._words[default]

    def __getitem__(self, code: str) -> Words:
        return self._words[code]

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def choose(self, accept: str, *chosen: str) -> Words:
        """The first of `chosen` that is offered, else what suits `accept` best, a header Accept-Language."""
        for code in chosen:
            if code in self._words:
                return self._words[code]
        wanted, refused = preferences(accept)
        left = [code for code in self._words if code not in refused]
        anything = self.default.code if self.default.code in left else next(iter(left), self.default.code)
        for preferred in wanted:
            found = anything if preferred == "*" else negotiate_locale([preferred], left, sep="-")
            for code in left:
                if found and code.lower() == found.lower():
                    return self._words[code]
        return self._words[anything]


_RANGE = re.compile(
    r"\s*(\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*[qQ]\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?"
)
LONGEST = 500
"""Characters of Accept-Language that are looked at."""


def preferences(accept: str) -> tuple[list[str], set[str]]:
    """The languages (in lower case) that a header Accept-Language asks for, the dearest first, and those it refuses.

    RFC 9110, section 12.5.4; what is not of its form is passed over.
    """
    weights: dict[str, float] = {}
    for part in accept[:LONGEST].split(","):
        if match := _RANGE.fullmatch(part):
            weights.setdefault(match[1].lower(), float(match[2] or 1))
    wanted = [code for code, weight in weights.items() if weight > 0]
    return sorted(wanted, key=lambda code: -weights[code]), {code for code, weight in weights.items() if weight == 0}


def is_language(code: str) -> bool:
    """Whether it is the code of a language that Unicode's data (CLDR) know."""
    try:
        Locale.parse(code, sep="-")
    except (ValueError, UnknownLocaleError):
        return False
    return True


_LITERAL = r'"(?:[^"\\\n]|\\.)*"'
_SAID = re.compile(rf"\b(say|sayMany)\(\s*(?:[\w.]+,\s*)?({_LITERAL})(?:,\s*({_LITERAL}))?")


def said(script: str) -> Iterator[tuple[str, str]]:
    """What a script of ours says: each text, and beside it the one for counts above one (or nothing)."""
    for match in _SAID.finditer(script):
        yield json.loads(match[2]), json.loads(match[3]) if match[3] and match[1] == "sayMany" else ""


def module(words: Words, scripts: Iterable[str]) -> str:
    """The module that tells words.js what `scripts` say in this language."""
    asked = {text for script in scripts for text, _ in said(script)}
    known = {text: forms for text in sorted(asked) if (forms := words.catalogue.texts.get(text))}
    values: dict[str, Any] = {text: forms[0] if len(forms) == 1 else forms for text, forms in known.items()}
    table = json.dumps(values, ensure_ascii=False, indent=0)
    # Nothing but a rule can stand there: c2py() has read it.
    return (
        'import { learn } from "../words.js";\n'
        f"learn({json.dumps(words.code)}, (n) => Number({words.catalogue.plural}), {table});\n"
    )
