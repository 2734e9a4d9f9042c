"""The table of tests/README.md names tests that exist, and every test of this folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def functions_of(path: Path) -> set[str]:
    """Names of the test functions of a file."""
    found = (node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    return {name for name in found if name.startswith("test_")}


def test_every_fault_has_tests_that_exist() -> None:
    rows = [line for line in (TESTS / "README.md").read_text().splitlines() if line.startswith("|")][2:]
    named = [re.findall(r"`([\w/]+\.py)::(\w+)`", row) for row in rows]
    assert all(named), "a row without a test"
    lost = [f"{file}::{test}" for row in named for file, test in row if test not in functions_of(TESTS / file)]
    assert not lost
    known = {(file, test) for row in named for file, test in row}
    here = {
        (f"faults/{path.name}", test) for path in sorted(TESTS.glob("faults/test_*.py")) for test in functions_of(path)
    }
    ours = {(f"faults/{Path(__file__).name}", test_every_fault_has_tests_that_exist.__name__)}
    support = {("faults/test_degenerate.py", "test_the_list_of_steps_that_learn_is_complete"),
               ("faults/test_bad_lists.py", "test_an_archive_that_is_right_passes")}  # fmt: skip
    assert here - known - ours - support == set()
