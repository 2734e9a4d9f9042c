"""Batches larger than memory: embeddings now, gradients chunk by chunk later."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute


def embed_in_chunks(embed: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """``embed(x)`` with the activations of one chunk in memory at a time (GradCache, arXiv 2101.06983).

    Chunks are embedded without keeping activations. The loss sees all embeddings at once, so its negatives are the
    whole batch. When the backward pass reaches a chunk with the gradient of its embeddings, the chunk is embedded anew,
    with the same dropout, masks and noise and the same autocast, and its part of the parameters' gradient is taken.
    The gradient is that of ``torch.cat([embed(part) for part in x.split(size)])``, for about a third more time. It all
    happens inside one backward pass, so precision plugins, clipping and DDP notice nothing.

    Args:
        embed: inputs (b, ...) -> embeddings (b, d), each row from its own input alone.
        x: (B, ...).
        size: rows of a chunk.
    """
    if len(x) <= size:
        return embed(x)
    return torch.cat([recompute(embed, part, use_reentrant=False) for part in x.split(size)])


def refuse_batch_norm(network: nn.Module) -> None:
    """Raises ValueError for a network whose embeddings depend on the rest of the batch, which chunks would change."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"model.chunk_size: network.{name} normalises over the batch, which chunks would change; "
                "use norm: layer, or no chunk_size"
            )
