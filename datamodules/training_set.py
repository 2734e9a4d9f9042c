"""The training loader: knows where it is, so that a run resumed inside an epoch goes on with the next batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.sampling.samplers import PairBatchSampler
from datamodules.schema import ItemBatch, PairBatch


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


class ItemSource(Protocol):
    """Reads model inputs of one modality by row: feature vectors, waveforms or images."""

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Inputs of the given rows, stacked: (len(rows), ...)."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The clips a model learns from. Row i of ``voice_rows`` and of ``face_rows`` is a pair of the same clip.

    Attributes:
        voices: reads voices by row, with the training-time augmentation of the data module.
        faces: reads faces by row.
        voice_rows: (n,) rows of ``voices``.
        face_rows: (n,) rows of ``faces``.
        identity: (n,) class index 0..C-1.
        language: (n,) language of each clip.
        identities: (C,) identity names by class index.
        video: (n,) video of each clip, "" where it is unknown or voice and face are of different ones.
    """

    voices: ItemSource
    faces: ItemSource
    voice_rows: NDArray[np.int64]
    face_rows: NDArray[np.int64]
    identity: NDArray[np.int64]
    language: NDArray[np.str_]
    identities: NDArray[np.str_]
    video: NDArray[np.str_]


class _Pairs(Dataset):
    """Indexed by (voice position, face position) pairs, a whole batch at a time."""

    def __init__(self, train: TrainingSet) -> None:
        self.train = train

    def __getitems__(self, pairs: list[tuple[int, int]]) -> PairBatch:
        voice, face = np.asarray(pairs, dtype=np.int64).T
        train = self.train
        return PairBatch(
            voice=train.voices.read(train.voice_rows[voice]),
            face=train.faces.read(train.face_rows[face]),
            identity=torch.from_numpy(train.identity[voice]),
            clip=torch.from_numpy(voice),
        )


class _UniqueItems(Dataset):
    """Unique items of one modality, some rows of a source, with their index, so that a bank can write them by index."""

    def __init__(self, source: ItemSource, rows: NDArray[np.int64]) -> None:
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, index: list[int]) -> ItemBatch:
        return ItemBatch(index=torch.as_tensor(index, dtype=torch.int64), x=self.source.read(self.rows[index]))


def _as_is(batch: Any) -> Any:
    return batch
