"""Batches larger than memory: gradients are computed chunk by chunk ([GradCache])."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute


def embed_in_chunks(embed: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """``embed(x)`` with the activations of only one chunk in memory at a time ([GradCache]).

    Chunks are embedded without keeping activations. The loss sees all embeddings at once, so its negatives are the
    whole batch. The backward pass embeds each chunk a second time, with the same dropout, masks, noise and autocast,
    and adds its part of the parameters' gradient. The gradient is that of
    ``torch.cat([embed(part) for part in x.split(size)])``, in about a third more time. Everything happens inside one
    backward pass, so precision plugins, gradient clipping and DDP work as usual.

    Args:
        embed: inputs (b, ...) -> embeddings (b, d); each row may depend only on its own input.
        x: (B, ...) inputs.
        size: number of rows of a chunk.
    """
    if len(x) <= size:
        return embed(x)
    return torch.cat([recompute(embed, part, use_reentrant=False) for part in x.split(size)])


def refuse_batch_norm(network: nn.Module) -> None:
    """Refuses networks with batch normalisation, whose embeddings depend on the rest of the batch.

    Raises:
        ValueError: names the layer.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"model.chunk_size does not work with batch normalisation (network.{name}); "
                "use norm: layer, or no chunk_size"
            )
