"""Checks of every test condition before a run starts: no test identity, video or unheard language in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.conditions import Condition, RankingCondition
from datamodules.io.text import shown
from datamodules.schema import Cell, DataError, Items, ItemTable, Rows


def check_unseen(condition: Condition | RankingCondition, roles: Mapping[str, NDArray[np.str_]]) -> None:
    """Refuses a test whose identities are in training or validation.

    Args:
        condition: the test.
        roles: (n,) identities by role: ``training``, ``validation``.

    Raises:
        DataError: some are; names the first five.
    """
    tested = np.union1d(*(table.items.identity[rows] for table, rows in _sides(condition)))
    for role, identities in roles.items():
        both = np.intersect1d(tested[tested != ""], identities)
        if len(both):
            raise DataError(
                f"data.test.{condition.name}: {len(both)} test identities are also in {role}: {shown(both.tolist())}; "
                "name them in data.exclude_identities"
            )


def check_seen(
    condition: Condition | RankingCondition, tables: tuple[ItemTable, ItemTable], training: tuple[Rows, Rows]
) -> None:
    """Refuses a test of training identities that uses videos of training.

    Args:
        condition: the test.
        tables: voices and faces of the training clips.
        training: rows of ``tables`` that training uses.

    Raises:
        DataError: there are such videos; names the first five.
    """
    for (table, rows), known, used in zip(_sides(condition), tables, training, strict=True):
        both = np.intersect1d(_videos(table.items, rows), _videos(known.items, used))
        if len(both):
            raise DataError(
                f"data.test.{condition.name}: {len(both)} of its videos are also in training: {shown(both.tolist())}; "
                "take their clips out of training"
            )


def _sides(condition: Condition | RankingCondition) -> list[tuple[ItemTable, Rows]]:
    """Table and rows of a condition's voices, and those of its faces."""
    return list(zip((condition.voices, condition.faces), condition.rows, strict=True))


def _videos(items: Items, rows: Rows) -> NDArray[np.str_]:
    """``identity/video`` of rows."""
    unique = np.unique(rows)
    return np.char.add(np.char.add(items.identity[unique], "/"), items.video[unique])


def check_both_classes(cell: Cell) -> None:
    """Refuses a labelled list without both same-person and different-person trials: it has no error rate.

    Raises:
        DataError: all labels are equal.
    """
    labels = cell.trials.labels
    if labels is not None and (labels == labels[0]).all():
        raise DataError(
            f"data.test.{cell.name}: all {len(labels)} labels of {cell.trials.source} are {labels[0]}; an error rate "
            "needs both 0 and 1; correct the list, or remove its labels"
        )


def check_labels(condition: Condition | RankingCondition) -> None:
    """Refuses a list whose labels contradict the identities of its items.

    Raises:
        DataError: some do; names the first five trials.
    """
    if not isinstance(condition, Condition) or condition.trials.labels is None:
        return
    voice, face = (table.items.identity[rows] for table, rows in _sides(condition))
    wrong = (voice != "") & (face != "") & ((voice == face) != (condition.trials.labels == 1))
    if wrong.any():
        keys = condition.trials.keys[wrong].tolist()
        raise DataError(
            f"data.test.{condition.name}: the labels of {len(keys)} of {len(wrong)} trials in "
            f"{condition.trials.source} contradict the identities of their items: {shown(keys)}; 1 is the same person"
        )


def check_heard(cell: Cell, voices: Items, train_languages: Sequence[str]) -> None:
    """Checks the name of a test condition against its languages.

    One named ``heard`` may contain training languages only, one named ``unheard`` none of them. Other names are free.

    Raises:
        DataError: the name is wrong, or the languages are unknown.
    """
    kind = cell.name.rpartition("/")[2]
    if kind not in ("heard", "unheard"):
        return
    languages = {cell.language} if cell.language else set(np.unique(voices.language[cell.voice_index]).tolist())
    if "" in languages:
        raise DataError(f"data.test.{cell.name}: the language of its voices is unknown; set its language")
    wrong = sorted(languages - set(train_languages) if kind == "heard" else languages & set(train_languages))
    if wrong:
        raise DataError(
            f"data.test.{cell.name}: contains {', '.join(wrong)} voices, training uses {', '.join(train_languages)}; "
            f"name it {'unheard' if kind == 'heard' else 'heard'} or change data.train_languages"
        )
