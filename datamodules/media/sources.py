"""Readers of voices and faces by row: the item sources of the media data modules."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from datamodules.io.media import read_audio, read_image
from datamodules.io.media.pixels import read_pixels
from datamodules.schema import DataError

ALLOWED = 1000  # one unreadable training file in this many may be skipped


class BadSamples:
    """Counts unreadable training files over all loader workers of a rank. 0.1 % of the files, at least one, may be.

    Args:
        group: (n,) identity and language of each row as a number; a row is replaced by one of its group. -1 for rows
            that are not in training.
        record: text file that gets a line for each unreadable file; None = no file.
    """

    def __init__(self, group: NDArray[np.int64], record: Path | None = None) -> None:
        self.group, self.record = group, record
        self.files = int((group >= 0).sum())
        self.allowed = max(1, self.files // ALLOWED)
        self._bad: Tensor = torch.zeros(len(group), dtype=torch.bool).share_memory_()

    def add(self, row: int, error: DataError) -> None:
        """Records an unreadable row.

        Raises:
            DataError: there are more of them than allowed.
        """
        self._bad[row] = True
        if self.record is not None:
            with self.record.open("a", encoding="utf-8") as file:
                file.write(f"{error}\n")
        if int(self._bad.sum()) > self.allowed:
            see = f", see {self.record}" if self.record is not None else ""
            raise DataError(
                f"{error}; more than {self.allowed} of {self.files} training files are unreadable{see}; "
                "repair them or take them out of the training list"
            ) from error
        warnings.warn(f"skipped in training: {error}", stacklevel=2)

    def replacement(self, row: int, rng: np.random.Generator) -> int:
        """The row itself, or if it is known to be unreadable another of the same identity and language.

        Raises:
            DataError: there is no other.
        """
        if not self._bad[row]:
            return row
        others = np.flatnonzero((self.group == self.group[row]) & ~self._bad.numpy())
        if not len(others):
            raise DataError("an identity has no readable training file; take it out of the training list")
        return int(rng.choice(others))


class MediaSource(ABC):
    """Reads files of one modality.

    In training, random choices depend only on ``seed`` and the rows of the batch, not on the number of workers or on
    whether the run was resumed.

    Args:
        paths: (n,) files by row.
        seed: seed of the augmentation; None = no augmentation.
        bad: record of unreadable training files; None = raise, as in evaluation.
    """

    modality: int
    """Keeps the random numbers of voices and faces apart."""

    def __init__(self, paths: NDArray[np.str_], seed: int | None = None, bad: BadSamples | None = None) -> None:
        self.paths, self.seed, self.bad = paths, seed, bad

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Inputs of the given rows, stacked.

        Raises:
            DataError: an unreadable file; with ``bad`` only if there are too many of them.
        """
        numbers = [int(row) for row in rows]
        rng = None if self.seed is None else np.random.default_rng((self.seed, self.modality, *numbers))
        return self.stack(partial(self._load_or_replace, rng=rng), numbers)

    def stack(self, load: Callable[..., Tensor], rows: Sequence[int]) -> Tensor:
        """Makes a batch of what :meth:`load` returns for rows: one at a time, so that all take the same memory.

        Args:
            load: is given a row and ``out``; its results have one shape.
            rows: of the batch.
        """
        first = load(rows[0], out=None)
        batch = first.new_empty(len(rows), *first.shape)
        batch[0] = first
        with torch.inference_mode():  # each operation starts sooner; the batch is a usual tensor
            for row, place in zip(rows[1:], batch[1:], strict=True):
                if (one := load(row, out=place)) is not place:
                    place.copy_(one)
        return batch

    def _load_or_replace(self, row: int, rng: np.random.Generator | None, out: Tensor | None) -> Tensor:
        if self.bad is None:
            return self.load(row, rng, out)
        while True:
            row = self.bad.replacement(row, np.random.default_rng(row) if rng is None else rng)
            try:
                return self.load(row, rng, out)
            except DataError as error:
                self.bad.add(row, error)

    @abstractmethod
    def load(self, row: int, rng: np.random.Generator | None, out: Tensor | None = None) -> Tensor:
        """Reads one input; ``rng`` draws its augmentation, None = no augmentation. May put it into ``out``."""


class VoiceSource(MediaSource):
    """Reads waveforms (B, samples), or (B, crops, samples) for several crops, with NaN after a short recording.

    In training the crop is at a random place. In evaluation one crop is in the centre, several are spread from start to
    end, and the whole recording may follow as one more. A batch is as wide as its longest crop.

    Args:
        paths: recordings.
        samples: length of a crop at 16 kHz.
        crops: crops of each recording in evaluation.
        whole: largest number of samples of one more crop in evaluation, the whole recording; 0 = none.
        seed: see :class:`MediaSource`.
        bad: see :class:`MediaSource`.
    """

    modality = 0

    def __init__(
        self,
        paths: NDArray[np.str_],
        samples: int,
        crops: int = 1,
        whole: int = 0,
        seed: int | None = None,
        bad: BadSamples | None = None,
    ) -> None:
        super().__init__(paths, seed, bad)
        self.samples, self.crops, self.whole = samples, crops, whole

    def load(self, row: int, rng: np.random.Generator | None, out: Tensor | None = None) -> Tensor:
        if rng is not None:
            positions = [rng.random()]
        else:
            positions = np.linspace(0, 1, self.crops).tolist() if self.crops > 1 else [0.5]
        path = str(self.paths[row])
        audio = read_audio(path, self.samples, positions)
        if rng is None and self.whole:
            audio += read_audio(path, self.whole, [0.5])
        if len(audio) == 1 and len(audio[0]) == self.samples:
            return torch.from_numpy(audio[0])
        padded = torch.full((len(audio), max(self.samples, *map(len, audio))), float("nan"))
        for crop, samples in zip(padded, audio, strict=True):
            crop[: len(samples)] = torch.from_numpy(samples)
        return padded if len(padded) > 1 else padded[0]

    def stack(self, load: Callable[..., Tensor], rows: Sequence[int]) -> Tensor:
        if not self.whole:
            return super().stack(load, rows)
        recordings = [load(row, out=None) for row in rows]
        widest = max(x.shape[-1] for x in recordings)
        return torch.stack([pad(x, (0, widest - x.shape[-1]), value=float("nan")) for x in recordings])


class FaceSource(MediaSource):
    """Reads normalised images (B, 3, size, size).

    Args:
        paths: images.
        transform: PIL image -> tensor; with a seed pixels (3, H, W) uint8, generator and ``out`` -> tensor.
        seed: see :class:`MediaSource`.
        bad: see :class:`MediaSource`.
    """

    modality = 1

    def __init__(
        self,
        paths: NDArray[np.str_],
        transform: Callable[..., Tensor],
        seed: int | None = None,
        bad: BadSamples | None = None,
    ) -> None:
        super().__init__(paths, seed, bad)
        self.transform = transform

    def load(self, row: int, rng: np.random.Generator | None, out: Tensor | None = None) -> Tensor:
        if rng is None:
            return self.transform(read_image(str(self.paths[row])))
        return self.transform(read_pixels(str(self.paths[row])), rng, out)
