"""Runs tests/faults/machine in namespaces of their own, a file at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import namespaces

FILES = sorted((Path(__file__).parent / "machine").glob("test_*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_in_namespaces_of_its_own(file):
    namespaces.run(file)


def test_nothing_is_mounted_outside(tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match="nothing is mounted"):
        namespaces.mount("--bind", tmp_path, tmp_path)
    monkeypatch.setenv(namespaces.OUTSIDE, namespaces._mounts())
    with pytest.raises(AssertionError, match="nothing is mounted"):
        namespaces.mount("--bind", tmp_path, tmp_path)
