"""VoxCeleb1 as embeddings or media, with its public splits and verification, matching and retrieval lists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.datasets.voxceleb.lists import public_tests, read_languages, read_ranking, read_verification
from datamodules.datasets.voxceleb.people import People, Split, read_people, read_split
from datamodules.evaluation.conditions import CellSpec, as_spec
from datamodules.features.module import FeatureDataModule
from datamodules.features.table import FeatureTable
from datamodules.io.feature_files import FeatureFile
from datamodules.io.identities import check_known
from datamodules.io.text import expanded
from datamodules.media.manifest import ManifestDataModule
from datamodules.media.table import MediaTable
from datamodules.sampling.pairing import pairs_by_video
from datamodules.schema import MODALITIES, DataError, Items, ItemTable, Modality, RankingList, Rows, Trials
from datamodules.split import VAL_IDENTITIES, SplitDataModule
from datamodules.training_set import TrainingSet

LANGUAGE = "English"  # what clips are taken for of which nothing says the language: that of most of VoxCeleb1
VAL_TRIALS, BATCH_SIZE = 10_000, 256


@dataclass(frozen=True, eq=False)
class Protocol:
    """The identities that train and validate, and the tests.

    Attributes:
        people: all identities.
        train: ids of the training identities, including those of validation; None = all.
        val: ids of the validation identities, or the number of them to draw.
        excluded: ids that neither train nor validate; None = none.
        tests: test conditions by name.
    """

    people: People
    train: list[str] | None
    val: list[str] | int
    excluded: list[str] | None
    tests: dict[str, str | CellSpec]


def read_protocol(
    lists: str, split: Split | None, test: dict[str, str | CellSpec] | None, exclude_nationalities: list[str] | None
) -> Protocol:
    """Reads the protocol of a split.

    Args:
        lists: folder of the public lists.
        split: name of the split; None = no split and no public tests: train on all identities (for pre-training).
        test: test conditions in place of the public ones.
        exclude_nationalities: identities of these countries are excluded.

    Raises:
        DataError: see :func:`read_people` and :func:`read_split`; an unknown nationality.
    """
    folder = expanded(lists)
    people = read_people(folder / "vox1_meta.csv")
    check_known(exclude_nationalities or [], np.unique(list(people.nations.values())), "exclude_nationalities")
    excluded = {identity for identity, nation in people.nations.items() if nation in (exclude_nationalities or [])}
    if split is None:
        return Protocol(people, None, VAL_IDENTITIES, sorted(excluded) or None, test or {})
    roles = read_split(folder, split, people)
    train, val = ([identity for identity in roles[role] if identity not in excluded] for role in ("train", "val"))
    tests: dict[str, str | CellSpec] = {**public_tests(split, roles["test"])} if test is None else test
    return Protocol(people, train + val, val, sorted(excluded) or None, tests)


def named_items(items: Items, people: People, source: str, listed: dict[str, str] | None = None) -> Items:
    """Items with the ids of :meth:`People.items`, the identity and video these contain, and the genders of ``people``.

    Args:
        items: with ids as their file names them.
        people: all identities.
        source: of the items, for messages.
        listed: language by item or video, see :func:`read_languages`; None = no list.

    Returns:
        The items; where nothing says the language it is :data:`LANGUAGE`, with a list "".

    Raises:
        DataError: an unknown identity, or two items with the same id.
    """
    ids = people.items(np.asarray(items.ids), source)
    unique, first = np.unique(ids, return_index=True)
    if len(unique) < len(ids):
        again = np.setdiff1d(np.arange(len(ids)), first)[0]
        raise DataError(f"{source}: {items.ids[again]} and another item both have the id {ids[again]}")
    parts = [item.split("/") for item in ids.tolist()]
    identity = np.array([part[0] for part in parts])
    video = np.array([part[1] if len(part) > 2 else "" for part in parts], dtype=np.str_)
    language = np.where(np.asarray(items.language) == "", "" if listed else LANGUAGE, items.language)
    if listed:
        of = [listed.get(item, listed.get(seen, own)) for item, seen, own in zip(ids, video, language, strict=True)]
        language = np.array(of, dtype=np.str_)
    return Items(ids, identity, language, np.array([people.genders[name] for name in identity.tolist()]), video)


class _VoxCelebProtocol(SplitDataModule):
    """Tests from the public lists, and training without the videos that tests of seen identities use.

    Args:
        lists: folder of ``vox1_meta.csv``, ``pins_splits``, ``wen`` and ``cmpc``.
        split: ``pins`` (901/100/250) or ``wen`` (924/112/189); None = train on all identities, test nothing.
        test: test conditions by name, their lists below ``lists``; None = the public ones of the split.
        exclude_nationalities: identities of these countries are left out of training and validation.
        val_identities: see :class:`SplitDataModule`; None = those of the split.
        val_trials: see :class:`SplitDataModule`.
        batch_size: pairs per optimiser step, over all ranks.
        languages: CSV with the language of clips: ``item, language`` or ``video, language``; clips that are not in it
            have none. None = as the items say; where they say nothing, clips are taken for English, and a test of
            unheard English needs ``languages_unknown: allow``.
        train_languages: languages that training uses; None = English.
        **options: options of :class:`FeatureDataModule` or :class:`ManifestDataModule`.
    """

    def __init__(
        self,
        lists: str,
        split: Split | None = "pins",
        test: dict[str, str | CellSpec] | None = None,
        exclude_nationalities: list[str] | None = None,
        val_identities: int | list[str] | str | None = None,
        val_trials: int = VAL_TRIALS,
        batch_size: int = BATCH_SIZE,
        languages: str | None = None,
        train_languages: list[str] | None = None,
        **options: Any,
    ) -> None:
        self.languages = languages
        self.lists, self.protocol = lists, read_protocol(lists, split, test, exclude_nationalities)
        super().__init__(
            train_languages=train_languages or [LANGUAGE],
            test=self.protocol.tests,
            genders=None,
            train_identities=self.protocol.train,
            exclude_identities=self.protocol.excluded,
            val_identities=self.protocol.val if val_identities is None else val_identities,
            val_languages=None,
            corpus="VoxCeleb1",
            val_trials=val_trials,
            batch_size=batch_size,
            **options,
        )

    @cached_property
    def _listed(self) -> dict[str, str] | None:
        return read_languages(self._at(self.languages), self.protocol.people) if self.languages else None

    def labelled(self, train: TrainingSet) -> NDArray[np.bool_]:
        known = super().labelled(train)
        return known if self._listed else known & ~self._guessed[train.voice_rows]

    def _name(self, items: Items, source: str, voices: bool) -> Items:
        """The items under the names of all lists; notes of which voices nothing says the language."""
        if voices:
            self._guessed: NDArray[np.bool_] = np.asarray(items.language) == ""
        return named_items(items, self.protocol.people, source, self._listed)

    def cell_trials(self, name: str, spec: CellSpec, tables: tuple[ItemTable, ItemTable] | None = None) -> Trials:
        if not isinstance(spec.trials, str) or spec.identities is not None:
            return super().cell_trials(name, spec, tables)
        return read_verification(expanded(self.lists) / spec.trials, self.protocol.people)

    def ranking_list(self, name: str, spec: CellSpec, tables: tuple[ItemTable, ItemTable]) -> RankingList:
        if not isinstance(spec.trials, str) or spec.identities is not None:
            return super().ranking_list(name, spec, tables)
        return read_ranking(expanded(self.lists) / spec.trials, spec, self.protocol.people)

    def without_tested_videos(self, voice: Rows, face: Rows) -> tuple[Rows, Rows]:
        """Leaves out the clips of videos that a verification list of seen identities uses."""
        tested: set[str] = set()
        for name, spec in ((name, as_spec(spec)) for name, spec in self.test.items()):
            if spec.seen and spec.task == "verification" and isinstance(spec.trials, str):
                trials = self.cell_trials(name, spec)
                tested |= {item.rpartition("/")[0] for column in (trials.voices, trials.faces) for item in set(column)}
        keep = np.ones(len(voice), dtype=bool)
        for table, rows in zip(self.tables, (voice, face), strict=True):
            folders = np.array([item.rpartition("/")[0] in tested for item in table.items.ids.tolist()])
            keep &= ~folders[rows]
        return voice[keep], face[keep]


class VoxCelebFeatureDataModule(_VoxCelebProtocol, FeatureDataModule):
    """VoxCeleb1 as embeddings: the options of the protocol and those of :class:`FeatureDataModule`.

    Feature files name their items by path: ``id10002/<video>/00001``, ``A.R._Rahman/1.6/<video>/0035550`` or, for
    frontal faces, ``A.R._Rahman/00000550``. Folders before the identity are ignored. Training, validation and test
    identities are those of the split.
    """

    def _table(self, files: list[str | FeatureFile], modality: Modality, labelled: bool) -> FeatureTable:  # type: ignore[override]
        table = super()._table(files, modality, labelled)
        table.items = self._name(table.items, f"data.{modality}s", labelled and modality == "voice")
        return table

    def clip_rows(self) -> tuple[Rows, Rows]:
        voices, faces = (table.items for table in self.tables)
        if not (faces.video != "").any():  # frontal faces belong to every video
            voices = replace(voices, video=np.zeros_like(voices.video))
        if self._listed:  # which may not list faces
            voices, faces = (replace(items, language=np.zeros_like(items.language)) for items in (voices, faces))
        return self.without_tested_videos(*pairs_by_video(voices, faces))


class VoxCelebDataModule(_VoxCelebProtocol, ManifestDataModule):
    """VoxCeleb1 as waveforms and images, from the manifest that ``prepare`` makes of its folders.

    Args:
        manifest: the table; for its paths see :class:`VoxCelebFeatureDataModule`.
        **options: options of the protocol and of :class:`ManifestDataModule`.
    """

    def __init__(self, manifest: str, **options: Any) -> None:
        super().__init__(manifest=manifest, columns=None, **options)

    @cached_property
    def _named(self) -> tuple[MediaTable, MediaTable]:
        voices, faces = (
            replace(table, items=self._name(table.items, f"manifest {self.manifest}", side == "voice"))
            for side, table in zip(MODALITIES, super().tables, strict=True)
        )
        return voices, faces

    @property
    def tables(self) -> tuple[MediaTable, MediaTable]:
        return self._named

    def clip_rows(self) -> tuple[Rows, Rows]:
        return self.without_tested_videos(*super().clip_rows())
