"""A moving average of the weights, in the checkpoint and in the test."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn


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
