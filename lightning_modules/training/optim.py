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
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


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
            vector = sum(size > 1 for size in parameter.shape) <= 1
            groups.setdefault((getattr(parameter, "layers_above", 0), vector), []).append(parameter)
        described: list[dict[str, Any]] = [
            {"params": members, "lr": lr * layer_decay**above, "weight_decay": 0.0 if vector else weight_decay}
            for (above, vector), members in sorted(groups.items(), key=lambda item: item[0])
        ]
        # fused: one pass over the weights instead of ten, several times faster on a CPU
        super().__init__(described, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        # Lightning refuses to clip gradients if fused steps take the scale of the loss scaler; unscale them as usual
        self._step_supports_amp_scaling = False


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


def renew_schedule(optimizer: Optimizer, scheduler: Any, fresh: tuple[Optimizer, Any], steps: int) -> str:
    """Gives a loaded optimiser the options of the config, and the learning rates of the config's schedule.

    Lightning restores both from a checkpoint, with the values of the run that wrote it. Moments stay, unless they are
    those of an optimiser with other options, which starts without any.

    Args:
        optimizer: as loaded; changed in place.
        scheduler: of ``optimizer`` as loaded, or None; changed in place. ``ReduceLROnPlateau`` stays as it is.
        fresh: optimiser and scheduler as the config makes them; used up.
        steps: how often the scheduler has been stepped.

    Returns:
        A line about the learning rate.
    """
    made, schedule = fresh
    if isinstance(schedule, LRScheduler):
        with warnings.catch_warnings():
            # the steps of training were taken by the optimiser that the checkpoint is of
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            for _ in range(steps):
                schedule.step()
        kept = {"optimizer": optimizer, "_step_count": scheduler._step_count}
        scheduler.__dict__.update({k: v for k, v in vars(schedule).items() if k not in kept and not callable(v)})
        if hasattr(schedule, "lr_lambdas"):
            scheduler.lr_lambdas = schedule.lr_lambdas
    another = _options(optimizer) != _options(made)
    if another:
        optimizer.state.clear()
    for group, new in zip(optimizer.param_groups, made.param_groups, strict=True):
        rate = group["lr"] if scheduler is not None and not isinstance(schedule, LRScheduler) else new["lr"]
        group.update({k: v for k, v in new.items() if k != "params"} | {"lr": rate})
    rates = [group["lr"] for group in optimizer.param_groups]
    if not any(rates):
        return f"the learning rate is 0 from step {steps} on, where the schedule ends; give it more steps to train on"
    moments = "; the optimiser is another one and starts without moments" if another else ""
    rate = f"the learning rate and schedule of the config, now {max(rates):.3g}"
    return f"training on from step {steps} with {rate}{moments}"


def _options(optimizer: Optimizer) -> set[str]:
    """Names of an optimiser's options, which tell its class."""
    return {name for group in optimizer.param_groups for name in group} - {"params", "initial_lr"}


class AveragedWeights(EMAWeightAveraging):
    """Validates, saves and tests an exponential moving average of the weights. Not from the papers.

    Lightning's callback with one change: it loads a checkpoint for a test with the averaged weights, where Lightning's
    would replace them by the weights that were not averaged.

    Args:
        decay: of the average per update; it covers about the last ``1 / (1 - decay)`` updates.
        update_every_n_steps: optimiser steps between updates.
        update_starting_at_step: the average starts from the weights after this step; None = from the first.
    """

    def __init__(
        self, decay: float = 0.999, update_every_n_steps: int = 1, update_starting_at_step: int | None = None
    ) -> None:
        super().__init__(None, True, decay, update_every_n_steps, update_starting_at_step)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # resuming; otherwise the averaged weights are loaded already
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
