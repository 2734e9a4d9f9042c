"""Rows of all ranks as one batch, with gradient: negatives under DDP are those of the global batch."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_rows(x: Tensor) -> Tensor:
    """Rows of every rank in rank order: (B, ...) on each rank -> (world * B, ...); the identity on one rank.

    The gradient of a row is the **sum** of its gradients from the losses of all ranks. DDP then averages over ranks. If
    the loss of each rank is the mean over the rank's own rows (or all ranks compute the same global loss), the
    parameters get exactly the gradient that one process with the whole batch would compute.

    Raises:
        ValueError: the ranks hold different numbers of rows, which a mean over ranks would weight unevenly.
    """
    if world_size() == 1:
        return x
    sizes = [torch.empty(1, dtype=torch.int64, device=x.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(x)], dtype=torch.int64, device=x.device))
    counts = [int(s) for s in sizes]
    if len(set(counts)) > 1:
        raise ValueError(
            f"batch rows per rank are {counts}, but global negatives need the same number on every rank; "
            "choose a data.batch_size that the number of ranks divides, or drop the last batch"
        )
    with warnings.catch_warnings():  # newer versions of torch recommend a private function that torch 2.9 lacks
        warnings.filterwarnings("ignore", r".*functional\.all_gather is deprecated", FutureWarning)
        parts: tuple[Tensor, ...] = all_gather(x)
    return torch.cat(parts)
