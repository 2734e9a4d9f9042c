"""The records of test conditions in ``results.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datamodules.schema import Cell, Items, Ranking
from postproc.metrics.bootstrap import bootstrap_eer
from postproc.metrics.controls import TooFewIdentities, chance_eer, gender_only_eer, same_gender_eer
from postproc.metrics.ranking import average_precisions, matching_hits
from postproc.metrics.roc import auc, eer

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
    """The record of one test condition.

    Keys: ``eer``, ``auc`` and, for ``refined``, ``eer_refined``, ``auc_refined``; the controls ``eer_same_gender``
    (``_refined``), ``eer_gender_only``, ``eer_chance``; ``eer_ci95`` = [low, high] over identities; ``trials``,
    ``positives``; ``sizes_tell``: see :func:`sizes_tell`.
    What cannot be computed (no genders, no identities, nothing refined) is None.

    Args:
        cell: a labelled test condition.
        voices: the items its ``voice_index`` points into.
        faces: the items its ``face_index`` points into.
        distances: (t,) distances, lower = same person.
        refined: (t,) refined distances, or None.
        controls: False computes only EER and AUC, for every validation epoch.
        seed: of the chance control and the bootstrap.

    Raises:
        ValueError: no labels, or bad scores; the message names the test condition.

    Example:
        >>> import numpy as np
        >>> from datamodules.schema import Cell, Items, Trials
        >>> rows, names = np.arange(2), np.array(["ann", "bob"])
        >>> items = Items(names, names, np.array(["English"] * 2), np.array(["F", "M"]), np.array(["v1", "v2"]))
        >>> voice, face = np.repeat(rows, 2), np.tile(rows, 2)
        >>> labels = (voice == face).astype(np.int8)
        >>> trials = Trials(np.array(list("abcd")), names[voice], names[face], labels, "example")
        >>> cell = Cell("heard", "English", trials, voice, face)
        >>> record = evaluate_cell(cell, items, items, np.array([0.1, 0.8, 0.9, 0.2]), controls=False)
        >>> record["eer"], record["auc"], record["trials"], record["positives"]
        (0.0, 1.0, 4, 2)
    """
    labels = cell.trials.labels
    if labels is None:
        raise ValueError(f"test condition {cell.name!r}: {cell.trials.source} has no labels; use predict")
    record: Record = dict.fromkeys((*_RATES, "eer_ci95"))
    try:
        for values, suffix in ((distances, ""), (refined, "_refined")):
            if values is not None:
                record[f"eer{suffix}"] = eer(values, labels, direction="distance").eer
                record[f"auc{suffix}"] = auc(values, labels, direction="distance")
    except ValueError as error:
        raise ValueError(f"test condition {cell.name!r} ({cell.trials.source}): {error}") from error
    record["trials"], record["positives"] = len(labels), int(np.count_nonzero(labels))
    if controls:
        _add_controls(record, cell, voices, faces, labels, distances, refined, seed)
    return record


def overall(results: Mapping[str, Record]) -> Record:
    """The mean of every rate over test conditions, None where one has none; trials and positives are summed.

    Raises:
        ValueError: no test conditions.
    """
    if not results:
        raise ValueError("no test conditions to average")
    records = list(results.values())
    mean: Record = {}
    for key in _RATES:
        values = [record[key] for record in records]
        mean[key] = None if any(value is None for value in values) else float(np.mean(values))
    mean["eer_ci95"] = None  # intervals over the same identities do not average
    for key in _SUMMED:
        mean[key] = sum(record[key] for record in records)
    return mean


def summarise(results: Mapping[str, Record], languages: Mapping[str, str]) -> dict[str, Record]:
    """The results with an ``overall`` per set of lists: of ``heard`` and ``unheard``; ``a/overall`` of ``a/heard``.

    Only test languages are averaged. Strata of one list (all negatives, negatives of the same gender, ...) have the
    same language and get no ``overall``; nor does a single test condition, except in the main set.

    Args:
        results: records by test condition.
        languages: test language by test condition.
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
    identities = voices.identity[cell.voice_index], faces.identity[cell.face_index]
    if all((gender != "").all() for gender in genders):
        record["eer_gender_only"] = gender_only_eer(*genders, labels)
        if (genders[0] == genders[1])[labels == 0].any():
            record["eer_same_gender"] = same_gender_eer(distances, labels, *genders, direction="distance")
            if refined is not None:
                record["eer_same_gender_refined"] = same_gender_eer(refined, labels, *genders, direction="distance")
    known = all((identity != "").all() for identity in identities)
    chance_identities = identities if known else (None, None)
    with suppress(TooFewIdentities):
        record["eer_chance"] = chance_eer(distances, labels, *chance_identities, direction="distance", seed=seed)
    if known:
        record["sizes_tell"] = sizes_tell(cell, voices, faces)
        with suppress(TooFewIdentities):
            record["eer_ci95"] = list(bootstrap_eer(distances, labels, *identities, direction="distance", seed=seed))


def sizes_tell(cell: Cell, voices: Items, faces: Items) -> bool:
    """Whether a list gives each identity as many voices as faces, and identities different numbers of them.

    Then the size of a cluster alone says whose it is, and a refinement gains by how the list was made.

    Args:
        cell: a test condition whose items have identities.
        voices: the items its ``voice_index`` points into.
        faces: the items its ``face_index`` points into.
    """
    sides = ((voices, cell.voice_index), (faces, cell.face_index))
    (names, sizes), (other_names, other_sizes) = (
        np.unique(items.identity[np.unique(rows)], return_counts=True) for items, rows in sides
    )
    equal = np.array_equal(names, other_names) and np.array_equal(sizes, other_sizes)
    return bool(equal and len(set(sizes.tolist())) > 1)


_REPLICATES = 1000


def evaluate_ranking(
    ranking: Ranking, voices: Items, faces: Items, score_rows: Callable[[slice], ArrayLike], seed: int = 0
) -> Record:
    """The record of a matching or retrieval test.

    Keys: ``task``, ``probe``, ``probes``, ``candidates`` (N of a matching, the size of a retrieval's gallery),
    ``people``: number of identities of the probes; ``score``: accuracy or mAP, ``score_ci95`` = [low, high] over
    identities; the controls ``score_gender_only`` (a scorer that knows only true gender; None without genders) and
    ``score_chance`` (all candidates equal).

    Args:
        ranking: the test.
        voices: the items its rows point into.
        faces: the same for faces.
        score_rows: distances (b, N) of a slice of the probes to their candidates, lower = same person.
        seed: of the bootstrap.
    """
    probes, candidates = (voices, faces) if ranking.probe == "voice" else (faces, voices)
    identity = probes.identity[ranking.probe_index]
    matching = ranking.task == "matching"
    if matching:
        scores = matching_hits(score_rows(slice(0, len(identity))), direction="distance")
    else:
        scores = average_precisions(
            score_rows, identity, candidates.identity[ranking.candidate_index], direction="distance"
        )
    low, high = _interval(scores, identity, seed)
    return {
        "task": ranking.task,
        "probe": ranking.probe,
        "probes": len(identity),
        "candidates": ranking.candidate_index.shape[-1],
        "people": len(np.unique(identity)),
        "score": float(scores.mean()),
        "score_ci95": [low, high],
        "score_gender_only": _gender_only(ranking, probes, candidates),
        "score_chance": 1 / ranking.candidate_index.shape[1] if matching else _prevalence(ranking, probes, candidates),
    }


def _interval(scores: NDArray[np.float64], identity: NDArray[np.str_], seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean over other draws of the probes' identities."""
    _, code = np.unique(identity, return_inverse=True)
    total, count = np.bincount(code, scores), np.bincount(code)
    identities = len(count)
    weight = np.random.default_rng(seed).multinomial(identities, np.full(identities, 1 / identities), size=_REPLICATES)
    low, high = np.quantile((weight @ total) / (weight @ count), [0.025, 0.975])
    return float(low), float(high)


def _gender_only(ranking: Ranking, probes: Items, candidates: Items) -> float | None:
    """The score of a scorer that knows only gender: distance 1 where the genders differ, else 0."""
    gender, candidate = probes.gender[ranking.probe_index], candidates.gender[ranking.candidate_index]
    if (gender == "").any() or (candidate == "").any():
        return None
    if ranking.task == "matching":
        return float(matching_hits(gender[:, None] != candidate, direction="distance").mean())
    identity, first, count = np.unique(probes.identity[ranking.probe_index], return_index=True, return_counts=True)
    precisions = average_precisions(  # all queries of an identity have the same score
        lambda rows: gender[first[rows]][:, None] != candidate,
        identity,
        candidates.identity[ranking.candidate_index],
        direction="distance",
    )
    return float(np.average(precisions, weights=count))


def _prevalence(ranking: Ranking, probes: Items, candidates: Items) -> float:
    """Mean share of the gallery with the query's identity: the mAP where all distances are equal."""
    identity, count = np.unique(probes.identity[ranking.probe_index], return_counts=True)
    there, shown = np.unique(candidates.identity[ranking.candidate_index], return_counts=True)
    return float(np.average(shown[np.searchsorted(there, identity)], weights=count) / shown.sum())
