"""Data module for raw media: waveforms and images, read from a table of files."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.io.media import SAMPLE_RATE, samples_of
from datamodules.media.sources import BadSamples, FaceSource, MediaSource, VoiceSource
from datamodules.media.table import MediaTable
from datamodules.media.transforms import Normalisation, augmenting_transform, plain_transform
from datamodules.schema import MODALITIES, DataError, Modality, Stage, one_line
from datamodules.split import SplitDataModule
from datamodules.training_set import ItemSource

MEL_BINS, CHANNELS = 128, 3


MOST = 100_000
"""Frames, crops or pixels of a side; far more than any encoder takes."""


@dataclass
class MediaOptions:
    """How files become inputs of the network. Only the sizes are from the papers.

    Attributes:
        frames: filter-bank frames of a voice crop, as ``model.network.frames``: 512 = 5.12 s.
        voice_crops: crops of each voice in evaluation: 1 = the centre. Several are spread from start to end, and their
            embeddings are averaged.
        whole_voice: seconds. If above 0, evaluation averages one more crop: the whole voice, or its central part of
            this length. The network gets it at its full length.
        image_size: side of a face in pixels, as ``model.network.image_size``.
        image_normalisation: of the colours: ``imagenet`` (CAV-MAE) or ``clip`` (the [SCC] authors' later wrapper).
        smallest_crop: smallest part of a face's area that a training crop keeps, 0..1.
        colour: largest relative change of brightness, contrast and saturation in training.
        flip: probability of a mirror image in training.
        on_bad_sample: what an unreadable training file does: ``raise`` stops the run; ``skip`` takes another file of
            the same identity instead, for at most 0.1 % of the files, and lists them in bad_samples.txt of the run
            folder. Validation and test always raise.
    """

    frames: int = 512
    voice_crops: int = 1
    whole_voice: float = 0.0
    image_size: int = 224
    image_normalisation: Normalisation = "imagenet"
    smallest_crop: float = 0.7
    colour: float = 0.2
    flip: float = 0.5
    on_bad_sample: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        for name in ("frames", "voice_crops", "image_size"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MOST:
                raise DataError(
                    f"data.media.{name}: {one_line(repr(value), 40)} must be at least 1, and at most {MOST:,}"
                )
        for name in ("whole_voice", "smallest_crop", "colour", "flip"):
            if type(value := getattr(self, name)) not in (int, float):
                raise DataError(f"data.media.{name}: {one_line(repr(value), 40)} must be a number")
        if self.whole_voice < 0:
            raise DataError(f"data.media.whole_voice: {self.whole_voice} is negative; give seconds, or 0 for none")
        if self.colour < 0:
            raise DataError(f"data.media.colour: {self.colour} is negative; give 0 for no change")
        if not 0 < self.smallest_crop <= 1:
            raise DataError(f"data.media.smallest_crop: {self.smallest_crop} must be above 0 and at most 1")
        if self.on_bad_sample not in ("raise", "skip"):
            raise DataError(f"data.media.on_bad_sample: {self.on_bad_sample!r} is unknown; use raise or skip")


class MediaDataModule(SplitDataModule):
    """Waveforms and images of the files that a subclass lists in :attr:`tables`.

    Args:
        media: how files are read; None = the defaults of :class:`MediaOptions`.
        eval_batch_size: items per batch when embedding, on each rank.
        **options: options of :class:`SplitDataModule`.
    """

    def __init__(self, media: MediaOptions | None = None, eval_batch_size: int = 64, **options: Any) -> None:
        super().__init__(eval_batch_size=eval_batch_size, **options)
        self.media = media or MediaOptions()

    @property
    @abstractmethod
    def tables(self) -> tuple[MediaTable, MediaTable]:
        """All files: voices and faces."""

    @property
    def dims(self) -> tuple[int, int]:
        """Mel bins of the network's front end, and channels of an image."""
        return MEL_BINS, CHANNELS

    @cached_property
    def _bad(self) -> tuple[BadSamples | None, BadSamples | None]:
        """The records of unreadable training voices and faces; None where such a file stops the run."""
        if self.media.on_bad_sample == "raise":
            return None, None
        records = []
        for table, rows in zip(self.tables, self.training_rows, strict=True):
            owners = pd.DataFrame({"identity": table.items.identity, "language": table.items.language})
            group = owners.groupby(["identity", "language"], sort=False).ngroup().to_numpy()
            in_training = np.isin(np.arange(len(group)), rows)
            records.append(BadSamples(np.where(in_training, group, -1)))
        return records[0], records[1]

    def training_sources(self) -> tuple[ItemSource, ItemSource]:
        voices, faces = self.tables
        media, (bad_voices, bad_faces) = self.media, self._bad
        transform = augmenting_transform(
            media.image_size, media.image_normalisation, media.smallest_crop, media.colour, media.flip
        )
        return (
            VoiceSource(voices.paths, samples_of(media.frames), seed=self.seed, bad=bad_voices),
            FaceSource(faces.paths, transform, seed=self.seed, bad=bad_faces),
        )

    def plain_sources(self) -> tuple[ItemSource, ItemSource]:
        voices, faces = (
            self.plain_source(modality, table.paths, bad)
            for modality, table, bad in zip(MODALITIES, self.tables, self._bad, strict=True)
        )
        return voices, faces

    def evaluation_source(self, stage: Stage, modality: Modality) -> MediaSource:
        table = self.tables[0 if modality == "voice" else 1]
        index = pd.Index(table.items.ids.astype(object))
        paths = table.paths[index.get_indexer(self.evaluation_set(stage).items(modality).ids.astype(object))]
        return self.plain_source(modality, paths)

    def plain_source(self, modality: Modality, paths: NDArray[np.str_], bad: BadSamples | None = None) -> MediaSource:
        """Reads files without augmentation."""
        media = self.media
        if modality == "voice":
            whole = round(media.whole_voice * SAMPLE_RATE)
            return VoiceSource(paths, samples_of(media.frames), media.voice_crops, whole, bad=bad)
        return FaceSource(paths, plain_transform(media.image_size, media.image_normalisation), bad=bad)

    def record_bad(self, folder: str) -> None:
        """Lists unreadable training files in ``bad_samples.txt`` of a folder."""
        for bad in filter(None, self._bad):
            bad.record = Path(folder) / "bad_samples.txt"

    def train_dataloader(self) -> DataLoader[Any]:
        if self.trainer is not None:
            self.record_bad(self.trainer.default_root_dir)
        return super().train_dataloader()
