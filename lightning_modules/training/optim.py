"""What fine-tuning a transformer wants of its optimiser and schedule; named in YAML, works with every method."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


class LayerwiseAdamW(AdamW):
    """AdamW that spares vectors from weight decay and can teach lower layers slower. Not from the paper.

    Biases, norms, tokens and temperatures (one dimension larger than 1, or none) get no decay. A network says on its
    parameters how many layers lie above them (``CAVMAE`` does); parameters without a word count as the top.

    Args:
        params: parameters.
        lr: learning rate of the top layer.
        weight_decay: of matrices.
        layer_decay: each layer down multiplies the rate by this; 1 = one rate for all, 0.65-0.9 are usual.
        betas: of AdamW.

    Raises:
        ValueError: nothing to train; layer_decay outside (0, 1], or for a network that does not number its layers.
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
            raise ValueError("optimizer: no parameter left to train; freeze fewer (model.network.freeze)")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"optimizer.layer_decay: {layer_decay} must be above 0 and at most 1")
        if layer_decay < 1 and not any(hasattr(p, "layers_above") for p in parameters):
            raise ValueError(
                f"optimizer.layer_decay: {layer_decay}, but this network does not number its layers; use 1"
            )
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for parameter in parameters:
            vector = sum(size > 1 for size in parameter.shape) <= 1
            groups.setdefault((getattr(parameter, "layers_above", 0), vector), []).append(parameter)
        described: list[dict[str, Any]] = [
            {"params": members, "lr": lr * layer_decay**above, "weight_decay": 0.0 if vector else weight_decay}
            for (above, vector), members in sorted(groups.items(), key=lambda item: item[0])
        ]
        # one pass over the weights instead of ten: of 164 M on a CPU 0.12 s a step instead of 0.85
        super().__init__(described, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        # a loss scaler may hand fused steps its scale; Lightning then refuses to clip gradients. Unscale them as usual.
        self._step_supports_amp_scaling = False


class WarmupCosine(LambdaLR):
    """Linear warm-up, then half a cosine down; stepped every optimiser step.

    Args:
        optimizer: whose rates it scales, each group's by the same factor.
        total_steps: optimiser steps of the run; afterwards the rate stays at its end.
        warmup_steps: steps until the full rate.
        final: rate at the end, as a share of the full rate.

    Raises:
        ValueError: no room for the cosine.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup_steps: int = 0, final: float = 0.0) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(f"scheduler.warmup_steps: {warmup_steps} must be below total_steps = {total_steps}")
        self.total_steps, self.warmup_steps, self.final = total_steps, warmup_steps, final
        super().__init__(optimizer, self._factor)

    def _factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


class AveragedWeights(EMAWeightAveraging):
    """Validates, keeps and tests an exponential moving average of the weights. Not from the paper.

    Lightning's callback, but for one thing: after a fit, loading a checkpoint to test would put the weights that were
    not averaged into the model.

    Args:
        decay: of the average, per step; it looks back over about ``1 / (1 - decay)`` steps.
        update_every_n_steps: how often it is taken.
        update_starting_at_step: the average starts from the weights of this step; None = from the first.
    """

    def __init__(
        self, decay: float = 0.999, update_every_n_steps: int = 1, update_starting_at_step: int | None = None
    ) -> None:
        super().__init__(None, True, decay, update_every_n_steps, update_starting_at_step)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # to resume; else the average is all that is wanted, and is loaded
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
