"""Gathers embeddings from all ranks by item index, so that metrics do not depend on the number of ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

BLOCK = 1 << 14  # rows


class EmbeddingBank(Metric):
    """Embeddings of all items of one modality, stored by item index and gathered over ranks.

    An item may be added more than once, because a rank without items repeats one; the first in rank order is
    kept. Ranks may hold different numbers of items, or none.

    Args:
        size: number of items.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    index: list[Tensor]
    values: list[Tensor]

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size: an embedding bank needs at least one item, got {size}")
        self.size = size
        self.add_state("index", [], dist_reduce_fx="cat")
        self.add_state("values", [], dist_reduce_fx="cat")

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
        self.index.append(index.to(self.device, torch.int64))
        # flat: a rank without items does not know d, but must gather a tensor with the same number of dimensions
        self.values.append(embeddings.detach().to(self.device, torch.float32).flatten())

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers over ranks as torchmetrics does, with empty tensors of the right type on ranks without items."""
        if isinstance(self.index, list) and not self.index:
            self.index.append(torch.empty(0, dtype=torch.int64, device=self.device))
            self.values.append(torch.empty(0, dtype=torch.float32, device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> Tensor:
        """All embeddings (size, d) float32; row i is item i. Equal on all ranks.

        Raises:
            RuntimeError: some items were never embedded, or ranks disagree on d.
        """
        index = dim_zero_cat(self.index)
        items, order = torch.sort(index, stable=True)
        first = torch.ones_like(items, dtype=torch.bool)
        first[1:] = items[1:] != items[:-1]
        if int(first.sum()) < self.size:
            missing = torch.ones(self.size, dtype=torch.bool, device=index.device)
            missing[items] = False
            rows = missing.nonzero().flatten()[:5].tolist()
            raise RuntimeError(
                f"{int(missing.sum())} of {self.size} items were never embedded, first rows {rows}; "
                "set use_distributed_sampler=False and do not limit the evaluation batches"
            )
        count = sum(part.numel() for part in self.values)
        if count % len(index):
            raise RuntimeError(f"{count} values for {len(index)} items: the embedding width differs between batches")
        kept = torch.zeros_like(index, dtype=torch.bool)
        kept[order[first]] = True
        return self._in_order(index, kept, count // len(index))

    def _in_order(self, index: Tensor, kept: Tensor, width: int) -> Tensor:
        """The kept rows by item, block by block: at no time are there two further copies of all embeddings."""
        ordered = torch.empty(self.size, width, device=index.device)
        start = 0
        for part in self.values if isinstance(self.values, list) else [self.values]:
            for block in part.view(-1, width).split(BLOCK):
                rows = slice(start, start + len(block))
                ordered[index[rows][kept[rows]]] = block[kept[rows]]
                start += len(block)
        return ordered
