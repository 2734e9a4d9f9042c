"""Every command but ``fit`` says what its options are within a second of CPU, and imports nothing slow for it."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from experiments.run import COMMANDS
from tests import REPOSITORY

QUICK = list(COMMANDS)
SLOW = ("torch", "lightning", "pandas", "scipy", "sklearn", "matplotlib", "wandb", "jsonargparse")
SECONDS = 1.0


def cpu_seconds() -> float:
    """Of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", QUICK)
def test_help_takes_less_than_a_second(command: str) -> None:
    code = f"import sys; from experiments.run import main; main([{command!r}, '--help']); "
    code += f"print('slow:', sorted(set({SLOW!r}) & set(sys.modules)))"
    before = cpu_seconds()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert cpu_seconds() - before < SECONDS
    assert "usage: experiments.run" in done.stdout
    assert done.stdout.splitlines()[-1] == "slow: []"


def test_import_experiments_is_quick() -> None:
    code = f"import sys, experiments; print(sorted(set({SLOW!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]"
