"""Checks that a checkpoint is of this model before anything of it is restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from datamodules.schema import DataError
from lightning_modules.networks.weights import misfits

RESUMING = ("loops", "callbacks", "optimizer_states", "lr_schedulers")


def require_fitting(module: nn.Module, checkpoint: Mapping[str, Any], path: str, resuming: bool) -> None:
    """Raises unless a Lightning checkpoint holds every tensor of the model, in its shape, and no other.

    Args:
        module: the model.
        checkpoint: as Lightning read it.
        path: named in the error.
        resuming: training goes on, which takes the state of loops, callbacks and optimisers too.

    Raises:
        DataError: lists the keys in one line.
    """
    if found := misfits(module.state_dict(), checkpoint["state_dict"]):
        raise DataError(
            f"{path} is not of this model ({type(module).__name__}): {found}; give its config or another checkpoint"
        )
    missing = [key for key in RESUMING if key not in checkpoint]
    if resuming and missing:
        raise DataError(f"{path} holds weights alone, no {', '.join(missing)}: start from them with --model.weights")
