"""Data module for embeddings: any data set whose clips were embedded by frozen encoders."""

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
from datamodules.evaluation.learnt import Learnt, beside
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
    """Trains and tests on embeddings from feature files. Formats and an example: ``datamodules/README.md``.

    Args:
        voices: feature files of the voices, relative to ``root``; several are joined by item id.
        faces: feature files of the faces.
        train_languages: languages that training uses.
        normalise: scale embeddings to unit length. None: yes, unless the model starts from weights that take them as
            they are, such as the official ones of the FOP baseline.
        **options: options of :class:`SplitDataModule`.
    """

    def __init__(
        self,
        voices: list[str | FeatureFile],
        faces: list[str | FeatureFile],
        train_languages: list[str],
        normalise: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(train_languages=train_languages, **options)
        self.voices, self.faces, self.normalise = voices, faces, normalise
        self.unit_length: bool = normalise is not False
        self._paths: set[str] = set()  # of all feature files, those of test conditions too

    @property
    def dims(self) -> tuple[int, int]:
        return self.tables[0].dim, self.tables[1].dim

    @property
    def tables(self) -> tuple[FeatureTable, FeatureTable]:
        return self._tables

    def setup(self, stage: str) -> None:
        model = None if self.trainer is None else self.trainer.lightning_module
        self.take_form(getattr(model, "learnt", None))
        super().setup(stage)

    def take_form(self, learnt: Learnt | None) -> None:
        """Gives embeddings the form that weights take, where :attr:`normalise` leaves it open."""
        if self.normalise is None and learnt is not None and learnt.unit_length is not None:
            self.unit_length = learnt.unit_length
            for table in self.tables:
                table.normalise = self.unit_length

    def inherited(self) -> Learnt:
        return beside(self._paths)

    def clip_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return clip_pairs(*self.tables)

    def training_sources(self) -> tuple[FeatureTable, FeatureTable]:
        return self.tables

    def evaluation_source(self, stage: Stage, modality: Modality) -> FeatureArray:
        return FeatureArray(cast(NDArray[np.floating], self.evaluation_set(stage).items(modality).features))

    def condition(self, name: str, spec: CellSpec) -> Condition | RankingCondition:
        """A test condition over its separate feature files, where it has them."""
        separate = spec.voices is not None, spec.faces is not None
        voices = self.tables[0] if spec.voices is None else self._table(spec.voices, "voice", labelled=False)
        faces = self.tables[1] if spec.faces is None else self._table(spec.faces, "face", labelled=False)
        if (voices.dim, faces.dim) != self.dims:
            raise DataError(f"data.test.{name}: widths are {(voices.dim, faces.dim)}, in training {self.dims}")
        return self.condition_over(name, spec, (voices, faces), separate)

    @cached_property
    def _tables(self) -> tuple[FeatureTable, FeatureTable]:
        return self._table(self.voices, "voice", labelled=True), self._table(self.faces, "face", labelled=True)

    def _table(self, files: Sequence[str | FeatureFile], modality: Modality, labelled: bool) -> FeatureTable:
        """Opens files below ``root``; ``labelled`` applies to a CSV whose own ``labelled`` is None."""
        located = []
        for file in files:
            file = file if isinstance(file, FeatureFile) else FeatureFile(str(file))
            index = self._at(file.index) if file.index else None
            labels = labelled if file.labelled is None else file.labelled
            located.append(replace(file, path=self._at(file.path), index=index, labelled=labels))
            self._paths.add(located[-1].path)
        return FeatureTable(located, modality, self.unit_length)


def clip_pairs(voices: FeatureTable, faces: FeatureTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a voice and a face of the same clip.

    Two files are row-aligned if they have the same number of rows, and either the same index or the same identity,
    language and video in every row. Then row i of both is a pair. Otherwise the voices and faces of each (identity,
    language, video) are paired in order of their ids, as :func:`pairs_by_video` does. An item whose rows name several
    languages or videos belongs to each of them. Where no video is known, the clips of an identity in a language count
    as one video.

    Returns:
        (n,) items of ``voices`` and (n,) items of ``faces``.

    Raises:
        DataError: there is no pair.
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
    (voice_uses, voice_of), (face_uses, face_of) = _uses(first_voices), _uses(first_faces)
    voice, face = pairs_by_video(voice_uses, face_uses)
    if len(voice) == 0:
        raise DataError(
            f"feature files {first_voices.file.path} and {first_faces.file.path} have no identity, language and video "
            "in common; give both an index that names them"
        )
    return voice_of[voice], face_of[face]


def _uses(file: OpenFeatureFile) -> tuple[Items, NDArray[np.int64]]:
    """An entry for each item with each of its languages and videos, and the item of each entry."""
    rows = pd.DataFrame({"item": file.item_of_row, "language": file.language, "video": file.video}).drop_duplicates()
    item, items = rows["item"].to_numpy(), file.items
    language, video = (np.asarray(getattr(file, name))[rows.index] for name in ("language", "video"))
    return Items(items.ids[item], items.identity[item], language, items.gender[item], video), item


class PermutedFeatureDataModule(FeatureDataModule):
    """Negative control: trains on shuffled voice-face pairs; validation and test are unchanged.

    The voice of a training clip goes with the face of another, drawn by ``seed``. A model trained so must score about
    50 % on unseen identities. The options are those of :class:`FeatureDataModule`.
    """

    @cached_property
    def training_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        voice, face = super().training_rows
        return np.random.default_rng(self.seed).permutation(voice), face
