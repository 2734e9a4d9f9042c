"""Training clips, and their loader, which a run resumed inside an epoch continues with the next batch."""

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


class ResumableLoader(DataLoader[Any]):
    """A loader of training pairs. Lightning saves its position in the checkpoint and restores it.

    The samplers draw each batch from (seed, epoch, step). So the position is the whole state, and it is the same on
    every rank.

    Args:
        dataset: the training pairs.
        batch_sampler: draws the pairs of each batch.
        **options: options of ``DataLoader``.
    """

    def __init__(self, dataset: Dataset[Any], batch_sampler: PairBatchSampler, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batch_sampler, **options)
        self.pairs = batch_sampler
        self._done = 0
        self._resume = {"epoch": -1, "batch": 0}

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the number of its batches that were used."""
        return {"epoch": self.pairs.epoch, "batch": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the epoch of ``state`` start after its first ``batch`` batches; other epochs start at 0."""
        self._resume = dict(state)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: nothing runs before the first batch is requested. Lightning creates the iterator of a resumed run
        # before it sets the epoch of the sampler, and worker processes would fetch batches of the wrong epoch.
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
    """The clips that a model trains on. Entry i of ``voice_rows`` and of ``face_rows`` belong to the same clip.

    Attributes:
        voices: reads voices by row, with the data module's augmentation for training.
        faces: reads faces by row.
        voice_rows: (n,) rows of ``voices``.
        face_rows: (n,) rows of ``faces``.
        identity: (n,) class index 0..C-1.
        language: (n,) language of each clip.
        identities: (C,) name of the identity of each class.
        video: (n,) video of each clip, "" where it is unknown, or where voice and face come from different videos.
        attributes: (n, 2) estimated :data:`datamodules.schema.ATTRIBUTES` of voices and of faces, where there are any.
    """

    voices: ItemSource
    faces: ItemSource
    voice_rows: NDArray[np.int64]
    face_rows: NDArray[np.int64]
    identity: NDArray[np.int64]
    language: NDArray[np.str_]
    identities: NDArray[np.str_]
    video: NDArray[np.str_]
    attributes: tuple[NDArray[np.floating] | None, NDArray[np.floating] | None] = (None, None)


class _Pairs(Dataset[PairBatch]):
    """Reads a whole batch of pairs (voice position, face position) at once."""

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


class _UniqueItems(Dataset[ItemBatch]):
    """Some rows of a source, each with its index, under which the bank of embeddings stores it."""

    def __init__(self, source: ItemSource, rows: NDArray[np.int64]) -> None:
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, index: list[int]) -> ItemBatch:
        return ItemBatch(index=torch.as_tensor(index, dtype=torch.int64), x=self.source.read(self.rows[index]))


def _as_is(batch: Any) -> Any:
    return batch
