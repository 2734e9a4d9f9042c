"""The command of CONTRIBUTING makes API pages from the docstrings."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import REPOSITORY


@pytest.mark.processes
def test_api_pages_build(tmp_path: Path) -> None:
    text = (REPOSITORY / ".github" / "CONTRIBUTING.md").read_text("utf-8")
    (command,) = re.findall(r"^\.venv/bin/python (-m pdoc .*)$", text, re.MULTILINE)
    arguments = shlex.split(command)
    arguments[arguments.index("-o") + 1] = str(tmp_path)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Warn" not in result.stderr
    page = (tmp_path / "postproc.html").read_text("utf-8")
    assert "Algorithm 1 of [SCC]" in page or "ChainingCluster" in page
    assert (tmp_path / "lightning_modules.html").is_file()
