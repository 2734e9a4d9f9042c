"""Test conditions: trials and ranking lists, read from files or made of the items of some people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.conditions import Condition, RankingCondition
from datamodules.io.feature_files import FIELDS
from datamodules.schema import Cell, DataError, EvaluationSet, Items, ItemTable


def evaluation_set(conditions: Sequence[Condition | RankingCondition], genders: dict[str, str]) -> EvaluationSet:
    """The unique items over all conditions, features read, each item once, and the cells and rankings over them.

    Ids of a condition's own files get its name in front (``unheard/00001``): challenges number each list from zero.
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
