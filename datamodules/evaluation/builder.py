"""Builds the evaluation set: the unique items of all test conditions, and the tests as rows of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.conditions import Condition, RankingCondition
from datamodules.io.feature_files import FIELDS
from datamodules.schema import Cell, DataError, EvaluationSet, Items, ItemTable, joined_attributes


def evaluation_set(conditions: Sequence[Condition | RankingCondition], genders: dict[str, str]) -> EvaluationSet:
    """The unique items of all conditions with their features, and the cells and rankings over them.

    Challenges number the items of each list from zero. So the ids of items that belong to one condition only begin with
    its name: ``unheard/00001``.

    Raises:
        DataError: the voices of a condition have another language than its config gives.
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
        prefix = f"{condition.name}/" if condition.separate[side] else ""
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
    return Items(ids, **fields, features=table.array(rows), attributes=table.items.estimates(rows))


def _concatenate(parts: Sequence[Items], genders: dict[str, str]) -> Items:
    def joined(name: str) -> NDArray[np.str_]:
        return np.concatenate([np.empty(0, dtype=np.str_), *(getattr(part, name) for part in parts)])

    identity, gender = joined("identity"), joined("gender")
    known = np.array([genders.get(name, "") for name in identity], dtype=np.str_)
    arrays = [part.features for part in parts if part.features is not None]
    features = np.concatenate(arrays) if arrays else None
    gender = np.where(known != "", known, gender)
    attributes = joined_attributes(parts)
    return Items(joined("ids"), identity, joined("language"), gender, joined("video"), features, attributes)


def _language(condition: Condition, of_voices: NDArray[np.str_]) -> str:
    """The language of a condition's voices, "" where there are several or none is known."""
    languages, configured = np.unique(of_voices).tolist(), condition.language
    wrong = [language for language in languages if language not in ("", configured)]
    if configured and wrong:
        raise DataError(
            f"data.test.{condition.name}: its language is set to {configured}, but its voices are {', '.join(wrong)}"
        )
    return configured or (languages[0] if len(languages) == 1 else "")
