"""Progress of long work: a Rich bar on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, TextIO, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import track as rich_track

TENTHS = 10
T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int, stream: TextIO | None = None) -> Iterator[T]:
    """Passes the items on under a bar on a terminal; elsewhere prints a line per tenth of them.

    Args:
        items: what is worked on, or what has just been finished.
        what: they are called.
        total: how many.
        stream: where progress goes; default: stderr.
    """
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        yield from rich_track(items, what, total=total, console=Console(file=stream))
        return
    start, every = time.monotonic(), max(1, total // TENTHS)
    for done, item in enumerate(items, 1):
        yield item
        if done % every == 0 or done == total:
            print(f"{what} {done}/{total}, {times(start, done, total)}", file=stream, flush=True)


def times(start: float, done: float, total: float) -> str:
    """Time since ``start`` (of ``time.monotonic``) and, where the total is known, what is left."""
    spent = time.monotonic() - start
    left = "" if total == float("inf") or not done else f", {clock(spent / done * (total - done))} left"
    return f"{clock(spent)}{left}"


def clock(seconds: float) -> str:
    """``h:mm:ss``."""
    return str(timedelta(seconds=round(seconds)))


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
            print(f"trained {trainer.global_step} steps, {trainer.current_epoch} epochs in {took}", flush=True)

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
