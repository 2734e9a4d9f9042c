"""Two real ranks: one that dies, one that is slow, and one with a NaN."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.faults.processes import SHORT, TWO_RANKS, finish, losses, paced, run, start, step, wait_until

pytestmark = pytest.mark.processes

TIME_OUT = 60  # seconds from the death of a rank to the end of the job


class Poison(Callback):
    """On rank 1 alone, at a step, the batch or a gradient is NaN.

    Args:
        what: ``batch`` or ``gradient``.
        at: the step.
    """

    def __init__(self, what: str, at: int) -> None:
        self.what, self.at = what, at

    def _now(self, trainer: Trainer, what: str) -> bool:
        return self.what == what and trainer.global_rank == 1 and trainer.global_step == self.at

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: dict, batch_idx: int) -> None:
        if self._now(trainer, "batch"):
            batch["voice"][0, 0] = float("nan")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._now(trainer, "gradient"):
            next(p for p in pl_module.parameters() if p.grad is not None).grad.view(-1)[0] = float("inf")


@pytest.mark.parametrize("victim", [0, 1])
def test_kill_9_of_a_rank_ends_the_job_with_an_error_and_leaves_no_process(victim: int, tmp_path: Path) -> None:
    process = start(*SHORT, *TWO_RANKS, *paced(0.2), f"--run_dir={tmp_path}")
    wait_until(lambda: min(step(tmp_path, rank)[0] for rank in (0, 1)) >= 9, process)
    ranks = [psutil.Process(step(tmp_path, rank)[1]) for rank in (0, 1)]
    os.kill(ranks[victim].pid, signal.SIGKILL)
    status, _ = finish(process, TIME_OUT)
    assert status != 0
    _, alive = psutil.wait_procs(ranks, timeout=TIME_OUT)
    assert not alive
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8


def test_a_slow_rank_changes_nothing(tmp_path: Path) -> None:
    command = [*SHORT, *TWO_RANKS, "--trainer.max_epochs=1"]
    for name, pace in (("even", []), ("slow", paced(0.5, rank=1))):
        status, output = run(*command, *pace, f"--run_dir={tmp_path / name}")
        assert status == 0, output
    assert losses(tmp_path / "slow") == losses(tmp_path / "even")
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("slow", "even")]
    assert results[0] == results[1]


@pytest.mark.parametrize("what", ["batch", "gradient"])
def test_a_nan_on_one_rank_stops_all_before_the_step_and_keeps_last(what: str, tmp_path: Path) -> None:
    poison = ["--trainer.callbacks+=tests.faults.test_ranks.Poison", f"--trainer.callbacks.what={what}"]
    status, output = run(*SHORT, *TWO_RANKS, *poison, "--trainer.callbacks.at=11", f"--run_dir={tmp_path}")
    assert status != 0
    named = "loss" if what == "batch" else "gradient"
    assert f"step 11: {named}" in output
    assert "stopped before the optimiser step" in output
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 8
    assert all(torch.isfinite(w).all() for w in last["state_dict"].values())
    saved = [torch.load(tmp_path / f"nonfinite_step11_rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.isfinite(saved[0]["voice"]).all()
    assert bool(torch.isnan(saved[1]["voice"]).any()) == (what == "batch")
    assert set(losses(tmp_path)) <= set(range(12))
