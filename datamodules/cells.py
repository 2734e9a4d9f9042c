"""Test conditions: from trial lists to unique items and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.io.packs import FIELDS, Pack
from datamodules.io.trials import resolve
from datamodules.sampling.rankings import RankingCondition
from datamodules.schema import Cell, DataError, EvaluationSet, Items, ItemTable, Modality, Trials


@dataclass
class CellSpec:
    """One test condition. A bare path stands for ``CellSpec(trials=path)``.

    Attributes:
        trials: a trial list.
        labels: a file of its labels, where the list has none and the labels are known.
        language: of its voices; "" = as the items say. Needed for ``heard`` and ``unheard`` of items that do not.
        voices: packs of its own, as the challenges release them; None = those of the data module.
        faces: the same for faces.
        identities: instead of ``trials``: every voice of these people with every face of theirs, labelled by identity;
            with ``language``, those of that language.
        task: ``verification`` of trials (EER, AUC), 1:N ``matching``, or ``retrieval`` (mAP). Lists of the latter two
            are described in :mod:`datamodules.sampling.rankings`; with ``identities`` they are made of these people's items.
        probe: modality of the probes of a matching or retrieval; the candidates are of the other one.
        candidates: N of a matching that is made.
        probes: how many it has.
        seed: draws them.
        same_gender: of what is made of ``identities``: who is not the same person is of the same gender.
        cross_video: voices and faces of the same person are from different videos.
        seen: its people are in training, and known by videos that are not; other tests are of people never seen.
    """

    trials: str | None = None
    labels: str | None = None
    language: str = ""
    voices: list[str | Pack] | None = None
    faces: list[str | Pack] | None = None
    identities: list[str] | str | None = None
    task: Literal["verification", "matching", "retrieval"] = "verification"
    probe: Modality = "voice"
    candidates: int = 2
    probes: int = 10_000
    seed: int = 0
    same_gender: bool = False
    cross_video: bool = False
    seen: bool = False


def as_spec(spec: str | CellSpec) -> CellSpec:
    """A bare path stands for a list."""
    return CellSpec(trials=spec) if isinstance(spec, str) else spec


@dataclass(frozen=True, eq=False)
class Condition:
    """A trial list and the tables its items are in; ``own`` tells whether they are its own (voices, faces)."""

    name: str
    trials: Trials
    voices: ItemTable
    faces: ItemTable
    language: str = ""
    own: tuple[bool, bool] = (False, False)
    rows: tuple[NDArray[np.int64], NDArray[np.int64]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", resolve(self.trials, self.voices.items.ids, self.faces.items.ids))


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


def check_both_classes(cell: Cell) -> None:
    """A labelled list holds same-person and different-person trials, or there is no error rate to report.

    Raises:
        DataError: it holds one kind.
    """
    labels = cell.trials.labels
    if labels is not None and (labels == labels[0]).all():
        raise DataError(
            f"data.test.{cell.name}: all {len(labels)} labels of {cell.trials.source} are {labels[0]}, an error rate "
            "needs both; mend the list, or take its labels out"
        )


def check_heard(cell: Cell, voices: Items, train_languages: Sequence[str]) -> None:
    """A cell named ``heard`` holds training languages only, one named ``unheard`` none; other names say nothing.

    Raises:
        DataError: it is not so, or the languages are unknown.
    """
    kind = cell.name.rpartition("/")[2]
    if kind not in ("heard", "unheard"):
        return
    spoken = {cell.language} if cell.language else set(np.unique(voices.language[cell.voice_index]).tolist())
    if "" in spoken:
        raise DataError(f"data.test.{cell.name}: the language of its voices is unknown; give the cell a language")
    wrong = sorted(spoken - set(train_languages) if kind == "heard" else spoken & set(train_languages))
    if wrong:
        raise DataError(
            f"data.test.{cell.name}: holds {', '.join(wrong)} voices, training hears {', '.join(train_languages)}; "
            f"name the cell {'unheard' if kind == 'heard' else 'heard'} or change data.train_languages"
        )


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
