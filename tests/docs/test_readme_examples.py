"""Examples in README files and docstrings run as they stand, and the README keeps its form."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

from experiments.config.files import find_config
from tests import REPOSITORY

READMES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("*/README.md")), REPOSITORY / ".github/CONTRIBUTING.md"]
BLOCKS = [
    pytest.param(block, id=f"{path.relative_to(REPOSITORY)}-{number}")
    for path in READMES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )
]

PACKAGES = ("lightning_modules", "datamodules", "postproc", "experiments")
MODULES = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for package in PACKAGES
    for path in sorted((REPOSITORY / package).rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_examples_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(REPOSITORY / "tests" / "compat" / "run")
    names: dict[str, object] = {"__name__": "readme"}
    if ">>>" not in block:
        exec(compile(block, "README", "exec"), names)
        return
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    test = doctest.DocTestParser().get_doctest(block, names, "README", None, 0)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    assert doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_that_are_named_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    for link in links:
        assert (path.parent / link).exists(), link
    for name in re.findall(r"--(?:config|data|model|postproc|trainer|voice|face) ([a-z]\S*\.yaml)", text):
        if not name.startswith("my_"):
            find_config(name)


def test_the_readme_is_short() -> None:
    lines = (REPOSITORY / "README.md").read_text("utf-8").splitlines()
    assert len(lines) < 120
    outside, code = [], False
    for line in lines:
        code ^= line.startswith("```")
        if not code and not line.startswith("|"):
            outside.append(line)
    assert [line for line in outside if len(line) > 100] == []
    assert sum(bool(re.match(r"python3 -m venv .*pytest", line)) for line in lines) == 1
