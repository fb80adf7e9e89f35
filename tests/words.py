"""The texts of the project as its catalogues know them. Run as a program (`make words`), it brings these up to date."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po

from vncgate import languages

PACKAGE = Path(__file__).parents[1] / "vncgate"
CATALOGUES = sorted((PACKAGE / "locale").glob("*.po"))
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None}
TEMPLATES = {"trimmed": "true", "silent": "false", "newstyle_gettext": "true"}
NOT_OURS = ("web/static/novnc", "web/npm", "launchers")


def files() -> Iterator[tuple[str, Path]]:
    """All files that may have texts, and how they are read."""
    for suffix, method in ((".py", "python"), (".html", "jinja2"), (".txt", "jinja2"), (".js", "javascript")):
        for file in sorted(PACKAGE.rglob(f"*{suffix}")):
            if file.name != "languages.py" and not file.relative_to(PACKAGE).as_posix().startswith(NOT_OURS):
                yield method, file


def texts() -> Iterator[tuple[str, str | tuple[str, str]]]:
    """Every text: the file it stands in (below vncgate/), and the text, or that for one and that for many."""
    for method, file in files():
        name = file.relative_to(PACKAGE).as_posix()
        if method == "javascript":
            for text, many in languages.said(file.read_text()):
                yield name, (text, many) if many else text
            continue
        options = TEMPLATES if method == "jinja2" else {}
        for _, text, _, _ in extract(method, io.BytesIO(file.read_bytes()), KEYWORDS, (), options):
            yield name, text


def template() -> Catalog:
    """All of them, none with a translation."""
    catalog = Catalog()
    for name, text in texts():
        catalog.add(text, locations=[(name, 0)])
    return catalog


def bring_up_to_date(file: Path, wanted: Catalog) -> list[str]:
    """Add what is missing to a catalogue and take out what is no longer said; returns what has no translation."""
    old = file.read_bytes()
    catalog = read_po(io.BytesIO(old), locale=file.stem, charset="utf-8", abort_invalid=True)
    catalog.update(wanted, no_fuzzy_matching=True, update_creation_date=False)
    catalog.obsolete.clear()
    # No lines and no dates: they would differ with every change, and for everybody.
    new = io.BytesIO()
    write_po(new, catalog, width=120, include_lineno=False, omit_header=True)
    text = old.partition(b"\n\n")[0] + b"\n\n" + new.getvalue().strip() + b"\n"
    if text != old:
        file.write_bytes(text)
    return untranslated(catalog)


def untranslated(catalog: Catalog) -> list[str]:
    """The texts without a translation."""
    return [str(message.id) for message in catalog if message.id and not all(forms(message))]


def forms(message: Message) -> tuple[str, ...]:
    """A text's translation, in as many forms as it has."""
    return message.string if isinstance(message.string, tuple) else (message.string or "",)


if __name__ == "__main__":
    for catalogue in CATALOGUES:
        missing = bring_up_to_date(catalogue, template())
        print(f"{catalogue}: {len(missing)} texts without a translation", *missing, sep="\n  ")
