"""The orthogonal projection loss of the FOP baseline ([FOP], method.md section 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.schema import DataError
from lightning_modules.losses.gather import gather_rows


class OrthogonalProjectionLoss(nn.Module):
    """``(1 - mean cosine of same-label pairs) + weight * mean |cosine| of different-label pairs``, diagonal left out.

    A batch without same-label (different-label) pairs drops that term: nothing is known about it.
    Under DDP the pairs are those of the global batch and every rank returns the same value.

    Args:
        weight: of the different-label term; the baseline's is 0.7.
    """

    def __init__(self, weight: float = 0.7) -> None:
        super().__init__()
        if not weight >= 0:
            raise DataError(f"weight is {weight}; give 0 or more (the baseline has 0.7)")
        self.weight = weight

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        """Loss of embeddings (B, d), any length, with labels (B,) int64."""
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
