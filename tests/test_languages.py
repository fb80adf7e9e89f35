"""The languages: which one is chosen, what is said in it, and that nothing of the project is said in English alone."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from tests import words as extraction
from vncgate import catalogues, languages
from vncgate.errors import SettingsError
from vncgate.language_settings import LanguagesSettings
from vncgate.languages import ENGLISH, N_, Catalogue, Languages, Words, joined, preferences

PACKAGE = extraction.PACKAGE
GERMAN = Catalogue(
    {
        "One moment": ("Einen Moment",),
        "nobody used it for {span}": ("{span} unbenutzt",),
        "{place} in line": ("Platz {place}",),
        "{number}rd": ("{number}",),
        "it starts by itself": ("er startet von selbst",),
        "one file": ("eine Datei", "{count} Dateien"),
    }
)
DE = Words("de", GERMAN)
EN = Words()


# ---- what is said ----


def test_a_text_is_english_until_somebody_asks_for_it_in_another_language():
    text = N_("nobody used it for {span}", span="5 min")
    assert text == "nobody used it for 5 min"
    assert DE.of(text) == "5 min unbenutzt"
    assert EN.of(text) == text
    assert copy.deepcopy(text) == text
    assert DE.of(pickle.loads(pickle.dumps(text))) == "5 min unbenutzt"


def test_a_text_in_a_text_is_translated_as_well():
    assert DE.of(N_("{place} in line", place=N_("{number}rd", number=3))) == "Platz 3"


def test_texts_one_after_the_other():
    text = joined([N_("{place} in line", place="7"), "", "{braces} of others", N_("it starts by itself")])
    assert text == "7 in line; {braces} of others; it starts by itself"
    assert DE.of(text) == "Platz 7; {braces} of others; er startet von selbst"
    assert DE.of(joined([])) == ""


def test_what_is_no_text_of_ours_stays_what_it_is():
    assert DE.of("{number} % of {") == "{number} % of {"
    assert DE.of("One moment") == "Einen Moment"
    assert DE.of("") == ""


def test_counts():
    assert [DE.ngettext("one file", "{count} files", n) for n in (0, 1, 2)] == [
        "{count} Dateien", "eine Datei", "{count} Dateien",
    ]  # fmt: skip
    assert [EN.ngettext("one file", "{count} files", n) for n in (0, 1, 2)] == [
        "{count} files",
        "one file",
        "{count} files",
    ]


def test_times_and_numbers():
    when = datetime(2026, 3, 6, 9, 5, tzinfo=timezone(timedelta(hours=1)))
    assert [EN.moment(when), EN.day(when), EN.clock(when), EN.number(1234.5)] == [
        "6 Mar 2026, 09:05", "6 March 2026", "09:05", "1,234.5",
    ]  # fmt: skip
    assert [DE.moment(when), DE.day(when), DE.clock(when), DE.number(1234.5)] == [
        "06.03.26, 09:05", "6. März 2026", "09:05", "1.234,5",
    ]  # fmt: skip
    assert (DE.name, EN.name, Words("pt-BR").name) == ("Deutsch", "English", "Português (Brasil)")


# ---- which language ----


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT, en;q=0.8", "de"),
        ("fr, de;q=0.5, en;q=0.4", "de"),
        ("en;q=0.4, DE;q=0.5", "de"),
        ("en-GB,en;q=0.9,de;q=0.8", "en"),
        ("pt, de;q=0.1", "de"),
        ("pt-br;q=0.5,de;q=0.1", "pt-BR"),
        ("*", "en"),
        ("fr, *;q=0.5", "en"),
        ("*, en;q=0", "de"),
        ("en;q=0, de;q=0.001", "de"),
        ("fr", "en"),
        ("nonsense;;q=1, \x00, de", "de"),
        ("de;q=1.5, en", "en"),
        ("de-" * 400, "de"),
    ],
)
def test_the_language_that_suits_a_browser_best(header, code):
    assert Languages([EN, DE, Words("pt-BR")]).choose(header).code == code


def test_a_choice_beats_the_browser_where_it_is_offered():
    offered = Languages([EN, DE], "de")
    assert offered.choose("en", "", "de").code == "de"
    assert offered.choose("en", "de", "en").code == "de"
    assert offered.choose("en", "fr\r\nSet-Cookie: x", "../de").code == "en"
    assert offered.choose("fr").code == "de"
    assert list(Languages()) == [ENGLISH]


@given(st.text())
def test_whatever_a_browser_sends_some_language_is_chosen(header):
    wanted, refused = preferences(header)
    assert not refused.intersection(wanted)
    assert Languages([EN, DE]).choose(header, header).code in ("en", "de")


# ---- catalogues of a site's own ----

HEAD = """\
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

"""


def load(folder, *, offered=(), default="en", **files):
    for name, text in files.items():
        (folder / f"{name}.po").write_bytes(text if isinstance(text, bytes) else (HEAD + text).encode())
    return catalogues.load(LanguagesSettings(folder=folder, offered=offered, default=default))


def test_english_and_german_are_there():
    made = catalogues.load(LanguagesSettings())
    assert [(code, words.name) for code, words in made.items()] == [("en", "English"), ("de", "Deutsch")]
    assert made.default.code == "en"
    assert made["de"].gettext("Cancel") == "Abbrechen"


def test_a_site_adds_languages_and_says_single_texts_in_its_own_words(tmp_path):
    made = load(
        tmp_path,
        fr='msgid "Cancel"\nmsgstr "Annuler"\n',
        en='msgid "Cancel"\nmsgstr "Never mind"\n',
        de='msgid "Cancel"\nmsgstr "Lassen"\n',
        pt_BR='msgid "Cancel"\nmsgstr ""\n\n#, fuzzy\nmsgid "Help"\nmsgstr "Ajuda"\n',
        offered=("de", "en", "fr", "pt-BR"),
        default="fr",
    )
    assert list(made) == ["de", "en", "fr", "pt-BR"]
    assert [words.gettext("Cancel") for words in made.values()] == ["Lassen", "Never mind", "Annuler", "Cancel"]
    assert [words.gettext("Help") for words in made.values()] == ["Hilfe", "Help", "Help", "Help"]
    assert made.default.code == "fr"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense\n", "fr.po:6: "),
        ('msgid "Cancel"\nnonsense\n', "fr.po:7: "),
        ('msgid "in {time}"\nmsgstr "dans {temps}"\n', "fr.po:6: the translation has {temps}, other than 'in {time}'"),
        ('msgid "in {time}"\nmsgstr "dans"\n', "fr.po:6: the translation has no {time}, other than 'in {time}'"),
        ('msgid "Hello %(name)s,"\nmsgstr "%(nom)s"\n', "fr.po:6: the translation has %(nom)s"),
        ('msgid "Help"\nmsgstr "<b>Aide"\n', "fr.po:6: the translation has '<', other than 'Help'"),
        ('msgid "in {time}"\nmsgstr "dans {time} {time.day}"\n', "fr.po:6: the translation has '{', other than"),
        ('msgid "Help"\nmsgstr "100 %"\n', "fr.po:6: the translation has '%', other than 'Help'"),
        ('msgid "Help"\nmsgstr "\\"Aide\\""\n', "fr.po:6: the translation has '\"', other than 'Help'"),
        ('msgid "a"\nmsgid_plural "b"\nmsgstr[0] "c"\nmsgstr[1] "d"\nmsgstr[2] "e"\n', "fr.po"),
        (HEAD.replace("n != 1", "import os").encode(), "fr.po: is no catalogue"),
        (HEAD.replace("UTF-8", "latin-9").encode() + b'msgid "Help"\nmsgstr "\xe9"\n', "fr.po: is no catalogue"),
    ],
)
def test_a_broken_catalogue_is_an_error_that_says_where(tmp_path, text, said):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, fr=text)
    assert said in str(caught.value)


def test_a_catalogue_that_is_none(tmp_path):
    with pytest.raises(SettingsError, match="is no folder"):
        load(tmp_path / "missing")
    (tmp_path / "klingon.po").touch()
    with pytest.raises(SettingsError, match=r"klingon.po: 'klingon' is no language; name it as de.po or pt-BR.po"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("offered", "default", "said"),
    [
        (("de", "fr"), "de", "there is no catalogue for 'fr'; there are those for en, de"),
        ((), "fr", "there is no catalogue for 'fr'"),
        (("de",), "en", "languages.default: 'en' is not among those offered: de"),
    ],
)
def test_languages_that_cannot_be_offered(offered, default, said):
    with pytest.raises(SettingsError, match=said):
        catalogues.load(LanguagesSettings(offered=offered, default=default))


# ---- scripts ----


def test_what_scripts_say():
    script = r"""
        say("One");
        let x = say(
          "a \"b\" {c}", { c: 1 });
        sayMany(files.length, "one file", "{count} files");
        essay("x")"""
    assert list(languages.said(script)) == [("One", ""), ('a "b" {c}', ""), ("one file", "{count} files")]


def test_the_module_of_a_language_has_what_the_scripts_say_and_no_more():
    text = languages.module(DE, ['say("One moment"); say("Unknown"); sayMany(2, "one file", "{count} files")'])
    assert text.startswith('import { learn } from "../words.js";\nlearn("de", (n) => Number((n != 1)), {')
    assert '"One moment": "Einen Moment"' in text
    assert '"eine Datei"' in text
    assert "Unknown" not in text
    assert "unbenutzt" not in text


# ---- all of the project is said in every language ----

TEXTS = list(extraction.texts())
IDS = {text for _, text in TEXTS}


@pytest.mark.parametrize("file", extraction.CATALOGUES, ids=lambda file: file.name)
def test_every_text_has_a_translation(file):
    """When this fails: `make words`, then write what is missing into the catalogue."""
    with file.open("rb") as source:
        catalog = read_po(source, locale=file.stem, abort_invalid=True)
    there = {message.id if isinstance(message.id, str) else tuple(message.id) for message in catalog if message.id}
    assert there == IDS
    assert extraction.untranslated(catalog) == []
    assert not [message.id for message in catalog if message.fuzzy and message.id]
    assert not catalog.obsolete


def test_a_text_is_a_whole():
    """Nothing that is glued to something else: other languages have another order."""
    glued = re.compile(r"^[\s,;:.)]|\s$|[,;(]$|\b(?:a|an|the|of|to|at|for|and|or|with|from|is|are)$")
    alone = {"Sign in at"}  # a label of its own
    pieces = {text for text in IDS if isinstance(text, str) and glued.search(text) and not text.startswith("Hello")}
    assert pieces <= alone


class Bare(HTMLParser):
    """The texts of a template that no gettext has seen; what Jinja puts there is a mark."""

    SPOKEN = frozenset(
        {"title", "alt", "placeholder", "aria-label", "aria-description", "aria-roledescription", "label"}
    )
    SILENT = frozenset({"script", "style", "code", "pre"})
    WORD = re.compile("[A-Za-z][a-z]")
    MARK = "\x01"

    def __init__(self, template):
        super().__init__()
        self.found, self._silent = [], 0
        text = re.sub(r"\{#.*?#\}", "", template, flags=re.DOTALL)
        text = re.sub(r"\{%-?\s*trans\b.*?endtrans\s*-?%\}", self.MARK, text, flags=re.DOTALL)
        text = re.sub(r"\{%.*?%\}", "", text, flags=re.DOTALL)
        self.feed(re.sub(r"\{\{.*?\}\}", self.MARK, text, flags=re.DOTALL))

    def handle_starttag(self, tag, attrs):
        self._silent += tag in self.SILENT
        self.found += [value for name, value in attrs if name in self.SPOKEN and self.WORD.search(value or "")]

    def handle_endtag(self, tag):
        self._silent -= tag in self.SILENT

    def handle_data(self, data):
        # An attribute that a macro or a block puts together is data to this parser.
        if not self._silent and self.WORD.search(data) and not re.match(r"\s*[a-z-]+=", data):
            self.found.append(data.strip())


NO_WORDS = {"vncgate \x01", "\x01take#\x01"}
"""A name, and an address."""
PAGES = sorted((PACKAGE / "web/templates").rglob("*.html"))


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_no_template_has_a_text_that_is_not_translated(file):
    assert [text for text in Bare(file.read_text()).found if text not in NO_WORDS] == []


def test_a_text_that_is_not_translated_is_found():
    template = '<p title="Help" class="x">{{ _("a") }} {% trans %}b c{% endtrans %} left over</p><b>·</b>{# no #}'
    assert Bare(template).found == ["Help", "\x01 \x01 left over"]


FOR_PROGRAMS = {"api.py", "bearer.py", "seats_api.py", "uploads.py"}


def test_no_page_answers_with_an_error_that_is_not_translated():
    wrong = []
    for file in sorted((PACKAGE / "web").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())) if file.name not in FOR_PROGRAMS else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("web.HTTP"):
                said = (word.value for word in node.keywords if word.arg == "text")
                bare = [text for text in said if isinstance(text, ast.Constant | ast.JoinedStr)]
                wrong += [(file.name, ast.unparse(text)) for text in bare]
    assert wrong == []


SCRIPTS = sorted((PACKAGE / "web/static").glob("*.js"))
LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|\'(?:[^\'\\\n]|\\.)*\'')
SENTENCE = re.compile(r"^.[A-Z][\w’]*[,:]? [a-z]|^.(?:[\w’{}$]+[,:;]? ){3}[\w’]")
SHOWN = re.compile(r"(?:textContent|innerText|title|placeholder|ariaLabel)\s*=(?!=)|aria-label|\balert\(|\bconfirm\(")
NOT_SHOWN = re.compile(r"querySelector|matches\(|closest\(|new Error|super\(|import |setAttribute\(\"class")


def lines(script):
    """A script's lines without its comments."""
    return re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", lambda it: "\n" * it[0].count("\n"), script, flags=re.DOTALL).split("\n")


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_no_script_has_a_text_that_is_not_translated(file):
    script = file.read_text()
    known = {text for both in languages.said(script) for text in both}
    wrong = []
    for number, line in enumerate(lines(script), 1):
        for literal in LITERAL.findall(line):
            is_shown = SENTENCE.search(literal) or (SHOWN.search(line) and re.search("[A-Z][a-z]", literal))
            if is_shown and literal[1:-1] not in known and not NOT_SHOWN.search(line):
                wrong.append((number, literal))
    assert wrong == []


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_whatever_a_script_says_is_found_by_the_catalogues(file):
    if file.name == "words.js":
        return
    script = "\n".join(lines(file.read_text()))
    assert len(re.findall(r"\bsay(?:Many)?\(", script)) == len(list(languages.said(script)))
