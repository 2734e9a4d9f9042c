"""Test conditions: trials and ranking lists, read from files or made of the items of some people."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from datamodules.base import VoiceFaceDataModule
from datamodules.evaluation.conditions import CellSpec, Condition, RankingCondition
from datamodules.io.packs import FIELDS
from datamodules.io.people import check_known, items_of, read_genders, read_identities
from datamodules.io.rankings import read_matching, read_retrieval
from datamodules.io.trials import read_trials
from datamodules.sampling.rankings import make_matching, make_retrieval
from datamodules.sampling.trials import all_pairs
from datamodules.schema import Cell, DataError, EvaluationSet, Items, ItemTable, RankingList, Trials

if TYPE_CHECKING:
    from datamodules.schema import ItemTable


class ConditionDataModule(VoiceFaceDataModule):
    """Has items, and makes test conditions over them.

    Args:
        root: folder that relative paths start from.
        genders: CSV ``identity, gender``, where the items do not say.
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
        """A test condition over :attr:`tables`."""
        return self.condition_over(name, spec, self.tables)

    def condition_over(
        self, name: str, spec: CellSpec, tables: tuple[ItemTable, ItemTable], own: tuple[bool, bool] = (False, False)
    ) -> Condition | RankingCondition:
        """A test condition over the items of some tables; ``own`` tells whether only this condition has them."""
        if spec.task == "verification":
            return Condition(name, self.cell_trials(name, spec, tables), *tables, spec.language, own)
        return RankingCondition(name, self.ranking_list(name, spec, tables), *tables, spec.language, own)

    def cell_trials(self, name: str, spec: CellSpec, tables: tuple[ItemTable, ItemTable] | None = None) -> Trials:
        """The trials of a test condition, read, or made of all pairs of some people in ``tables`` (None = its own).

        Raises:
            DataError: both or neither of ``trials`` and ``identities`` are given; see :func:`read_trials`.
        """
        if spec.trials is not None and spec.identities is None:
            return read_trials(self._at(spec.trials), self._at(spec.labels) if spec.labels else None)
        voices, faces, people = self._items_of(name, spec, tables or self.tables)
        return all_pairs(name, voices, faces, people, spec.same_gender, spec.cross_video)

    def ranking_list(self, name: str, spec: CellSpec, tables: tuple[ItemTable, ItemTable]) -> RankingList:
        """The list of a matching or retrieval, read, or made of the items of some people in ``tables``.

        Raises:
            DataError: see :mod:`datamodules.sampling.rankings`.
        """
        if spec.trials is not None and spec.identities is None:
            read = read_matching if spec.task == "matching" else read_retrieval
            return read(self._at(spec.trials), spec.probe)
        voices, faces, people = self._items_of(name, spec, tables)
        voices, faces = (items_of(items, np.array(people), None) for items in (voices, faces))
        if spec.task == "retrieval":
            return make_retrieval(voices, faces, spec.probe)
        options = (spec.candidates, spec.probes, spec.seed, spec.same_gender, spec.cross_video)
        return make_matching(voices, faces, spec.probe, *options)

    def _items_of(
        self, name: str, spec: CellSpec, tables: tuple[ItemTable, ItemTable]
    ) -> tuple[Items, Items, list[str]]:
        """Items in the language of a condition, with all genders that are known, and the people it names."""
        if spec.trials is not None or spec.identities is None:
            raise DataError(f"data.test.{name}: give either trials or identities")
        people = read_identities(self._at(cast("list[str] | str", spec.identities)), f"data.test.{name}.identities")
        items = [table.items for table in tables]
        check_known(people, np.union1d(items[0].identity, items[1].identity), f"test.{name}.identities")
        if spec.language:
            items = [
                items_of(part, np.array(people), [spec.language, ""]) for part in items
            ]  # "": a file that does not say
            people = np.intersect1d(items[0].identity, items[1].identity).tolist()
        known = {identity: gender for identity, gender in self._genders.items() if identity in set(people)}
        items = [replace(part, gender=np.array([known.get(i, "") for i in part.identity.tolist()])) for part in items]
        return items[0], items[1], people

    @cached_property
    def _genders(self) -> dict[str, str]:
        """Gender of every person: what the items say, and ``data.genders`` over it."""
        found: dict[str, str] = {}
        for table in self.tables:
            known = table.items.gender != ""
            found.update(zip(table.items.identity[known].tolist(), table.items.gender[known].tolist(), strict=True))
        return found | (read_genders(self._at(self.genders)) if self.genders else {})

    def _at(self, path: str | list[str]) -> str:
        """A path below ``root``; lists of names stay as they are."""
        return os.path.join(self.root, os.path.expanduser(path)) if isinstance(path, str) else cast(str, path)


def evaluation_set(conditions: Sequence[Condition | RankingCondition], genders: dict[str, str]) -> EvaluationSet:
    """The unique items over all conditions, features read, each item once, and the cells and rankings over them.

    Ids of a condition's own packs get its name in front (``unheard/00001``): challenges number each list from zero.
    """
    voices, voice_index = _unique(conditions, 0, genders)
    faces, face_index = _unique(conditions, 1, genders)
    cells, rankings = {}, {}
    for condition, voice, face in zip(conditions, voice_index, face_index, strict=True):
        if isinstance(condition, RankingCondition):
            rankings[condition.name] = condition.resolved(voice, face)
            continue
        language = _language(condition, voices.language[voice])
        cells[condition.name] = Cell(condition.name, language, condition.trials, voice, face)
    return EvaluationSet(voices, faces, cells, rankings)


def _unique(
    conditions: Sequence[Condition | RankingCondition], side: int, genders: dict[str, str]
) -> tuple[Items, list[NDArray[np.int64]]]:
    tables: dict[int, tuple[ItemTable, str, list[NDArray[np.int64]]]] = {}
    for condition in conditions:
        table = (condition.voices, condition.faces)[side]
        prefix = f"{condition.name}/" if condition.own[side] else ""
        tables.setdefault(id(table), (table, prefix, []))[2].append(condition.rows[side])
    parts: list[Items] = []
    offset, total = {}, 0
    for key, (table, prefix, rows) in tables.items():
        used = np.unique(np.concatenate(rows))
        offset[key] = (total, used)
        total += len(used)
        parts.append(_take(table, used, prefix))
    index = []
    for condition in conditions:
        start, used = offset[id((condition.voices, condition.faces)[side])]
        index.append(start + np.searchsorted(used, condition.rows[side]))
    return _concatenate(parts, genders), index


def _take(table: ItemTable, rows: NDArray[np.int64], prefix: str) -> Items:
    fields = {name: np.asarray(getattr(table.items, name)[rows]) for name in FIELDS}
    ids = np.char.add(prefix, table.items.ids[rows])
    return Items(ids, fields["identity"], fields["language"], fields["gender"], fields["video"], table.array(rows))


def _concatenate(parts: Sequence[Items], genders: dict[str, str]) -> Items:
    def joined(name: str) -> NDArray[np.str_]:
        return np.concatenate([np.empty(0, dtype=np.str_), *(getattr(part, name) for part in parts)])

    identity, gender = joined("identity"), joined("gender")
    known = np.array([genders.get(person, "") for person in identity], dtype=np.str_)
    arrays = [part.features for part in parts if part.features is not None]
    features = np.concatenate(arrays) if arrays else None
    return Items(
        joined("ids"), identity, joined("language"), np.where(known != "", known, gender), joined("video"), features
    )


def _language(condition: Condition, spoken: NDArray[np.str_]) -> str:
    """The one language of a cell's voices, "" when there are several or none is known."""
    found, given = np.unique(spoken).tolist(), condition.language
    wrong = [language for language in found if language not in ("", given)]
    if given and wrong:
        raise DataError(f"data.test.{condition.name}: its language is given as {given}, it holds {', '.join(wrong)}")
    return given or (found[0] if len(found) == 1 else "")
