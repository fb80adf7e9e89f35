"""docs/reliability.md and the tests agree: what a row promises is tested, and what is tested stands in a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
HEAD = ["fault", "what happens", "what the operator sees", "what the participant sees", "test"]
NO_FAULTS = {
    ("engines/test_pool_workers.py", "test_browsers_are_shared_out"),
    ("test_workers.py", "test_no_password_is_in_a_worker_or_in_the_log"),
}
"""Tests among those of faults that are of something else."""
_NAMED = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")


def rows():
    """The cells of each row of the page's tables, with the line that it stands on."""
    for number, line in enumerate(PAGE.read_text().splitlines(), start=1):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells != HEAD and set(cells[0]) != {"-"}:
            yield number, cells


def names_in(file):
    """The names of a module's tests."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions) and node.name.startswith("test_")}


def test_every_row_names_tests_that_exist():
    wrong = []
    for number, cells in rows():
        if len(cells) != len(HEAD) or not all(cells):
            wrong.append(f"{PAGE.name}:{number}: a row has five cells, none of them empty")
            continue
        named = _NAMED.findall(cells[-1])
        if not named:
            wrong.append(f"{PAGE.name}:{number}: no test is named")
        wrong += [
            f"{PAGE.name}:{number}: there is no {test or 'such file'} in tests/{file}"
            for file, test in named
            if not (ROOT / "tests" / file).is_file() or (test and test not in names_in(file))
        ]
    assert not wrong, "\n".join(wrong)
    assert len(list(rows())) > 50


def test_every_test_of_a_fault_stands_in_a_row():
    named = {pair for _, cells in rows() for pair in _NAMED.findall(cells[-1])}
    files = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests" / "faults").rglob("test_*.py")]
    files.remove(Path("faults/test_machine.py"))  # it runs the others
    files += [Path("test_workers.py"), Path("test_upgrade.py"), Path("engines/test_pool_workers.py")]
    left = {(str(file), test) for file in files for test in names_in(file)} - named - NO_FAULTS
    assert not left
