"""What every run writes down beside its results, with or without a logger: environment.json and history.csv."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.io.writing import write_csv, write_json


class RunRecord(Callback):
    """Writes environment.json at the start and a row of history.csv per training epoch, on rank 0.

    A row holds ``epoch``, ``step`` (optimiser steps so far), ``seconds`` of the epoch, ``lr``, ``train/loss`` (mean of
    rank 0's batches) and the other metrics as they stood at its end. A resumed run replaces the rows of epochs it
    trains again; what an epoch had come to before it was stopped counts in its row. The loggers get the environment as
    a hyperparameter.

    Args:
        run_dir: the run folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.environment: dict[str, Any] | None = None
        self.rows: list[dict[str, Any]] = []
        self.loss: Tensor | None = None
        self.batches, self.start, self.spent = 0, 0.0, 0.0
        self._trainer: Trainer | None = None

    def state_dict(self) -> dict[str, Any]:
        """What the running epoch has come to; nothing at its end, where its row is as good as written."""
        if self._trainer is None or self._trainer.is_last_batch:
            return {}
        return {"loss": self.loss, "batches": self.batches, "seconds": time.perf_counter() - self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss, self.batches, self.spent = (state_dict[key] for key in ("loss", "batches", "seconds"))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer
        if self.environment is None and trainer.is_global_zero:
            self.environment = environment()
            write_json(self.run_dir / "environment.json", self.environment)
            for logger in trainer.loggers:
                logger.log_hyperparams({"environment": self.environment})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter() - self.spent  # inside an epoch, on_train_epoch_start does not come
        path = self.run_dir / "history.csv"
        if trainer.is_global_zero and trainer.global_step > 0 and path.is_file():
            self.rows = pd.read_csv(path).to_dict("records")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.loss, self.batches, self.start = None, 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(outputs, dict) and "loss" in outputs:  # a closed form has none
            loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
            self.loss = loss if self.loss is None else self.loss + loss  # stays on the device: no wait per batch
        self.batches += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # a checkpoint made by the validation of an epoch resumes at the end of that epoch: its row is there
        if not trainer.is_global_zero or not self.batches:
            return
        seconds = time.perf_counter() - self.start
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step, "seconds": seconds}
        row["lr"] = next((group["lr"] for o in trainer.optimizers for group in o.param_groups), None)
        row |= {name: value.item() for name, value in trainer.callback_metrics.items()}
        if self.loss is not None:
            row["train/loss"] = self.loss.item() / self.batches
        self.rows = [*(before for before in self.rows if before["epoch"] < trainer.current_epoch), row]
        write_csv(self.run_dir / "history.csv", pd.DataFrame(self.rows))


ROOT = Path(__file__).resolve().parents[2]


PACKAGES = ("torch", "lightning", "faiss-gpu", "faiss-cpu", "timm", "numpy", "scikit-learn", "pot", "wandb")


SHOWN = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_NTASKS", "VOICEFACE_DATA")


def environment() -> dict[str, Any]:
    """The git state (None outside of a checkout), Python, package versions, machine and telling variables."""
    return {
        "git": git_state(ROOT),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "variables": {name: os.environ[name] for name in SHOWN if name in os.environ},
        "executable": sys.executable,
    }


def git_state(root: Path) -> dict[str, Any] | None:
    """``commit``, ``dirty``, ``diff_lines`` (added and removed against the commit) and ``untracked`` files.

    None where ``root`` is not the top of a checkout with a commit, or there is no git.
    """
    if _git(root, "rev-parse", "--show-toplevel") != str(root):
        return None  # an installed package may lie inside somebody else's checkout
    commit, status = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain")
    if commit is None or status is None:
        return None
    counts = [line.split("\t")[:2] for line in (_git(root, "diff", "HEAD", "--numstat") or "").splitlines()]
    return {
        "commit": commit,
        "dirty": bool(status),
        "diff_lines": sum(int(n) for pair in counts for n in pair if n.isdigit()),
        "untracked": sum(line.startswith("??") for line in status.splitlines()),
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
