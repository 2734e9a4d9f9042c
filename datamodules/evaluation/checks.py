"""Checks of every test condition before a run starts: no test identity, video or unheard language in training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.conditions import Condition, RankingCondition
from datamodules.evaluation.learnt import Learnt, check_unlabelled, spoken_in
from datamodules.io.identities import check_spelling
from datamodules.io.text import shown
from datamodules.schema import Cell, DataError, Items, ItemTable, Rows


@dataclass(frozen=True, eq=False)
class Role:
    """Identities that no test may have.

    Attributes:
        name: what they do: ``training``, ``validation``.
        identities: (n,) their names.
        option: where a config leaves identities out.
        written: their names as that option writes them, where these differ.
    """

    name: str
    identities: NDArray[np.str_]
    option: str = "data.exclude_identities"
    written: Mapping[str, str] = field(default_factory=dict)


def check_unseen(condition: Condition | RankingCondition, roles: Sequence[Role]) -> None:
    """Refuses a test whose identities are in training or validation.

    Args:
        condition: the test.
        roles: the identities of both.

    Raises:
        DataError: some are; names the first five.
    """
    tested = np.union1d(*(table.items.identity[rows] for table, rows in _sides(condition)))
    for role in roles:
        both = np.intersect1d(tested[tested != ""], role.identities).tolist()
        if both:
            names = shown([role.written.get(name, name) for name in both])
            raise DataError(
                f"data.test.{condition.name}: {len(both)} test identities are also in {role.name}: {names}; "
                f"name them in {role.option}"
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
        raise DataError(
            f"data.test.{cell.name}: the language of its voices is unknown; set its language, or where none is known "
            f"name it {cell.name.removesuffix(kind)}test"
        )
    wrong = sorted(languages - set(train_languages) if kind == "heard" else languages & set(train_languages))
    if wrong:
        raise DataError(
            f"data.test.{cell.name}: contains {', '.join(wrong)} voices, training uses {', '.join(train_languages)}; "
            f"name it {'unheard' if kind == 'heard' else 'heard'} or change data.train_languages"
        )


def check_languages(
    cell: Cell, voices: Items, train_languages: Sequence[str], learnt: Learnt, unknown: bool = False
) -> None:
    """:func:`check_heard`, and refuses an ``unheard`` language that may be among those of unlabelled clips.

    Args:
        cell: the test condition.
        voices: of all conditions.
        train_languages: as the config names them.
        learnt: record of the languages of the training clips.
        unknown: whether unlabelled clips may be in any language.

    Raises:
        DataError: see :func:`check_heard` and :func:`check_unlabelled`.
    """
    if cell.name.rpartition("/")[2] != "unheard":
        check_heard(cell, voices, train_languages)
        return
    guessed = learnt.heard - learnt.languages if unknown else frozenset[str]()
    check_heard(cell, voices, [name for name in train_languages if name not in guessed])
    if not unknown:
        check_unlabelled(f"data.test.{cell.name}", spoken_in(cell, voices), learnt, "training uses")


def check_names(
    tables: Sequence[ItemTable], conditions: Collection[Condition | RankingCondition], languages: Sequence[str]
) -> None:
    """Refuses identities and languages that differ only in case or Unicode form, of training and of all tests.

    Args:
        tables: voices and faces of the training clips.
        conditions: all tests.
        languages: as the config names them.

    Raises:
        DataError: there are such names.
    """
    both = [*tables, *(table for condition in conditions for table in (condition.voices, condition.faces))]
    unique = {id(table): table for table in both}.values()
    check_spelling(np.unique(np.concatenate([table.items.identity for table in unique])).tolist(), "identity")
    spoken = np.unique(np.concatenate([table.items.language for table in unique])).tolist()
    check_spelling([*spoken, *languages, *(condition.language for condition in conditions)], "language")
