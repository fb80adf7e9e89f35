"""What several commands are given: the settings' file, the control socket, and the address of the pages."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vncgate import control
from vncgate.errors import SettingsError

if TYPE_CHECKING:
    from vncgate.languages import Words
    from vncgate.settings import Settings


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, which several commands have."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=Path(value) if (value := os.environ.get("VNCGATE_CONFIG")) else None,
        help="settings in TOML (or VNCGATE_CONFIG)",
    )


def add_control(parser: argparse.ArgumentParser) -> None:
    """Add `--control`, which all commands have that talk to the daemon."""
    parser.add_argument("--control", type=Path, metavar="PATH", help="the daemon's control socket (or VNCGATE_CONTROL)")


def control_path(args: argparse.Namespace) -> Path:
    """The control socket: that of `--control`, of the environment, or where it is by itself."""
    if args.control:
        return Path(args.control)
    if named := os.environ.get("VNCGATE_CONTROL"):
        return Path(named)
    return control.default_path(os.environ, os.getuid())


def spoken(chosen: Settings, language: str | None) -> Words:
    """The language of what a command prints: the one named, or the site's. Raises SettingsError."""
    from vncgate import catalogues  # Babel takes a tenth of a second

    languages = catalogues.load(chosen.languages)
    if language is None:
        return languages.default
    if language not in languages:
        raise SettingsError(f"--language: there is no {language!r}; there are {', '.join(languages)}")
    return languages[language]


def page_url(text: str) -> str:
    """The landing page's address, as an argument's type."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError("write the page's whole address, such as https://workshop.example.org")
    return text
