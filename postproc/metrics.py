"""The numbers of a cell, as they stand in ``results.json``, and the one place to import metrics from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from postproc.controls import TooFewPeople, chance_eer, gender_only_eer, same_gender_eer
from postproc.ranking import matching_accuracy, retrieval_map
from postproc.roc import EER, DetPoints, Direction, auc, det_points, eer, min_dcf
from postproc.uncertainty import bootstrap_eer

if TYPE_CHECKING:
    from datamodules.schema import Cell, Items

__all__ = [
    "EER",
    "DetPoints",
    "Direction",
    "TooFewPeople",
    "auc",
    "bootstrap_eer",
    "chance_eer",
    "det_points",
    "eer",
    "evaluate_cell",
    "gender_only_eer",
    "matching_accuracy",
    "min_dcf",
    "overall",
    "retrieval_map",
    "same_gender_eer",
    "summarise",
]

Record = dict[str, Any]
_SUMMED = ("trials", "positives")
_RATES = (
    "eer",
    "eer_refined",
    "eer_same_gender",
    "eer_same_gender_refined",
    "eer_gender_only",
    "eer_chance",
    "auc",
    "auc_refined",
)


def evaluate_cell(
    cell: Cell,
    voices: Items,
    faces: Items,
    distances: NDArray[np.float64],
    refined: NDArray[np.float64] | None = None,
    *,
    controls: bool = True,
    seed: int = 0,
) -> Record:
    """The record of one cell.

    Keys: ``eer``, ``auc`` and, for ``refined``, ``eer_refined``, ``auc_refined``; the controls ``eer_same_gender``
    (``_refined``), ``eer_gender_only``, ``eer_chance``; ``eer_ci95`` = [low, high] over people; ``trials``,
    ``positives``.
    What cannot be computed (no genders, no identities, nothing refined) is None.

    Args:
        cell: a labelled cell.
        voices: the items its ``voice_index`` points into.
        faces: the items its ``face_index`` points into.
        distances: (t,) distances, lower = same person.
        refined: (t,) refined distances, or None.
        controls: False computes only EER and AUC, for every validation epoch.
        seed: of the chance control and the bootstrap.

    Raises:
        ValueError: an unlabelled cell, or bad scores; the message names the cell.
    """
    labels = cell.trials.labels
    if labels is None:
        raise ValueError(
            f"cell {cell.name!r}: {cell.trials.source} has no labels, there is nothing to measure; use predict"
        )
    record: Record = dict.fromkeys((*_RATES, "eer_ci95"))
    try:
        for values, suffix in ((distances, ""), (refined, "_refined")):
            if values is not None:
                record[f"eer{suffix}"] = eer(values, labels, direction="distance").eer
                record[f"auc{suffix}"] = auc(values, labels, direction="distance")
    except ValueError as error:
        raise ValueError(f"cell {cell.name!r} ({cell.trials.source}): {error}") from error
    record["trials"], record["positives"] = len(labels), int(np.count_nonzero(labels))
    if controls:
        _add_controls(record, cell, voices, faces, labels, distances, refined, seed)
    return record


def overall(results: Mapping[str, Record]) -> Record:
    """The plain mean over cells of every rate, None where a cell has none; trials and positives are summed.

    Raises:
        ValueError: no cells.
    """
    if not results:
        raise ValueError("no cells to average")
    records = list(results.values())
    mean: Record = {}
    for key in _RATES:
        values = [record[key] for record in records]
        mean[key] = None if any(value is None for value in values) else float(np.mean(values))
    mean["eer_ci95"] = None  # an interval over people does not average over cells that share them
    for key in _SUMMED:
        mean[key] = sum(record[key] for record in records)
    return mean


def summarise(results: Mapping[str, Record], languages: Mapping[str, str]) -> dict[str, Record]:
    """The results with an ``overall`` per set of lists: of ``heard`` and ``unheard``; ``a/overall`` of ``a/heard``.

    It stands for test languages only: strata of one list (all negatives, those of the same gender, ...) are several
    cells of one language, and have none. Nor has a set of one cell, but for the main one.

    Args:
        results: records by cell.
        languages: test language by cell.
    """
    groups: dict[str, dict[str, Record]] = {}
    for name, record in results.items():
        groups.setdefault(name.rpartition("/")[0], {})[name] = record
    summary = dict(results)
    for prefix, records in groups.items():
        if len({languages[name] for name in records}) == len(records) and (len(records) > 1 or not prefix):
            summary[f"{prefix}/overall" if prefix else "overall"] = overall(records)
    return summary


def _add_controls(
    record: Record,
    cell: Cell,
    voices: Items,
    faces: Items,
    labels: NDArray[np.int8],
    distances: NDArray[np.float64],
    refined: NDArray[np.float64] | None,
    seed: int,
) -> None:
    genders = voices.gender[cell.voice_index], faces.gender[cell.face_index]
    people = voices.identity[cell.voice_index], faces.identity[cell.face_index]
    if all((gender != "").all() for gender in genders):
        record["eer_gender_only"] = gender_only_eer(*genders, labels)
        if (genders[0] == genders[1])[labels == 0].any():
            record["eer_same_gender"] = same_gender_eer(distances, labels, *genders, direction="distance")
            if refined is not None:
                record["eer_same_gender_refined"] = same_gender_eer(refined, labels, *genders, direction="distance")
    known = all((identity != "").all() for identity in people)
    chance_people = people if known else (None, None)
    with suppress(TooFewPeople):
        record["eer_chance"] = chance_eer(distances, labels, *chance_people, direction="distance", seed=seed)
    if known:
        with suppress(TooFewPeople):
            record["eer_ci95"] = list(bootstrap_eer(distances, labels, *people, direction="distance", seed=seed))
