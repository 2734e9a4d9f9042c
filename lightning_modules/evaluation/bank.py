"""Collects embeddings from all ranks by item index, so that metrics do not depend on the number of ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class EmbeddingBank:
    """Embeddings of all items of one modality, stored by item index; ranks hold parts of them until :meth:`compute`.

    A rank never holds more than one copy of all embeddings: batches are written to their place, and what other ranks
    have is added in place.

    An item may be added in more than one batch, because a rank without items repeats one; the first batch of the first
    rank is kept. Ranks may hold different numbers of items, or none.

    Args:
        size: number of items.
        device: where the embeddings are stored.
    """

    def __init__(self, size: int, device: torch.device | str = "cpu") -> None:
        if size < 1:
            raise ValueError(f"size: an embedding bank needs at least one item, got {size}")
        self.size, self.device = size, torch.device(device)
        self._known = torch.zeros(size, dtype=torch.bool, device=device)
        self._rows = torch.empty(0, 0, device=device)  # until the first batch tells their width

    def update(self, embeddings: Tensor, index: Tensor) -> None:
        """Stores a batch.

        Args:
            embeddings: (B, d), any floating type; stored as float32 without gradient.
            index: (B,) integer indices of the items.

        Raises:
            ValueError: shapes that do not fit, or an index outside 0..size-1.
        """
        if embeddings.ndim != 2 or index.shape != embeddings.shape[:1]:
            raise ValueError(
                f"embeddings {tuple(embeddings.shape)} and index {tuple(index.shape)} must be (B, d) and (B,)"
            )
        outside = index[(index < 0) | (index >= self.size)]
        if len(outside):
            raise ValueError(f"item {int(outside[0])} does not exist: the bank holds items 0..{self.size - 1}")
        if not self._rows.numel():
            self._rows = torch.zeros(self.size, embeddings.shape[1], device=self.device)
        if embeddings.shape[1] != self._rows.shape[1]:
            raise ValueError(
                f"the embedding width differs between batches: {self._rows.shape[1]} and {embeddings.shape[1]}"
            )
        index = index.to(self.device, torch.int64)
        new = ~self._known[index]
        self._rows[index[new]] = embeddings.detach().to(self.device, torch.float32)[new]
        self._known[index] = True

    def compute(self) -> Tensor:
        """All embeddings (size, d) float32; row i is item i. Equal on all ranks, which must all call it.

        Raises:
            RuntimeError: some items were never embedded, or ranks disagree on d.
        """
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self._complete(dist.get_rank(), dist.get_world_size())
        if not self._known.all():
            rows = (~self._known).nonzero().flatten()
            raise RuntimeError(
                f"{len(rows)} of {self.size} items were never embedded, first rows {rows[:5].tolist()}; "
                "set use_distributed_sampler=False and do not limit the evaluation batches"
            )
        return self._rows

    def _complete(self, rank: int, ranks: int) -> None:
        """Fills in the rows that other ranks have."""
        widths = torch.zeros(ranks, dtype=torch.int64, device=self.device)
        widths[rank] = self._rows.shape[1]
        dist.all_reduce(widths)
        width = int(widths.max())
        if ((widths != width) & (widths != 0)).any():  # 0: a rank without items
            raise RuntimeError(f"the embedding width differs between ranks: {widths.tolist()}")
        if not self._rows.numel():
            self._rows = torch.zeros(self.size, width, device=self.device)
        owner = torch.full((self.size,), ranks, dtype=torch.int32, device=self.device)
        owner[self._known] = rank
        dist.all_reduce(owner, dist.ReduceOp.MIN)
        self._rows[self._known & (owner != rank)] = 0
        dist.all_reduce(self._rows.view(torch.int32))  # one rank's bits and zeros: exact, whatever the number
        self._known = owner < ranks
