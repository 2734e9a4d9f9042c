"""Stops training before a step with a NaN or infinite loss or gradient; refuses checkpoints of another model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from datamodules.io.writing import CannotWrite, draft_of, make_folder
from datamodules.schema import DataError
from lightning_modules.networks.weights import added_since, misfits


class NonFiniteError(RuntimeError):
    """Loss or gradient is NaN or infinite; the weights are still those before the step."""


def require_finite(module: LightningModule, loss: Tensor, batch: Any) -> None:
    """Raises on every rank if loss or gradients are not finite on any rank; call it before the optimiser step.

    Saves the last batch of each rank as ``nonfinite_step<step>_rank<rank>.pt`` in the trainer's root directory. With a
    gradient scaler (16-mixed) only the loss is checked: the scaler skips infinite gradients itself.

    Args:
        module: the model; gives gradients, step and ranks.
        loss: sum of the losses since the last step on this rank.
        batch: the last training batch of this rank.

    Raises:
        NonFiniteError: names the step, what is not finite, and the saved batch.
    """
    trainer = module.trainer
    loss_is_finite = bool(torch.isfinite(loss))
    gradients_are_finite = True
    if getattr(trainer.precision_plugin, "scaler", None) is None:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        gradients_are_finite = bool(torch.isfinite(get_total_norm(gradients)))
    fine = loss_is_finite and gradients_are_finite
    if trainer.strategy.reduce_boolean_decision(fine, all=True):
        return
    what = "loss" if not loss_is_finite else "gradient" if not gradients_are_finite else "loss on another rank"
    path = Path(trainer.default_root_dir) / f"nonfinite_step{module.global_step}_rank{module.global_rank}.pt"
    try:
        make_folder(path.parent)
        with draft_of(path, (RuntimeError,)) as draft, draft.open("wb") as file:
            torch.save(batch, file)
        saved = f"the batch is in {path}"
    except CannotWrite as error:
        saved = f"the batch could not be saved to {error}"
    raise NonFiniteError(
        f"step {module.global_step}: {what} is NaN or infinite, training stopped before the optimiser step; {saved}; "
        "lower the learning rate, set trainer.gradient_clip_val, or check the data"
    )


def shards_weights(trainer: Trainer) -> bool:
    """Whether each rank holds only a part of the weights, as with FSDP."""
    return bool(trainer.strategy.restore_checkpoint_after_setup)


RESUMING = ("loops", "callbacks", "optimizer_states", "lr_schedulers")


def require_fitting(module: nn.Module, checkpoint: Mapping[str, Any], path: str, resuming: bool) -> None:
    """Raises unless a Lightning checkpoint holds every tensor of the model, in its shape, and no other.

    Args:
        module: the model.
        checkpoint: content of the file.
        path: of the file, for the error.
        resuming: whether training is resumed, which also needs the state of loops, callbacks and optimisers.

    Raises:
        DataError: lists the keys in one line.
    """
    if problems := misfits(module.state_dict(), checkpoint["state_dict"], added_since(module)):
        raise DataError(
            f"{path} is a checkpoint of another model than this {type(module).__name__}: {problems}; "
            "use its config, or another checkpoint"
        )
    missing = [key for key in RESUMING if key not in checkpoint]
    if resuming and missing:
        raise DataError(f"{path} holds only weights, no {', '.join(missing)}; start from them with --model.weights")
