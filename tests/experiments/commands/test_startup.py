"""``--help`` of commands answers at once: nothing slow is imported before the arguments are parsed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests import REPOSITORY

SLOW = {"torch", "lightning", "pandas", "scipy", "sklearn", "matplotlib", "faiss", "wandb"}
CODE = """
import sys
from experiments.run import main
try:
    main([sys.argv[1], "--help"])
finally:
    print("modules:", *sys.modules)
"""


@pytest.mark.parametrize("command", ["dashboard", "protocol", "refine", "report", "score", "submit", "sweep"])
def test_help_takes_less_than_a_second_of_cpu(command: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", CODE, command], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        said, _, modules = process.stdout.read().rpartition("modules:")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert f"usage: experiments.run {command}" in said
    assert SLOW & set(modules.split()) == set()
    assert usage.ru_utime + usage.ru_stime < 1
