"""Ways to fuse a voice and a face embedding of one person into one (the FOP baseline, method.md section 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _Block(nn.Module):
    """Linear, BatchNorm, ReLU; the nesting carries the official checkpoints' key names."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class GatedFusion(nn.Module):
    """``g * tanh(f) + (1 - g) * tanh(v)`` with ``g = sigmoid(Linear(Linear-BN-ReLU([f, v])))``, all (B, d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(_Block(2 * dim, dim), nn.Linear(dim, dim))

    def forward(self, face: Tensor, voice: Tensor) -> Tensor:
        """Faces (B, d) and voices (B, d) -> fused (B, d)."""
        gate = torch.sigmoid(self.attention(torch.cat([face, voice], dim=1)))
        return gate * torch.tanh(face) + (1 - gate) * torch.tanh(voice)


class LinearFusion(nn.Module):
    """``w1 * f + w2 * v`` with two learned scalars, 1/2 each at the start (OPEN: the baseline draws them at random)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, face: Tensor, voice: Tensor) -> Tensor:
        """Faces (B, d) and voices (B, d) -> fused (B, d)."""
        return self.weight[0] * face + self.weight[1] * voice
