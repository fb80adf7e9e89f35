"""What several commands are given: the settings' file, and the address of the pages."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from urllib.parse import urlsplit


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, which several commands have."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=Path(value) if (value := os.environ.get("VNCGATE_CONFIG")) else None,
        help="settings in TOML (or VNCGATE_CONFIG)",
    )


def page_url(text: str) -> str:
    """The landing page's address, as an argument's type."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError("write the page's whole address, such as https://workshop.example.org")
    return text
