"""Optimiser, schedule and weight averaging for fine-tuning transformers; YAML names them for any method."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from datamodules.schema import DataError
from lightning_modules.training.safety import shards_weights


class LayerwiseAdamW(AdamW):
    """AdamW without weight decay on vectors, and with smaller learning rates in lower layers. Not from the papers.

    Biases, norms, tokens and temperatures (at most one dimension larger than 1) get no decay. The attribute
    ``layers_above`` of a parameter says how many layers lie above it (``CAVMAE`` sets it); without it, a parameter
    counts as part of the top layer.

    Args:
        params: parameters.
        lr: learning rate of the top layer.
        weight_decay: of matrices.
        layer_decay: factor of the learning rate per layer below the top; 1 = one rate for all, 0.65 to 0.9 are usual.
        betas: of AdamW.

    Raises:
        ValueError: no parameters; ``layer_decay`` outside (0, 1], or below 1 for a network without ``layers_above``.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        layer_decay: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        parameters = list(params)
        if not parameters:
            raise ValueError("optimizer: all parameters are frozen; freeze fewer (model.network.freeze)")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"optimizer.layer_decay is {layer_decay}; it must be above 0 and at most 1")
        if layer_decay < 1 and not any(hasattr(p, "layers_above") for p in parameters):
            raise ValueError(
                f"optimizer.layer_decay is {layer_decay}, but this network does not number its layers; use 1"
            )
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for parameter in parameters:
            vector = sum(size > 1 for size in getattr(parameter, "whole_shape", parameter.shape)) <= 1
            groups.setdefault((getattr(parameter, "layers_above", 0), vector), []).append(parameter)
        described: list[dict[str, Any]] = [
            {"params": members, "lr": lr * layer_decay**above, "weight_decay": 0.0 if vector else weight_decay}
            for (above, vector), members in sorted(groups.items(), key=lambda item: item[0])
        ]
        # fused: one pass over the weights instead of ten, several times faster on a CPU
        super().__init__(described, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        # Lightning refuses to clip gradients if fused steps take the scale of the loss scaler; unscale them as usual
        self._step_supports_amp_scaling = False


def note_shapes(parameters: Iterable[nn.Parameter]) -> None:
    """Keeps the shape of each parameter as ``whole_shape``: FSDP leaves a rank only a vector, its shard."""
    for parameter in parameters:
        parameter.whole_shape = parameter.shape  # type: ignore[attr-defined]


class WarmupCosine(LambdaLR):
    """Linear warm-up, then half a cosine down; stepped after every optimiser step.

    Args:
        optimizer: its learning rates are scaled, all groups by the same factor.
        total_steps: optimiser steps of the run; later steps keep the final rate.
        warmup_steps: steps until the full rate.
        final: final rate as a fraction of the full rate.

    Raises:
        ValueError: ``warmup_steps`` is negative, or not below ``total_steps``.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup_steps: int = 0, final: float = 0.0) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"scheduler.warmup_steps is {warmup_steps}; it must be 0 or more and below total_steps, {total_steps}"
            )
        self.total_steps, self.warmup_steps, self.final = total_steps, warmup_steps, final
        super().__init__(optimizer, self._factor)

    def _factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


def train_on(
    optimizer: Optimizer, scheduler: Any, saved: dict[str, Any], schedule: dict[str, Any] | None, steps: int
) -> bool:
    """Puts a new optimiser and its scheduler where those of a checkpoint were; their options stay.

    The optimiser takes the saved moments, unless they are those of one with other options. The scheduler takes its
    steps again. ``ReduceLROnPlateau`` cannot: it takes the reductions of the saved one, where that was one too.

    Args:
        optimizer: as the config makes it; changed in place.
        scheduler: of ``optimizer``, or None; changed in place.
        saved: state of the optimiser of the checkpoint.
        schedule: state of its scheduler, None if it had none.
        steps: how often a scheduler of this kind has been stepped by now.

    Returns:
        Whether the moments were taken.
    """
    state = optimizer.state_dict()
    fits = _options(saved["param_groups"]) == _options(state["param_groups"])
    if fits:
        optimizer.load_state_dict({"state": saved["state"], "param_groups": state["param_groups"]})
    if isinstance(scheduler, ReduceLROnPlateau):
        if schedule is not None and schedule.get("mode") == scheduler.mode and "num_bad_epochs" in schedule:
            scheduler.__dict__.update({name: schedule[name] for name in FOUND})
            for group, before in zip(optimizer.param_groups, saved["param_groups"], strict=False):
                group["lr"] *= before["lr"] / before.get("initial_lr", before["lr"])
    elif scheduler is not None:
        with warnings.catch_warnings():
            # the steps of training were taken by the optimiser that the checkpoint is of
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            for _ in range(steps):
                scheduler.step()
    return fits


FOUND = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
"""What ``ReduceLROnPlateau`` has come to; its other attributes are options."""


def _options(groups: list[dict[str, Any]]) -> list[tuple[int, list[str]]]:
    """Number of parameters and names of options by group, which tell the optimiser's class."""
    return [(len(group["params"]), sorted(group.keys() - {"params", "initial_lr"})) for group in groups]


class AveragedWeights(EMAWeightAveraging):
    """Validates, saves and tests an exponential moving average of the weights. Not from the papers.

    Lightning's callback with one change: it loads a checkpoint for a test with the averaged weights, where Lightning's
    would replace them by the weights that were not averaged.

    Args:
        decay: of the average per update; it covers about the last ``1 / (1 - decay)`` updates.
        update_every_n_steps: optimiser steps between updates.
        update_starting_at_step: the average starts from the weights after this step; None = from the first.

    Raises:
        DataError: each rank holds only a part of the weights.
    """

    def __init__(
        self, decay: float = 0.999, update_every_n_steps: int = 1, update_starting_at_step: int | None = None
    ) -> None:
        super().__init__(None, True, decay, update_every_n_steps, update_starting_at_step)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if shards_weights(trainer):
            strategy = type(trainer.strategy).__name__
            raise DataError(f"AveragedWeights cannot average the parts of weights of {strategy}; use one of the two")
        super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # resuming; otherwise the averaged weights are loaded already
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
