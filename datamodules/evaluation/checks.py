"""Who and what must not be in training: checked for every test condition before a run starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.conditions import Condition, RankingCondition
from datamodules.schema import Cell, DataError, Items, ItemTable, Rows

SHOWN = 5


def check_unseen(condition: Condition | RankingCondition, learnt: Mapping[str, NDArray[np.str_]]) -> None:
    """No test person may be one of those learnt from.

    Args:
        condition: the test.
        learnt: (n,) people by the role they have: ``training``, ``validation``.

    Raises:
        DataError: some are; names the first five.
    """
    tested = np.union1d(*(table.items.identity[rows] for table, rows in _sides(condition)))
    for role, people in learnt.items():
        both = np.intersect1d(tested[tested != ""], people)
        if len(both):
            raise DataError(
                f"data.test.{condition.name}: {len(both)} test people are in {role} too: {', '.join(both[:SHOWN])}"
                f"{', ...' if len(both) > SHOWN else ''}; name them in data.exclude_identities"
            )


def check_seen(
    condition: Condition | RankingCondition, tables: tuple[ItemTable, ItemTable], learnt: tuple[Rows, Rows]
) -> None:
    """A test of people who are learnt from: no video may be in both.

    Args:
        condition: the test.
        tables: voices and faces of the training clips.
        learnt: rows of ``tables`` that training uses.

    Raises:
        DataError: some are; names the first five.
    """
    for (table, rows), known, used in zip(_sides(condition), tables, learnt, strict=True):
        both = np.intersect1d(_videos(table.items, rows), _videos(known.items, used))
        if len(both):
            raise DataError(
                f"data.test.{condition.name}: {len(both)} of its videos are in training too: "
                f"{', '.join(both[:SHOWN])}{', ...' if len(both) > SHOWN else ''}; take their clips out of training"
            )


def check_weights(cells: Mapping[str, Cell], languages: Sequence[str]) -> None:
    """No cell named ``unheard`` may be in a language that the weights a run starts from were trained on.

    Raises:
        DataError: one is.
    """
    for name, cell in cells.items():
        if name.rpartition("/")[2] == "unheard" and cell.language in languages:
            raise DataError(
                f"model.weights: were trained on {', '.join(languages)}, but data.test.{name} calls {cell.language} "
                "unheard; start from other weights"
            )


def _sides(condition: Condition | RankingCondition) -> list[tuple[ItemTable, Rows]]:
    """Table and rows of the voices, and of the faces, of a condition."""
    return list(zip((condition.voices, condition.faces), condition.rows, strict=True))


def _videos(items: Items, rows: Rows) -> NDArray[np.str_]:
    """``identity/video`` of rows."""
    unique = np.unique(rows)
    return np.char.add(np.char.add(items.identity[unique], "/"), items.video[unique])


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
