"""What documents show for copying is right: complete examples of settings and token files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vncgate import tokens
from vncgate.settings import load

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"(?ms)^```(?:toml)?\n(# \S*(?:\.toml|\.tokens)\n.*?)^```$")
"""A file that is shown whole: its first line is its name."""


@pytest.mark.parametrize("document", sorted((DOCS / "places").glob("*.md")), ids=lambda path: path.name)
def test_files_that_are_shown_whole_are_good(document, tmp_path):
    """A token file is held against the settings that are shown before it."""
    settings = load()
    for text in BLOCK.findall(document.read_text()):
        if text.partition("\n")[0].endswith(".toml"):
            file = tmp_path / "vncgate.toml"
            file.write_text(text)
            settings = load(file)
            assert settings.desktops.kinds
        else:
            parsed = tokens.parse(text.encode())
            assert parsed.problems == ()
            roster = parsed.roster
            assert {account.kind for account in roster.values()} - {""} <= settings.desktops.kinds.keys()
            assert all(account.desktop is None for account in roster.values())


@pytest.mark.parametrize("name", ["local.md", "ssh.md"])
def test_places_have_complete_examples(name):
    names = [text.partition("\n")[0] for text in BLOCK.findall((DOCS / "places" / name).read_text())]
    assert {Path(shown.removeprefix("# ")).name for shown in names} == {"vncgate.toml", "workshop.tokens"}
