"""Which identities train, validate and test: the part that data modules of features and of media share."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.base import VoiceFaceDataModule
from datamodules.evaluation import checks
from datamodules.evaluation.builder import evaluation_set
from datamodules.evaluation.conditions import DRAWN, CellSpec, Condition, RankingCondition, as_spec
from datamodules.evaluation.copies import Copies
from datamodules.io.identities import check_known, items_of, read_genders, read_identities
from datamodules.io.rankings import read_matching, read_retrieval
from datamodules.io.text import expanded
from datamodules.io.trials import read_trials
from datamodules.sampling.rankings import make_matching, make_retrieval
from datamodules.sampling.splits import draw_balanced, draw_equal
from datamodules.sampling.trials import all_pairs, make_trials, why_fewer
from datamodules.schema import DataError, EvaluationSet, Items, ItemTable, RankingList, Rows, Stage, Trials
from datamodules.training_set import ItemSource, TrainingSet

VAL_IDENTITIES = 6  # 3 women and 3 men, as in the test sets of MAV-Celeb


class ConditionDataModule(VoiceFaceDataModule):
    """A data module that has items and makes test conditions of them.

    Args:
        root: folder that relative paths start from.
        genders: CSV ``identity, gender``, for items without a gender.
        **loading: options of :class:`VoiceFaceDataModule`.
    """

    def __init__(self, root: str = "", genders: str | None = None, **loading: Any) -> None:
        super().__init__(**loading)
        self.root, self.genders = root, genders

    @property
    @abstractmethod
    def tables(self) -> tuple[ItemTable, ItemTable]:
        """All voices and all faces, cached."""

    def identity_genders(self) -> dict[str, str]:
        return self._genders

    def condition(self, name: str, spec: CellSpec) -> Condition | RankingCondition:
        """Makes a test condition of items of :attr:`tables`."""
        return self.condition_over(name, spec, self.tables)

    def condition_over(
        self,
        name: str,
        spec: CellSpec,
        tables: tuple[ItemTable, ItemTable],
        separate: tuple[bool, bool] = (False, False),
    ) -> Condition | RankingCondition:
        """Makes a test condition of items of other tables.

        Args:
            name: name of the condition.
            spec: its options.
            tables: voices and faces.
            separate: whether the voices, and the faces, belong to this condition only.
        """
        if spec.task == "verification":
            return Condition(name, *tables, spec.language, separate, trials=self.cell_trials(name, spec, tables))
        ranking = self.ranking_list(name, spec, tables)
        return RankingCondition(name, *tables, spec.language, separate, ranking=ranking)

    def cell_trials(self, name: str, spec: CellSpec, tables: tuple[ItemTable, ItemTable] | None = None) -> Trials:
        """The trials of a test condition: read from a list, or pairs of some identities, all or drawn ones.

        Args:
            name: name of the condition.
            spec: its options.
            tables: voices and faces to pair; None = :attr:`tables`.

        Raises:
            DataError: both or neither of ``trials`` and ``identities`` are given; see :func:`read_trials`.
        """
        if isinstance(spec.trials, str) and spec.identities is None:
            return read_trials(self._at(spec.trials), self._at(spec.labels) if spec.labels else None)
        voices, faces, identities = self._items_of(name, spec, tables or self.tables)
        if spec.draw is not None:
            return self._drawn_trials(name, spec, voices, faces, identities)
        return all_pairs(name, voices, faces, identities, spec.same_gender, spec.cross_video)

    @staticmethod
    def _drawn_trials(name: str, spec: CellSpec, voices: Items, faces: Items, identities: list[str]) -> Trials:
        if spec.same_gender or spec.cross_video:
            raise DataError(f"data.test.{name}: draw takes neither same_gender nor cross_video; leave one out")
        assert spec.draw is not None
        asked = DRAWN if spec.trials is None else int(spec.trials)
        tested = [items_of(items, np.array(identities), None) for items in (voices, faces)]
        try:
            trials = make_trials(tested[0], tested[1], asked, spec.seed, spec.draw)
        except DataError as error:
            raise DataError(f"data.test.{name}: {error}") from error
        if why := why_fewer(trials, tested[0], tested[1], asked, spec.draw):
            warnings.warn(f"data.test.{name}: {why}", stacklevel=2)
        return trials

    def ranking_list(self, name: str, spec: CellSpec, tables: tuple[ItemTable, ItemTable]) -> RankingList:
        """The list of a matching or retrieval test: read from a file, or made of the items of some identities.

        Raises:
            DataError: see :mod:`datamodules.sampling.rankings`.
        """
        if isinstance(spec.trials, str) and spec.identities is None:
            read = read_matching if spec.task == "matching" else read_retrieval
            return read(self._at(spec.trials), spec.probe)
        voices, faces, identities = self._items_of(name, spec, tables)
        voices, faces = (items_of(items, np.array(identities), None) for items in (voices, faces))
        if spec.task == "retrieval":
            return make_retrieval(voices, faces, spec.probe)
        options = (spec.candidates, spec.probes, spec.seed, spec.same_gender, spec.cross_video)
        return make_matching(voices, faces, spec.probe, *options)

    def _items_of(
        self, name: str, spec: CellSpec, tables: tuple[ItemTable, ItemTable]
    ) -> tuple[Items, Items, list[str]]:
        """Items in the language of a condition, with their genders, and the identities that the condition names."""
        if spec.identities is None or isinstance(spec.trials, str):
            raise DataError(f"data.test.{name}: give either trials or identities")
        if spec.trials is not None and (spec.draw is None or spec.task != "verification"):
            raise DataError(f"data.test.{name}: trials is a number, {spec.trials}; draw says how, e.g. draw: scrambled")
        identities = self._identities(spec.identities, f"data.test.{name}.identities")
        items = [table.items for table in tables]
        check_known(identities, np.union1d(items[0].identity, items[1].identity), f"test.{name}.identities")
        if spec.language:
            languages = [spec.language, ""]  # "": an item without a language
            items = [items_of(part, np.array(identities), languages) for part in items]
            identities = np.intersect1d(items[0].identity, items[1].identity).tolist()
        known = {identity: gender for identity, gender in self._genders.items() if identity in set(identities)}
        items = [replace(part, gender=np.array([known.get(i, "") for i in part.identity.tolist()])) for part in items]
        return items[0], items[1], identities

    @cached_property
    def _genders(self) -> dict[str, str]:
        """Gender of every identity, from the items and from ``data.genders``, which wins."""
        genders: dict[str, str] = {}
        for table in self.tables:
            known = table.items.gender != ""
            genders.update(zip(table.items.identity[known].tolist(), table.items.gender[known].tolist(), strict=True))
        return genders | (read_genders(self._at(self.genders)) if self.genders else {})

    def _at(self, path: str | Path) -> str:
        """A path below ``root``."""
        return str(Path(self.root) / expanded(path))

    def _identities(self, source: Sequence[str] | str | Path, key: str) -> list[str]:
        """Identities that an option lists, or the file below ``root`` that it names."""
        return read_identities(self._at(source) if isinstance(source, str | Path) else source, key)


class SplitDataModule(ConditionDataModule):
    """Splits the identities, and checks that no test identity and no unheard language is in training.

    Training uses the clips of the training identities in the training languages, without the validation identities.
    A run is refused if a test identity is in training or validation, or if a test condition is named ``heard`` or
    ``unheard`` and its language says otherwise. A subclass defines the items (:attr:`tables`), which of them make a
    clip (:meth:`clip_rows`), and how they are read.

    Args:
        train_languages: languages that training uses.
        test: trial lists by name of the test condition: ``heard``, ``unheard``, possibly after the name of a set of
            lists: ``balanced/heard``.
        train_identities: identities to train on, as a list or a file (``folds.json#0``, ``manifest.csv#split=train``,
            or one per line); None = all.
        exclude_identities: identities to leave out of training and validation: name the test identities here.
        val_identities: number of training identities that are held out for validation, as many of each gender as
            possible; or a list or file of them. 0 = no validation: train on every identity.
        val_languages: languages of the validation trials; None = the training languages.
        val_trials: number of trials in each validation language.
        split_seed: draws the validation identities and trials; independent of the seed of training.
        equal_clips: languages of an ablation over ``train_languages``: see :func:`draw_equal`; None = all clips.
        corpus: the data set that the identities belong to, such as ``MAV-Celeb v1``. Checkpoints keep it with the
            identities, and weights that learnt from id0001 of another corpus may be tested on id0001 of this one. None:
            unknown, then equal names are equal people.
        shared_videos: whether the data set has videos that show several identities. Otherwise a test is refused if one
            of its videos is in training under another identity.
        languages_unknown: whether tests of an ``unheard`` language are refused where nothing says in which language
            some training clips are, of these data or of weights: ``refuse`` or ``allow``; results.json then names their
            data set. ``""`` in ``train_languages`` takes clips without a language.
        **options: options of :class:`ConditionDataModule`.
    """

    def __init__(
        self,
        train_languages: list[str],
        test: dict[str, str | CellSpec] | None = None,
        train_identities: list[str] | str | None = None,
        exclude_identities: list[str] | str | None = None,
        val_identities: int | list[str] | str = VAL_IDENTITIES,
        val_languages: list[str] | None = None,
        val_trials: int = 2000,
        split_seed: int = 0,
        equal_clips: list[str] | None = None,
        corpus: str | None = None,
        shared_videos: bool = False,
        languages_unknown: Literal["refuse", "allow"] = "refuse",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if languages_unknown not in ("refuse", "allow"):
            raise DataError(f"data.languages_unknown: {languages_unknown!r} is unknown; use refuse or allow")
        self.takes_unknown = languages_unknown == "allow"
        if not train_languages:
            raise DataError("data.train_languages: is empty; name the languages to train on")
        self.train_languages, self.val_languages = train_languages, val_languages or train_languages
        self.test = test or {}
        self.train_identities, self.exclude_identities = train_identities, exclude_identities
        self.val_identities, self.val_trials, self.split_seed = val_identities, val_trials, split_seed
        self.equal_clips, self.corpus, self.shared_videos = equal_clips, corpus or "", shared_videos
        self._evaluations: dict[str, EvaluationSet] = {}

    @abstractmethod
    def clip_rows(self) -> tuple[Rows, Rows]:
        """Rows of ``tables``: (n,) voices and (n,) faces of the same clips. The face determines the identity."""

    @abstractmethod
    def training_sources(self) -> tuple[ItemSource, ItemSource]:
        """Readers of ``tables`` by row, with augmentation."""

    @property
    def num_identities(self) -> int:
        return len(self.training_set().identities)

    def setup(self, stage: str) -> None:
        """Reads and checks everything, so that a bad split or list is found before a run starts."""
        self.training_set()
        self._copies.warn()
        if self.test:
            evaluation = self.evaluation_set("test")
            if stage != "predict":
                for cell in evaluation.cells.values():
                    checks.check_both_classes(cell)

    def plain_sources(self) -> tuple[ItemSource, ItemSource]:
        """Readers of ``tables`` by row, without augmentation."""
        return self.training_sources()

    def training_set(self) -> TrainingSet:
        return self._training

    def reference_set(self) -> TrainingSet:
        return self._clips_of(self.training_rows, self.plain_sources())

    def held_out_set(self) -> TrainingSet | None:
        held_out = np.isin(self.tables[1].items.identity[self.usable_clips[1]], self.val_names)
        rows = self.usable_clips[0][held_out], self.usable_clips[1][held_out]
        return self._clips_of(rows, self.plain_sources()) if held_out.any() else None

    def measured(self, stage: Stage | Literal["fit"]) -> tuple[Stage, ...]:
        if stage != "fit":
            return (stage,)
        return ("test", "validate") if self.test else ("validate",)

    def evaluation_set(self, stage: Stage) -> EvaluationSet:
        kind = "validate" if stage == "validate" else "test"
        if kind not in self._evaluations:
            self._evaluations[kind] = self._validation_set() if kind == "validate" else self._test_set()
        return self._evaluations[kind]

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return super().val_dataloader() if len(self.val_names) else []

    # -- training -----------------------------------------------------------------------------------------------

    @cached_property
    def usable_clips(self) -> tuple[Rows, Rows]:
        """Voice and face rows of the clips that training and validation may use."""
        voice, face = self.clip_rows()
        voices, faces = self.tables[0].items, self.tables[1].items
        check_known(self.train_languages, np.unique(voices.language[voice]), "train_languages")
        identity = faces.identity[face]
        keep = np.isin(voices.language[voice], self.train_languages) & (identity != "")
        keep &= np.isin(faces.language[face], [*self.train_languages, ""])  # "": a portrait without a language
        if self.train_identities is not None:
            chosen = self._identities(self.train_identities, "data.train_identities")
            check_known(chosen, np.unique(identity), "train_identities")
            keep &= np.isin(identity, chosen)
        if self.exclude_identities is not None:
            keep &= ~np.isin(identity, self._identities(self.exclude_identities, "data.exclude_identities"))
        if self.equal_clips is not None:
            check_known(self.equal_clips, np.unique(voices.language[voice]), "equal_clips")
            keep &= draw_equal(
                identity, voices.language[voice], self.equal_clips, self.train_languages, self.split_seed
            )
        if not keep.any():
            raise DataError("data: no training clip is left; check train_languages, train_ and exclude_identities")
        return voice[keep], face[keep]

    @cached_property
    def val_names(self) -> NDArray[np.str_]:
        """Sorted validation identities."""
        identities = np.unique(self.tables[1].items.identity[self.usable_clips[1]])
        if isinstance(self.val_identities, int):
            if self.val_identities < 0 or self.val_identities == 1 or self.val_identities >= len(identities):
                raise DataError(
                    f"data.val_identities: {self.val_identities} of {len(identities)} training identities; give 0, or "
                    "at least 2 and fewer than there are"
                )
            return draw_balanced(identities, self._genders, self.val_identities, self.split_seed)
        chosen = self._identities(self.val_identities, "data.val_identities")
        check_known(chosen, identities, "val_identities")
        return np.array(chosen, dtype=np.str_)

    @cached_property
    def _copies(self) -> Copies:
        return Copies(self.tables, self.usable_clips, self.shared_videos)

    @cached_property
    def training_rows(self) -> tuple[Rows, Rows]:
        """Rows of ``tables`` that training uses: (n,) voices and (n,) faces of the same clips."""
        voice, face = self.usable_clips
        keep = ~np.isin(self.tables[1].items.identity[face], self.val_names)
        if not keep.any():
            raise DataError("data.val_identities: leaves no identity to train on; name fewer")
        return voice[keep], face[keep]

    @cached_property
    def _training(self) -> TrainingSet:
        return self._clips_of(self.training_rows, self.training_sources())

    def _clips_of(self, rows: tuple[Rows, Rows], sources: tuple[ItemSource, ItemSource]) -> TrainingSet:
        voices, faces = self.tables
        voice, face = rows
        identities, identity = np.unique(faces.items.identity[face], return_inverse=True)
        language = np.asarray(voices.items.language[voice])
        video = np.where(voices.items.video[voice] == faces.items.video[face], voices.items.video[voice], "")
        attributes = voices.items.estimates(voice), faces.items.estimates(face)
        return TrainingSet(*sources, voice, face, identity.astype(np.int64), language, identities, video, attributes)

    # -- evaluation ---------------------------------------------------------------------------------------------

    def _validation_set(self) -> EvaluationSet:
        return evaluation_set(self.validation_conditions(self.train_languages), self._genders)

    def validation_conditions(self, heard: Sequence[str]) -> list[Condition]:
        """Drawn trials of the validation identities in each validation language; none without such identities.

        Args:
            heard: the languages of training.
        """
        if not len(self.val_names):
            return []
        voices, faces = self.tables
        check_known(self.val_languages, np.unique(voices.items.language), "val_languages")
        conditions = []
        for language in self.val_languages:
            kind = "heard" if language in heard else "unheard"
            only = sum((other in heard) == (kind == "heard") for other in self.val_languages) == 1
            val_voices = items_of(voices.items, self.val_names, [language])
            val_faces = items_of(faces.items, self.val_names, [language, ""])
            trials = make_trials(val_voices, val_faces, self.val_trials, self.split_seed)
            conditions.append(Condition(kind if only else f"{language}/{kind}", voices, faces, trials=trials))
        return conditions

    def check_copies_of(self, condition: Condition | RankingCondition) -> None:
        """Refuses a test whose items are in training under another name."""
        self._copies.refuse(condition)

    def roles(self) -> list[checks.Role]:
        """Identities that no test may have, by what they do."""
        return [checks.Role("training", self.training_set().identities), checks.Role("validation", self.val_names)]

    def _test_set(self) -> EvaluationSet:
        if not self.test:
            raise DataError("data.test: names no trial list; give one as test: {heard: trials.csv}")
        specs = {name: as_spec(spec) for name, spec in self.test.items()}
        conditions = {name: self.condition(name, spec) for name, spec in specs.items()}
        evaluation = evaluation_set(list(conditions.values()), self._genders)
        roles = self.roles()
        languages = [*self.train_languages, *self.val_languages]
        checks.check_names(self.tables, conditions.values(), languages)
        for name, condition in conditions.items():
            if specs[name].seen:
                checks.check_seen(condition, self.tables, self.training_rows)
            else:
                checks.check_unseen(condition, roles)
            checks.check_labels(condition)
            self.check_copies_of(condition)
        for cell in evaluation.cells.values():
            checks.check_languages(
                cell, evaluation.voices, self.train_languages, self.learnt_languages(), self.takes_unknown
            )
        cells = {name: replace(cell, seen=specs[name].seen) for name, cell in evaluation.cells.items()}
        rankings = {name: replace(ranking, seen=specs[name].seen) for name, ranking in evaluation.rankings.items()}
        return replace(evaluation, cells=cells, rankings=rankings)
