"""Each fuzz target on its corpus, and for a few seconds on what atheris makes of it; `make fuzz` takes longer."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(folder.name for folder in (HERE / "corpus").iterdir())
SECONDS = 3


def fuzz(target, *args):
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, *map(str, args)],
        cwd=HERE.parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS + 50,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_seconds(target, tmp_path):
    pytest.importorskip("atheris", exc_type=ImportError)
    (tmp_path / "new").mkdir()
    limits = [f"-max_total_time={SECONDS}", "-timeout=20", f"-artifact_prefix={tmp_path}/", "-print_final_stats=1"]
    done = fuzz(target, *limits, tmp_path / "new", HERE / "corpus" / target)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "number_of_executed_units" in done.stdout


@pytest.mark.parametrize("target", ["tokens", "rfb", "view"])
def test_the_corpus_without_atheris(target):
    one_input = importlib.import_module(f"tests.fuzz.{target}").one_input
    for seed in (HERE / "corpus" / target).iterdir():
        one_input(seed.read_bytes())


def test_what_a_target_does_not_stand_is_a_failure(tmp_path):
    """The harness itself: an input that breaks a property must not pass unseen."""
    pytest.importorskip("atheris", exc_type=ImportError)
    done = fuzz("broken", f"-artifact_prefix={tmp_path}/", tmp_path)
    assert done.returncode != 0
    assert "AssertionError: as it must" in done.stdout
