"""Commands say what their options are within a second of CPU; a fit costs little beside the import of Lightning."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.console.early import importing
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


def test_imports_of_a_command_are_not_searched_for_garbage() -> None:
    code = "import gc, sys; sys.argv = ['voiceface']\nfrom experiments.console.early import importing\n"
    code += "with importing(): print(gc.isenabled(), gc.get_freeze_count() > 0)\n"
    code += "print(gc.isenabled(), gc.get_freeze_count() > 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.splitlines() == ["False False", "True True"]


def test_imports_of_a_notebook_leave_the_collector_alone() -> None:
    with importing():
        assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.perf
@pytest.mark.data
def test_a_fit_with_pictures_costs_little_more_than_twice_the_import_of_lightning(
    shared_data: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "VOICEFACE_DATA": str(shared_data), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    fit = ["-m", "experiments.run", "fit", "--config", "v1_eng_features.yaml", f"--run_dir={tmp_path}"]

    def spent(arguments: list[str]) -> float:
        before = cpu_seconds()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True, cwd=REPOSITORY, env=environment)
        return cpu_seconds() - before

    spent([*fit, "--pictures=false", "--logger=null", "--trainer.max_steps=1"])  # expands the feature files, once
    shutil.rmtree(tmp_path)
    assert spent(fit) < 2.9 * spent(["-c", "import lightning.pytorch"])
    assert len(list((tmp_path / "pictures").iterdir())) == 6
