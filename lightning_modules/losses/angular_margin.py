"""A cosine classifier with an additive angular margin ([ArcFace])."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.schema import DataError

TINY = 1e-7  # keeps the derivative of the sine finite where an embedding lies on its class


class AngularMarginLoss(nn.Module):
    """Cross-entropy of ``scale * cos(angle)``, the angle to the embedding's own class enlarged by ``margin``.

    [ArcFace], Eq. 3. Where angle and margin exceed 180 degrees, the cosine falls on along a line, as in its authors'
    code. The loss is computed in float32 under any autocast. Under DDP each rank has the loss of its own rows.

    Args:
        classes: number of classes.
        embedding_dim: width of the embeddings.
        margin: in radians; 0 = an ordinary cosine classifier.
        scale: of the logits. Small scales are soft: all identities pull at an embedding.

    Raises:
        DataError: an option out of range.
    """

    def __init__(self, classes: int, embedding_dim: int, margin: float = 0.2, scale: float = 30.0) -> None:
        super().__init__()
        if not 0 <= margin < math.pi / 2:
            raise DataError(f"model.margin is {margin}; it must be at least 0 and below pi/2, in radians")
        if not (math.isfinite(scale) and scale > 0):
            raise DataError(f"model.scale is {scale}; it must be a positive number such as 30")
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(classes, embedding_dim))

    def forward(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """Mean loss of unit embeddings (B, d) with class indices (B,) int64."""
        with torch.autocast(embedding.device.type, enabled=False):
            cosine = F.normalize(embedding.float(), dim=1) @ F.normalize(self.weight.float(), dim=1).T
            own = cosine.gather(1, identity[:, None])
            sine = (1 - own**2).clamp(min=TINY).sqrt()
            enlarged = own * math.cos(self.margin) - sine * math.sin(self.margin)
            beyond = own < -math.cos(self.margin)
            enlarged = torch.where(beyond, own - self.margin * math.sin(self.margin), enlarged)
            return F.cross_entropy(self.scale * cosine.scatter(1, identity[:, None], enlarged), identity)
