"""``fit --resume auto``: a run continues from its newest checkpoint and ends as if never stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.io.text import plain_file
from datamodules.io.writing import write_json
from lightning_modules.training.optim import train_on

TRAINED = "trained.json"
"""Written into the run folder when training has ended by its schedule or by early stopping."""


def trained(run_dir: Path) -> int | None:
    """The step at which the training of a run ended; None while it has not."""
    try:
        return int(json.loads(plain_file(run_dir / TRAINED).read_text(encoding="utf-8"))["steps"])
    except FileNotFoundError:
        return None


def nothing_left(checkpoint: Mapping[str, Any], trainer: Trainer) -> str:
    """Why there is nothing to train from a checkpoint on: the trainer's epochs or steps are done; "" if there is."""
    steps, most = int(checkpoint["global_step"]), trainer.max_steps
    if 0 <= most <= steps:
        return f"{steps} steps are trained, and trainer.max_steps is {most}"
    loop = (checkpoint.get("loops") or {}).get("fit_loop") or {}
    epochs = loop.get("epoch_progress", {}).get("current", {}).get("ready", 0)
    epochs -= not loop.get("epoch_loop.batch_progress", {}).get("is_last_batch", True)
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs:
        return f"{epochs} epochs are trained, and trainer.max_epochs is {trainer.max_epochs}"
    return ""


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
        self._epochs: int | None = None
        self._monitored: dict[str, float] = {}
        self._optimisers: list[dict[str, Any]] = []
        self._schedules: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Called on every rank; rank 0's is written."""
        assert self._trainer is not None
        ranks = [_random_state()]
        if self._trainer.world_size > 1:
            ranks = ranks * self._trainer.world_size
            torch.distributed.all_gather_object(ranks, _random_state())
        inside = not self._trainer.is_last_batch
        epochs = self._trainer.fit_loop.epoch_progress.current.ready - inside
        metrics = self._trainer.callback_metrics
        monitors = [c.monitor for c in self._trainer.lr_scheduler_configs if c.reduce_on_plateau]
        monitored = {name: float(metrics[name]) for name in monitors if name in metrics and not inside}
        return {"random": ranks, "inside_epoch": inside, "epochs": epochs, "monitored": monitored}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restore = state_dict
        self._epochs, self._monitored = state_dict.get("epochs"), state_dict.get("monitored", {})

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps optimisers and schedules of the checkpoint from Lightning, which takes their options from it."""
        if self.renew and trainer.state.fn == TrainerFn.FITTING:
            self._optimisers, checkpoint["optimizer_states"] = checkpoint["optimizer_states"], []
            self._schedules, checkpoint["lr_schedulers"] = checkpoint["lr_schedulers"], []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.marker.unlink(missing_ok=True)
        self._train_on(trainer)
        if self._restore is not None and not self._restore["inside_epoch"]:
            self._restore_random_state(trainer)
        if any(isinstance(c, EarlyStopping) and c.wait_count >= c.patience for c in _callbacks(trainer)):
            trainer.should_stop = True  # it was killed between the decision to stop and the end
            if trainer.is_global_zero:
                print("early stopping has ended this training; raise its patience to train on", flush=True)

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

    def _train_on(self, trainer: Trainer) -> None:
        """Gives the optimisers of the config the moments of the checkpoint, and its schedules their steps."""
        epochs = trainer.current_epoch if self._epochs is None else self._epochs
        fit = []
        for i, (optimizer, saved) in enumerate(zip(trainer.optimizers, self._optimisers, strict=False)):
            config = next((c for c in trainer.lr_scheduler_configs if c.scheduler.optimizer is optimizer), None)
            passed = epochs if config is not None and config.interval == "epoch" else trainer.global_step
            steps = passed // (1 if config is None else config.frequency)
            schedule = self._schedules[i] if i < len(self._schedules) else None
            fit.append(train_on(optimizer, config and config.scheduler, saved, schedule, steps))
        for config in trainer.lr_scheduler_configs:  # a checkpoint is written before the step at the end of its epoch
            if config.reduce_on_plateau and config.monitor in self._monitored and not epochs % config.frequency:
                plateau: Any = config.scheduler
                plateau.step(self._monitored[config.monitor])
        if fit and trainer.global_step and trainer.is_global_zero:
            print(f"training on from step {trainer.global_step}: {_rate_line(trainer, all(fit))}", flush=True)
        self._optimisers, self._schedules, self._monitored = [], [], {}

    def _restore_random_state(self, trainer: Trainer) -> None:
        assert self._restore is not None
        ranks, self._restore = self._restore["random"], None
        if trainer.global_rank < len(ranks):  # additional ranks start with new random states
            state = ranks[trainer.global_rank]
            torch.set_rng_state(state["cpu"])
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["cuda"])


def _rate_line(trainer: Trainer, moments: bool) -> str:
    rate = max(group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups)
    if not rate:
        return "the learning rate is 0 from here on, where the schedule ends; give it more steps to train on"
    lost = "" if moments else "; the optimiser is another one and starts without moments"
    return f"the learning rate and schedule are those of the config, now {rate:.3g}{lost}"


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]
