"""Which processors compute bfloat16, and a warning where one only imitates it."""

from __future__ import annotations

import warnings

import torch
from lightning.pytorch import Trainer


def computes_bf16(device: str) -> bool:
    """Whether a kind of device has bfloat16 arithmetic; others imitate it, many times more slowly than float32.

    Args:
        device: torch's name of the kind: ``cpu``, ``cuda``, ``mps``.
    """
    return device != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_of_imitated_bf16(trainer: Trainer) -> None:
    """Warns where a run is about to train in bfloat16 on a processor without it."""
    device = trainer.strategy.root_device.type
    if str(trainer.precision).startswith("bf16") and not computes_bf16(device):
        warnings.warn(
            f"trainer.precision is {trainer.precision}, which this processor imitates, many times more slowly than "
            "float32; add --trainer.precision 32-true",
            stacklevel=2,
        )
