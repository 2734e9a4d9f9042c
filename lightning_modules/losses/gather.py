"""Rows of all ranks as one batch, with gradient: negatives under DDP are those of the global batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _GatherRows(torch.autograd.Function):
    """all-gather forward; backward sums the gradients of all ranks and keeps one's own rows.

    Written with all_gather and all_reduce because gloo has no reduce-scatter; the extra traffic under NCCL is small.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gather_rows(x: Tensor) -> Tensor:
    """Rows of every rank in rank order: (B, ...) on each rank -> (world * B, ...); the identity on one rank.

    The gradient of a row is the **sum** of what all ranks' losses say about it. DDP then takes the mean over ranks, so:
    if every rank's loss is the mean over its own rows (or all compute the same global loss), the parameters receive
    exactly the gradient of one process with the whole batch.

    Raises:
        ValueError: the ranks hold different numbers of rows (the global mean would weigh them unevenly).
    """
    if world_size() == 1:
        return x
    sizes = [torch.empty(1, dtype=torch.int64, device=x.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(x)], dtype=torch.int64, device=x.device))
    counts = [int(s) for s in sizes]
    if len(set(counts)) > 1:
        raise ValueError(
            f"batch rows per rank are {counts}, but global negatives need as many on every rank; "
            "take a data.batch_size divisible by the number of ranks, or drop the last batch"
        )
    x = x.contiguous()
    if x.requires_grad:
        gathered: Tensor = _GatherRows.apply(x)  # type: ignore[no-untyped-call]
        return gathered
    parts = [torch.empty_like(x) for _ in counts]
    dist.all_gather(parts, x)
    return torch.cat(parts)
