"""Voice-face association on embeddings: any dataset whose clips went through frozen encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.evaluation.conditions import CellSpec, Condition, RankingCondition
from datamodules.features.table import FeatureTable, OpenFeatureFile
from datamodules.io.feature_files import FeatureFile
from datamodules.sampling.pairing import pairs_by_video
from datamodules.schema import DataError, Items, Modality, Stage
from datamodules.split import SplitDataModule


class FeatureArray:
    """Reads items whose features are in memory.

    Args:
        x: (n, d) features.
    """

    def __init__(self, x: NDArray[np.floating]) -> None:
        self.x = x

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Features (len(rows), d) of the given rows."""
        return torch.from_numpy(self.x[np.asarray(rows, dtype=np.int64)])


class FeatureDataModule(SplitDataModule):
    """Embeddings in, trials out. File formats and an example with data of your own: ``datamodules/README.md``.

    Args:
        voices: feature files of the voices; several are joined by item id.
        faces: feature files of the faces.
        train_languages: languages a model may hear in training.
        normalise: scale embeddings to unit length.
        **options: those of :class:`SplitDataModule`; files are below its ``root``.
    """

    def __init__(
        self,
        voices: list[str | FeatureFile],
        faces: list[str | FeatureFile],
        train_languages: list[str],
        normalise: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(train_languages=train_languages, **options)
        self.voices, self.faces, self.normalise = voices, faces, normalise

    @property
    def dims(self) -> tuple[int, int]:
        return self.tables[0].dim, self.tables[1].dim

    @property
    def tables(self) -> tuple[FeatureTable, FeatureTable]:
        return self._tables

    def clip_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return clip_pairs(*self.tables)

    def training_sources(self) -> tuple[FeatureTable, FeatureTable]:
        return self.tables

    def evaluation_source(self, stage: Stage, modality: Modality) -> FeatureArray:
        return FeatureArray(cast(NDArray[np.floating], self.evaluation_set(stage).items(modality).features))

    def condition(self, name: str, spec: CellSpec) -> Condition | RankingCondition:
        """A test condition over files of its own where it has them."""
        own = spec.voices is not None, spec.faces is not None
        voices = self.tables[0] if spec.voices is None else self._table(spec.voices, "voice", labelled=False)
        faces = self.tables[1] if spec.faces is None else self._table(spec.faces, "face", labelled=False)
        if (voices.dim, faces.dim) != self.dims:
            raise DataError(f"data.test.{name}: widths are {(voices.dim, faces.dim)}, those of training {self.dims}")
        return self.condition_over(name, spec, (voices, faces), own)

    @cached_property
    def _tables(self) -> tuple[FeatureTable, FeatureTable]:
        return self._table(self.voices, "voice", labelled=True), self._table(self.faces, "face", labelled=True)

    def _table(self, files: Sequence[str | FeatureFile], modality: Modality, labelled: bool) -> FeatureTable:
        """Opens files below ``root``; ``labelled`` is what a CSV is unless its file says."""
        found = []
        for file in files:
            file = FeatureFile(file) if isinstance(file, str) else file
            index = self._at(file.index) if file.index else None
            labels = labelled if file.labelled is None else file.labelled
            found.append(replace(file, path=self._at(file.path), index=index, labelled=labels))
        return FeatureTable(found, modality, self.normalise)


def clip_pairs(voices: FeatureTable, faces: FeatureTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a voice and a face of the same clip.

    Row i of both files is a pair where the files are row-aligned: as many rows, and either the same index or the same
    identity, language and video in every row. Otherwise the voices and the faces of each (identity, language, video)
    are paired in order of their ids, the shorter side starting over, so that each occurs at least once; an item whose
    rows name several languages or videos is among those of each. Where no video is known, a person's clips in a
    language count as one video.

    Returns:
        (n,) items of ``voices`` and (n,) items of ``faces``.

    Raises:
        DataError: not one pair.
    """
    first_voices, first_faces = voices.files[0], faces.files[0]
    voice, face = first_voices.item_of_row, first_faces.item_of_row
    if len(voice) == len(face):
        index = first_voices.file.index
        same_index = index is not None and index == first_faces.file.index
        if same_index or (
            np.array_equal(voices.items.identity[voice], faces.items.identity[face])
            and np.array_equal(first_voices.language, first_faces.language)
            and np.array_equal(first_voices.video, first_faces.video)
        ):
            return np.asarray(voice), np.asarray(face)
    (own, voice_of), (other, face_of) = _uses(first_voices), _uses(first_faces)
    voice, face = pairs_by_video(own, other)
    if len(voice) == 0:
        raise DataError(
            f"feature files {first_voices.file.path} and {first_faces.file.path} have no identity, language and video "
            "in common; give both an index that names them"
        )
    return voice_of[voice], face_of[face]


def _uses(file: OpenFeatureFile) -> tuple[Items, NDArray[np.int64]]:
    """Every item with each language and video that rows name for it, and the item of each of these."""
    rows = pd.DataFrame({"item": file.item_of_row, "language": file.language, "video": file.video}).drop_duplicates()
    item, items = rows["item"].to_numpy(), file.items
    language, video = (np.asarray(getattr(file, name))[rows.index] for name in ("language", "video"))
    return Items(items.ids[item], items.identity[item], language, items.gender[item], video), item


class PermutedFeatureDataModule(FeatureDataModule):
    """Learns from the voice of one training clip with the face of another, drawn by ``seed``.

    Whatever is learnt so must score 50 % on people it never saw; validation and test are left as they are. Options are
    those of :class:`FeatureDataModule`.
    """

    @cached_property
    def learnt_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        voice, face = super().learnt_rows
        return np.random.default_rng(self.seed).permutation(voice), face
