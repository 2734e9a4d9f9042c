"""MAV-Celeb, the data of the FAME and FLAG challenges: wav and jpg files and trial lists of v1 to v4."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.datasets.mavceleb.layout import LANGUAGES, Layout, Track, Version, read_training_list
from datamodules.evaluation.conditions import CellSpec, Condition, RankingCondition, as_spec
from datamodules.io.identities import check_known
from datamodules.io.item_ids import media_fields, stem
from datamodules.io.text import existing, expanded
from datamodules.media.module import MediaDataModule
from datamodules.media.table import MediaTable, media_table
from datamodules.schema import MODALITIES, DataError, Modality, Rows, Trials


@dataclass(frozen=True, eq=False)
class LocatedCondition(Condition):
    """A condition whose files were found by the layout. Several lists may use the same names for different files.

    Attributes:
        located: (t,) rows of the voices and (t,) rows of the faces.
    """

    located: tuple[Rows, Rows] = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", self.located)


class MAVCelebDataModule(MediaDataModule):
    """One configuration of MAV-Celeb: a version and the training language.

    Layouts: ``{root}/{version}/{voices,faces}/idNNNN/<Language>/<video>/NNNNN.{wav,jpg}`` with
    ``<Language>_train.txt`` and ``<Language>_test.txt`` next to them (v1, v2), ``<Language>_test/{voice,face}[s]/``
    (v3), ``train_set/train_set/...`` and ``dev_set/{no_gender,gender}/<Language>_test/...`` (v4); lists may also be in
    ``{root}/{version}_lists``. The identity of a clip comes from its face path: in v1 the voice ids are renumbered
    without the test identities, the face ids are not, so the two may differ.

    Args:
        version: v1 (Urdu), v2 (Hindi), v3 (German) or v4 (Bangla), each with English.
        train_language: the language to train on.
        root: folder of the versions: MAVCELEB_ROOT in the packaged configs.
        track: track of the v4 test sets.
        train_list: the training list; None = ``<train_language>_train.txt`` in its place in the layout.
        test: trial lists by name of the test condition, relative to ``root``; None = the official ``heard`` and
            ``unheard`` lists, {} = no test.
        labels: files with the labels of the official test lists, by language, if you have them.
        **options: options of :class:`MediaDataModule`.
    """

    def __init__(
        self,
        version: Version,
        train_language: str,
        root: str = "",
        track: Track = "no_gender",
        train_list: str | None = None,
        test: dict[str, str | CellSpec] | None = None,
        labels: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        if version not in LANGUAGES:
            raise DataError(f"data.version: {version!r} is unknown; use one of {', '.join(LANGUAGES)}")
        languages = LANGUAGES[version]
        check_known([train_language], np.array(languages), "train_language")
        for language in labels or {}:
            check_known([language], np.array(languages), "labels")
        super().__init__(
            train_languages=[train_language],
            test=test,
            root=str(expanded(root)) if root else "",
            val_languages=None,
            corpus=f"MAV-Celeb {version}",
            **options,
        )
        self.train_list, self.labels = train_list, labels or {}
        self.layout = Layout(Path(self.root), version, track)
        if test is None:
            other = next(language for language in languages if language != train_language)
            self.test = {"heard": CellSpec(language=train_language), "unheard": CellSpec(language=other)}

    def setup(self, stage: str) -> None:
        self.layout.check(self.train_languages[0])
        super().setup(stage)

    @property
    def tables(self) -> tuple[MediaTable, MediaTable]:
        return self._files["voice"].table, self._files["face"].table

    def clip_rows(self) -> tuple[Rows, Rows]:
        return self._files["voice"].training, self._files["face"].training

    def condition(self, name: str, spec: CellSpec) -> Condition | RankingCondition:
        if name not in self._lists:  # it is made of identities
            return super().condition(name, spec)
        located = self._files["voice"].cells[name], self._files["face"].cells[name]
        return LocatedCondition(name, *self.tables, spec.language, trials=self._lists[name], located=located)

    @cached_property
    def _lists(self) -> dict[str, Trials]:
        """The trial list of each test condition that has one, official or from the config."""
        lists = {}
        for name, configured in self.test.items():
            spec = as_spec(configured)
            if spec.identities is None and spec.task == "verification":
                if spec.trials is None:
                    if not spec.language:
                        raise DataError(f"data.test.{name}: give trials, identities or the language of a list")
                    path = self.layout.find_list(f"{spec.language}_test.txt").absolute()
                    spec = replace(spec, trials=str(path), labels=spec.labels or self.labels.get(spec.language))
                lists[name] = self.cell_trials(name, spec)
        return lists

    @cached_property
    def _files(self) -> dict[Modality, _Files]:
        self.layout.check(self.train_languages[0])
        name = f"{self.train_languages[0]}_train.txt"
        path = existing(self._at(self.train_list), "training list") if self.train_list else self.layout.find_list(name)
        pairs = read_training_list(path, self.train_languages[0])
        return {modality: self._find_files(modality, path, pairs) for modality in MODALITIES}

    def _find_files(self, modality: Modality, source: Path, pairs: pd.DataFrame) -> _Files:
        """The files of the training list, followed by those of the test lists, each once."""
        language = self.train_languages[0]
        references = pairs[modality].unique().tolist()
        path_of = dict(zip(references, self.layout.locate(references, modality, source), strict=True))
        rows = [
            (stem(reference), path_of[reference], identity, language, "", media_fields(reference)[2])
            for reference, identity in zip(pairs[modality], pairs["identity"], strict=True)
        ]
        item = {path: stem(reference) for reference, path in path_of.items()}
        taken = set(item.values())
        cell_items: dict[str, list[str]] = {}
        for name, trials in self._lists.items():
            test_language = as_spec(self.test[name]).language
            listed = (trials.voices if modality == "voice" else trials.faces).tolist()
            unique = list(dict.fromkeys(listed))
            item_of = {}
            for reference, path in zip(unique, self._locate_test(unique, modality, trials, test_language), strict=True):
                if path not in item:
                    item[path] = stem(reference)
                    if item[path] in taken:
                        item[path] = stem(os.path.relpath(path, self.layout.folder))
                    taken.add(item[path])
                    identity, path_language, video = media_fields(reference)
                    # v1 numbers voices differently from faces: the identity of a voice outside training is unknown
                    identity = "" if modality == "voice" and self.layout.version == "v1" else identity
                    rows.append((item[path], path, identity, path_language or test_language, "", video))
                item_of[reference] = item[path]
            cell_items[name] = [item_of[reference] for reference in listed]
        table, row = media_table(rows, str(source))
        index = pd.Index(table.items.ids.astype(object))
        cells = {name: index.get_indexer(np.array(ids, dtype=object)) for name, ids in cell_items.items()}
        return _Files(table, row[: len(pairs)], cells)

    def _locate_test(self, references: Sequence[str], modality: Modality, trials: Trials, language: str) -> list[Path]:
        return self.layout.locate(references, modality, Path(trials.source), language or self.train_languages[0])


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of one modality, the rows of the training clips, and the rows of each test condition's trials."""

    table: MediaTable
    training: Rows
    cells: dict[str, Rows]
