"""``fit --resume auto``: a run continues from its newest checkpoint and ends as if never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.io.writing import write_json
from lightning_modules.training.optim import renew_schedule

TRAINED = "trained.json"
"""Written into the run folder when training has ended by its schedule or by early stopping."""


def trained(run_dir: Path) -> int | None:
    """The step at which the training of a run ended; None while it has not."""
    try:
        return int(json.loads((run_dir / TRAINED).read_text(encoding="utf-8"))["steps"])
    except FileNotFoundError:
        return None


class Resumable(Callback):
    """Makes a resumed run the same as one that was never stopped, in what Lightning leaves out of a checkpoint.

    It saves torch's random state on every rank (dropout, noise), stops a run that early stopping had stopped already,
    and notes in the run folder that training has ended.

    Args:
        run_dir: the run folder.

    Attributes:
        renew: take the learning rates, schedule and other options of the optimiser from the config, not from the
            checkpoint.
        out_of_time: trainer.max_time ended training; the same on all ranks.
    """

    def __init__(self, run_dir: Path) -> None:
        self.marker = run_dir / TRAINED
        self.out_of_time = self.renew = False
        self._trainer: Trainer | None = None
        self._restore: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Called on every rank; rank 0's is written."""
        assert self._trainer is not None
        ranks = [_random_state()]
        if self._trainer.world_size > 1:
            ranks = ranks * self._trainer.world_size
            torch.distributed.all_gather_object(ranks, _random_state())
        return {"random": ranks, "inside_epoch": not self._trainer.is_last_batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restore = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.marker.unlink(missing_ok=True)
        if self.renew and trainer.global_step:
            _renew(trainer, pl_module)
        if self._restore is not None and not self._restore["inside_epoch"]:
            self._restore_random_state(trainer)
        if any(isinstance(c, EarlyStopping) and c.wait_count >= c.patience for c in _callbacks(trainer)):
            trainer.should_stop = True  # it was killed between the decision to stop and the end

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # not earlier: a loader that starts inside an epoch draws a seed for its workers, which had been drawn before
        if self._restore is not None:
            self._restore_random_state(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        left = [c.time_remaining() for c in _callbacks(trainer) if isinstance(c, Timer)]
        self.out_of_time = trainer.strategy.broadcast(any(seconds is not None and seconds <= 0 for seconds in left))
        tried_out = trainer.fast_dev_run  # type: ignore[attr-defined]
        if trainer.is_global_zero and not self.out_of_time and not tried_out:
            write_json(self.marker, {"epochs": trainer.current_epoch, "steps": trainer.global_step})

    def _restore_random_state(self, trainer: Trainer) -> None:
        assert self._restore is not None
        ranks, self._restore = self._restore["random"], None
        if trainer.global_rank < len(ranks):  # additional ranks start with new random states
            state = ranks[trainer.global_rank]
            torch.set_rng_state(state["cpu"])
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["cuda"])


def _renew(trainer: Trainer, module: LightningModule) -> None:
    """Optimisers and schedules of the config, at the step of the checkpoint."""
    if not trainer.optimizers:
        return
    made: Any = module.configure_optimizers()
    fresh = (made["optimizer"], made["lr_scheduler"]["scheduler"]) if isinstance(made, dict) else (made, None)
    scheduler = next((c.scheduler for c in trainer.lr_scheduler_configs), None)
    line = renew_schedule(trainer.optimizers[0], scheduler, fresh, trainer.global_step)
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        print(line, flush=True)


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]
