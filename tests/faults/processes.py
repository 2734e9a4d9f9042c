"""Starts the command line in a separate process, as users do, to inject faults into it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer

from tests import TINY, warm

TWO_RANKS = ["--trainer.devices=2", "--trainer.strategy=ddp"]
SHORT = [
    *(
        "fit",
        "--config",
        str(TINY),
        "--trainer.max_epochs=3",
        "--data.steps_per_epoch=8",
        "--model.network.dropout=0.5",
    ),
    *("--logger=logger/csv.yaml", "--trainer.log_every_n_steps=1", "--trainer.enable_model_summary=false"),
]
"""3 epochs of 8 steps, with dropout, every loss logged."""


class Pace(Callback):
    """Slows training down and writes the step that is running into the run folder, as ``step<rank>``.

    Args:
        seconds: before every batch.
        rank: only there; None for all.
    """

    def __init__(self, seconds: float, rank: int | None = None) -> None:
        self.seconds, self.rank = seconds, rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        path = Path(trainer.default_root_dir) / f"step{trainer.global_rank}"
        path.write_text(f"{trainer.global_step} {os.getpid()}")
        if self.rank in (None, trainer.global_rank):
            time.sleep(self.seconds)


class Dawdle(Callback):
    """A test whose results take minutes; ``testing`` in the run folder tells that they have begun."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        (Path(trainer.default_root_dir) / "testing").touch()
        time.sleep(150)


def paced(seconds: float, rank: int | None = None) -> list[str]:
    """Arguments that add :class:`Pace`."""
    return [
        "--trainer.callbacks+=tests.faults.processes.Pace",
        f"--trainer.callbacks.seconds={seconds}",
        f"--trainer.callbacks.rank={'null' if rank is None else rank}",
    ]


def start(*arguments: str, **environment: str) -> warm.Started:
    """``python -m experiments.run`` with stdout and stderr together in a pipe."""
    return warm.start(*arguments, environment={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def finish(process: warm.Started, timeout: float = 200) -> tuple[int, str]:
    """Exit status and output."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"still running after {timeout} s: {process.communicate()[0][-2000:]}") from None
    return process.returncode, output


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Starts and finishes."""
    return finish(start(*arguments, **environment))


def wait_until(condition: Callable[[], bool], process: warm.Started, timeout: float = 150) -> None:
    """Returns as soon as the condition holds; fails if the process ends or the time is up before."""
    deadline = time.monotonic() + timeout
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()[0][-3000:]}")
        assert time.monotonic() < deadline, "time is up"
        time.sleep(0.02)


def step(run: Path, rank: int = 0) -> tuple[int, int]:
    """The step that is running and its process; (-1, 0) before the first."""
    path = run / f"step{rank}"
    words = path.read_text().split() if path.exists() else []
    return (int(words[0]), int(words[1])) if len(words) == 2 else (-1, 0)


def losses(run: Path) -> dict[int, float]:
    """The training loss by step, over all the sessions of a run."""
    found: dict[int, float] = {}
    for path in sorted(run.rglob("metrics.csv")):
        table = pd.read_csv(path)
        if "train/loss" in table:
            table = table.dropna(subset=["train/loss"])
            found |= dict(zip(table["step"].tolist(), table["train/loss"].tolist(), strict=True))
    return found
