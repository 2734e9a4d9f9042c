"""Progress of a fit or test as lines."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.io.text import counted
from experiments.console.progress import TENTHS, clock, times

MOST_LINES = 50  # of a training


class LineProgress(Callback):
    """The progress of a fit or test as lines, for logs: where there is no terminal to draw a bar on.

    A line per ``log_every_n_steps`` optimiser steps, or fewer, so that a training has about fifty at most; a line per
    tenth of a test. Rank 0 only.
    """

    def __init__(self) -> None:
        self.start, self.first, self.every, self.last = 0.0, 0, 1, -1
        self.total = float("inf")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start, self.first, self.total = time.monotonic(), trainer.global_step, trainer.estimated_stepping_batches
        lines = 0 if self.total == float("inf") else int(self.total) // MOST_LINES
        self.every = max(1, trainer.log_every_n_steps, lines)  # type: ignore[attr-defined]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if trainer.is_global_zero and step != self.last and step % self.every == 0:
            self.last = step
            total = "" if self.total == float("inf") else f"/{int(self.total)}"
            left = times(self.start, step - self.first, self.total - self.first)
            shown = [f"{name} {value:.4g}" for name, value in trainer.progress_bar_metrics.items()]
            print(f"step {step}{total}, epoch {trainer.current_epoch}: {', '.join([*shown, left])}", flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            took = clock(time.monotonic() - self.start)
            steps, epochs = counted(trainer.global_step, "step"), counted(trainer.current_epoch, "epoch")
            print(f"trained {steps}, {epochs} in {took}", flush=True)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._evaluated(trainer, "test", trainer.num_test_batches[dataloader_idx], batch_idx, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._evaluated(trainer, "predict", trainer.num_predict_batches[dataloader_idx], batch_idx, dataloader_idx)

    def _evaluated(self, trainer: Trainer, what: str, total: int | float, batch: int, loader: int) -> None:
        done = batch + 1
        every = 1 if total == float("inf") else max(1, int(total) // TENTHS)
        if trainer.is_global_zero and (done % every == 0 or done == total):
            print(f"{what}: {done}/{total} batches of {('voices', 'faces')[loader]}", flush=True)
