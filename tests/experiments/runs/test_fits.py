"""Fits one after the other in one process, as workers run them."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from experiments.commands import fit
from experiments.runs.fits import Fit
from tests import REPOSITORY

TINY = REPOSITORY / "tests" / "conf" / "tiny.yaml"


@dataclass(frozen=True)
class Sleeper:
    """A job of ten minutes that leaves its process id."""

    file: Path

    def run(self) -> None:
        self.file.write_text(str(os.getpid()))
        time.sleep(600)


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does within three minutes, which a process of its own may need to start on a busy machine."""
    for _ in range(1800):
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_works_for_a_killed_process_ends_with_it(tmp_path: Path, number: int) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    script = (
        "from pathlib import Path; from experiments.runs.fits import run_jobs\n"
        "from tests.experiments.runs.test_fits import Sleeper\n"
        f"run_jobs([Sleeper(Path(f)).run for f in {[str(f) for f in files]}], 2, 'jobs')"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    assert comes_true(lambda: all(f.exists() and f.read_text() for f in files))
    workers = [int(f.read_text()) for f in files]
    parent.send_signal(number)
    parent.wait()
    try:
        assert comes_true(lambda: not any(Path(f"/proc/{w}").exists() for w in workers))
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def test_a_fit_leaves_nothing_of_itself_to_the_next(tmp_path: Path) -> None:
    """Python's own collector is off: it comes too rarely in a process of many objects to count on it."""
    kept = []
    gc.disable()
    try:
        for number in range(3):
            run = tmp_path / str(number)
            command = ("fit", f"--config={TINY}", "--trainer.max_epochs=1", "--no-test", f"--run_dir={run}")
            assert Fit(run, command).run(fit.main) is None
            kept.append(sum(type(thing) is Trainer for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert kept[0] == kept[1] == kept[2]
