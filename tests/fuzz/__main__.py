"""python -m tests.fuzz TARGET [libFuzzer's options and corpus folders]: looks for inputs that a target does not stand.

atheris (PyPI) finds them by coverage. It ends the process itself, with a status other than 0 and the input in a file
when there is one: `python -m tests.fuzz TARGET FILE` shows it again.
"""

from __future__ import annotations

import importlib
import sys

import atheris

with atheris.instrument_imports(include=["vncgate"]):
    target = importlib.import_module(f"tests.fuzz.{sys.argv.pop(1)}")

atheris.Setup(sys.argv, target.one_input)
atheris.Fuzz()
