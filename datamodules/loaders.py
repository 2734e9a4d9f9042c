"""The training loader: knows where it is, so that a run resumed inside an epoch goes on with the next batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from datamodules.samplers import PairBatchSampler


class ResumableLoader(DataLoader):
    """A loader of training pairs whose position Lightning saves in the checkpoint and restores.

    The samplers draw a batch from (seed, epoch, step) alone, so the position is all there is to save, and it is the
    same on every rank.

    Args:
        dataset: what is loaded.
        batch_sampler: which pairs.
        **options: of ``DataLoader``.
    """

    def __init__(self, dataset: Dataset, batch_sampler: PairBatchSampler, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batch_sampler, **options)
        self.pairs = batch_sampler
        self._done = 0
        self._resume = {"epoch": -1, "batch": 0}

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were handed out."""
        return {"epoch": self.pairs.epoch, "batch": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Starts the given epoch, and no other, after its first ``batch`` batches."""
        self._resume = dict(state)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: nothing runs before the first batch is asked for. Lightning creates the iterator of a resumed run
        # before it tells the sampler the epoch, and worker processes would fetch batches of the wrong one.
        resume, self._resume = self._resume, {"epoch": -1, "batch": 0}
        self._done = resume["batch"] if resume["epoch"] == self.pairs.epoch else 0
        self.pairs.start = self._done
        for batch in super().__iter__():
            self._done += 1
            yield batch
