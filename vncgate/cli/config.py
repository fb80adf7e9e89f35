"""The flag that several commands have: where the settings are."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, which several commands have."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=Path(value) if (value := os.environ.get("VNCGATE_CONFIG")) else None,
        help="settings in TOML (or VNCGATE_CONFIG)",
    )
