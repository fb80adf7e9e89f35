"""The files below static/: ours, noVNC's modules, and the site's own logo and style sheet.

They are read once and kept in memory (about 1 MB): what is served is what was hashed, also while a package
manager puts a new version in place, and a request cannot reach any other file.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vncgate import languages
from vncgate.errors import SettingsError
from vncgate.languages import Languages
from vncgate.render.pages import STYLESHEET, THEME, logo_name, words_module
from vncgate.render.theme import theme
from vncgate.settings import LandingSettings

OURS = Path(__file__).with_name("static")
"""Where our static files lie."""
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".webp": "image/webp"}
"""Media types that must be right for a page to work, whatever the system's table of types says."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its bytes and their media type."""

    body: bytes
    media_type: str


def load(settings: LandingSettings, offered: Languages | None = None) -> Mapping[str, Asset]:
    """All files below static/ by their name there ("site.css", "novnc/core/rfb.js", "site/theme.css", "words/de.js").

    It blocks on the disk. Raises SettingsError when the site's logo or style sheet cannot be used.
    """
    files = {path.relative_to(OURS).as_posix(): path for path in sorted(OURS.rglob("*")) if path.is_file()}
    assets = {name: _asset(name, path.read_bytes()) for name, path in files.items()}
    assets[THEME] = _asset(THEME, theme(settings.accent).encode())
    scripts = [path.read_text() for path in OURS.glob("*.js")]
    for words in (offered or {}).values():
        assets[words_module(words)] = _asset(words_module(words), languages.module(words, scripts).encode())
    if settings.stylesheet is not None:
        assets[STYLESHEET] = _asset(STYLESHEET, _read(settings.stylesheet, "landing.stylesheet"))
    if settings.logo is not None:
        assets[logo_name(settings)] = _asset(logo_name(settings), _read(settings.logo, "landing.logo"))
    return assets


def bodies(assets: Mapping[str, Asset]) -> dict[str, bytes]:
    """What is in each file, as the pages need it."""
    return {name: asset.body for name, asset in assets.items()}


def _asset(name: str, body: bytes) -> Asset:
    suffix = Path(name).suffix.lower()
    media_type = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
    return Asset(body, media_type)


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error.strerror}") from None
