"""The wheel, built by pip from the tracked files alone: with npm, and where the build has to bring it along."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.real.conftest import need

need("git")
pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[1]
NOVNC = "vncgate/web/static/novnc/"
IMPORT = re.compile(r"""^(?:import|export)\b[^'";]*['"](\.[^'"]+)['"]""", re.MULTILINE)


def tracked():
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.rstrip("\0").split("\0") if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def run_pip(source, folder, path):
    """What came of a build that finds programs on `path`."""
    shutil.copytree(source, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", "wheels", "./source"]
    return subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)


def build(source, folder, path):
    """The wheel's files by name, of a build that finds programs on `path`."""
    done = run_pip(source, folder, path)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "wheels").iterdir()
    assert re.fullmatch(r"vncgate-[0-9.]+-py3-none-any\.whl", wheel.name)
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build(source, tmp_path_factory.mktemp("wheel"), os.environ["PATH"])


def test_an_npm_that_fails_is_told_without_a_traceback(source, tmp_path):
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho npm says why; exit 1\n")
    npm.chmod(0o755)
    done = run_pip(source, tmp_path, f"{npm.parent}:{os.environ['PATH']}")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "npm says why" in said
    assert "export npm_config_cafile=FILE" in said
    assert "Traceback" not in said


def test_it_has_all_of_the_package_and_nothing_else(wheel):
    ours = {name for name in tracked() if name.startswith("vncgate/") and not name.startswith("vncgate/web/npm/")}
    assert {"vncgate/py.typed", "vncgate/web/templates/desk.html", "vncgate/web/static/desk.js"} < ours
    assert ours == {name for name in wheel if name.startswith("vncgate/") and not name.startswith(NOVNC)}
    (information,) = {name.partition("/")[0] for name in wheel} - {"vncgate"}
    assert re.fullmatch(r"vncgate-[0-9.]+\.dist-info", information)
    assert wheel[f"{information}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"vncgate = vncgate.cli:main" in wheel[f"{information}/entry_points.txt"]
    assert not [name for name in wheel if re.search("node_modules|(^|/)tests?/|package-lock", name)]


def test_the_viewers_modules_find_all_that_they_import(wheel):
    found, todo = set(), {NOVNC + "core/rfb.js", *(n for n in wheel if n.startswith("vncgate/web/static/desk"))}
    while todo:
        name = todo.pop()
        found.add(name)
        if name.endswith(".js"):
            imported = IMPORT.findall(wheel[name].decode())
            todo |= {posixpath.normpath(posixpath.join(name, "..", other)) for other in imported} - found
    assert len([name for name in found if name.startswith(NOVNC + "core/")]) > 30
    assert len([name for name in found if name.startswith(NOVNC + "vendor/")]) > 5


def test_novncs_licence_texts_lie_beside_its_files(wheel):
    said = wheel[NOVNC + "LICENSE.txt"].decode()
    named = re.findall(r"^ +(?:docs/(LICENSE\.\S+)|vendor/(\S+)/LICENSE\b)", said, re.MULTILINE)
    texts = {text or f"LICENSE.{vendor}" for text, vendor in named}
    assert {"LICENSE.MPL-2.0", "LICENSE.pako"} < texts
    assert {text for text in texts if len(wheel.get(NOVNC + text, b"")) < 500} == set()
    assert b"Joel Martin" in wheel[NOVNC + "AUTHORS"]


def test_a_build_without_npm_brings_one_along_and_makes_the_same(source, wheel, tmp_path):
    (tmp_path / "bin").mkdir()
    assert build(source, tmp_path, str(tmp_path / "bin")) == wheel
