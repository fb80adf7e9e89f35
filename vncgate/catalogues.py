"""The catalogues on disk: ours, and a site's own, as gettext's .po files, read at start; nothing is compiled."""

from __future__ import annotations

import io
from collections.abc import Iterator
from gettext import c2py
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import PoFileError, read_po

from vncgate.errors import SettingsError
from vncgate.language_settings import LanguagesSettings
from vncgate.languages import ENGLISH, PLACEHOLDER, Catalogue, Languages, Words, is_language

OURS = Path(__file__).with_name("locale")
"""Where our catalogues lie."""


def load(settings: LanguagesSettings) -> Languages:
    """The languages of a site. It blocks on the disk.

    Raises SettingsError, with file and line, where a catalogue of the site's cannot be used.
    """
    catalogues = {ENGLISH: Catalogue()} | {code: _read(file) for code, file in _files(OURS)}
    if settings.folder is not None:
        for code, file in _files(settings.folder):
            catalogues[code] = _over(_read(file), catalogues.get(code), file)
    for code in (*settings.offered, settings.default):
        if code not in catalogues:
            known = ", ".join(catalogues)
            raise SettingsError(f"languages: there is no catalogue for {code!r}; there are those for {known}")
    offered = settings.offered or tuple(catalogues)
    if settings.default not in offered:
        raise SettingsError(f"languages.default: {settings.default!r} is not among those offered: {', '.join(offered)}")
    return Languages((Words(code, catalogues[code]) for code in offered), settings.default)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise SettingsError(f"languages.folder: {folder} is no folder")
    for file in sorted(folder.glob("*.po")):
        code = file.stem.replace("_", "-")
        if not is_language(code):
            raise SettingsError(f"{file}: {file.stem!r} is no language; name it as de.po or pt-BR.po")
        yield code, file


def _read(file: Path) -> Catalogue:
    try:
        catalog = read_po(io.BytesIO(file.read_bytes()), charset="utf-8", abort_invalid=True)
        c2py(catalog.plural_expr)
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from None
    except PoFileError as error:
        raise SettingsError(f"{file}:{error.lineno + 1}: {str(error).rpartition(' on ')[0]}") from None
    except (ValueError, LookupError) as error:  # of its charset, its header or its rule for plurals
        raise SettingsError(f"{file}: is no catalogue of gettext in UTF-8: {error}") from None
    texts = {}
    for message in catalog:
        if message.id and not message.fuzzy and (forms := _forms(message)):
            _check(file, catalog, message, forms)
            texts[message.id if isinstance(message.id, str) else message.id[0]] = forms
    return Catalogue(texts, catalog.plural_expr)


def _forms(message: Message) -> tuple[str, ...]:
    forms = (message.string,) if isinstance(message.string, str) else tuple(message.string or ())
    return forms if all(forms) else ()


def _check(file: Path, catalog: Catalog, message: Message, forms: tuple[str, ...]) -> None:
    ids = (message.id,) if isinstance(message.id, str) else tuple(message.id)
    place = f"{file}:{message.lineno}"
    if len(ids) > 1 and len(forms) != catalog.num_plurals:
        raise SettingsError(f"{place}: has {len(forms)} forms; the file's Plural-Forms say {catalog.num_plurals}")
    wanted = placeholders(ids[-1])
    for text in forms:
        if wrong := placeholders(text) - wanted or (wanted - placeholders(text) if len(forms) == 1 else set()):
            name = min(wrong)
            what = "has no" if name in wanted else "has"
            raise SettingsError(f"{place}: the translation {what} {name}, other than {ids[-1]!r}")
        # Texts are put into pages as they are, also between quotes, and values are put into them.
        rest, usual = (PLACEHOLDER.sub("", said) for said in (text, "".join(ids)))
        if marked := next((mark for mark in '<>&"{}%' if mark in rest and mark not in usual), ""):
            raise SettingsError(f"{place}: the translation has {marked!r}, other than {ids[-1]!r}")


def placeholders(text: str) -> set[str]:
    """What stands in a text for values: `{name}` or `%(name)s`."""
    return {match[0] for match in PLACEHOLDER.finditer(text)}


def _over(own: Catalogue, ours: Catalogue | None, file: Path) -> Catalogue:
    """A site's texts over ours."""
    if ours is None:
        return own
    if any(len(forms) > 1 for forms in own.texts.values()) and own.plural != ours.plural:
        raise SettingsError(f"{file}: its Plural-Forms must have plural={ours.plural}, as ours")
    return Catalogue({**ours.texts, **own.texts}, ours.plural)
