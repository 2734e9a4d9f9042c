"""The orthogonal projection loss ([OPL]) as the FOP baseline uses it ([FOP])."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.schema import DataError
from lightning_modules.losses.gather import gather_rows


class OrthogonalProjectionLoss(nn.Module):
    """``(1 - mean cosine of same-label pairs) + weight * mean |cosine| of different-label pairs``, no self-pairs.

    If a batch has no same-label (different-label) pairs, that term is 0. Under DDP, the pairs are those of the batches
    of all ranks, and every rank returns the same value.

    Args:
        weight: of the different-label term; 0.7 as in the baseline's code.

    Raises:
        DataError: a negative weight.
        ValueError: inputs that are not (B, d) embeddings and (B,) labels.
    """

    def __init__(self, weight: float = 0.7) -> None:
        super().__init__()
        if not weight >= 0:
            raise DataError(f"weight is {weight}; it must be 0 or more (0.7 in the baseline)")
        self.weight = weight

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        """Loss of embeddings (B, d) of any length with labels (B,) int64."""
        if embedding.ndim != 2 or label.shape != embedding.shape[:1]:
            raise ValueError(
                f"embedding {tuple(embedding.shape)} and label {tuple(label.shape)} must be (B, d) and (B,)"
            )
        with torch.autocast(embedding.device.type, enabled=False):
            unit = F.normalize(gather_rows(embedding.float()), dim=1)
            labels = gather_rows(label)
            cosine = unit @ unit.T
            same = labels[:, None] == labels[None, :]
            different = ~same
            same = same.fill_diagonal_(False)
            loss = cosine.new_zeros(())
            if same.any():
                loss = loss + 1 - cosine[same].mean()
            if different.any():
                loss = loss + self.weight * cosine[different].abs().mean()
            return loss
