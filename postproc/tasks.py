"""The numbers of a ranking test, under ``tasks`` in ``results.json``: matching accuracy, retrieval mAP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from postproc.ranking import average_precisions, matching_hits

if TYPE_CHECKING:
    from datamodules.schema import Items, Ranking

Record = dict[str, Any]
_REPLICATES = 1000


def evaluate_ranking(
    ranking: Ranking, voices: Items, faces: Items, score_rows: Callable[[slice], ArrayLike], seed: int = 0
) -> Record:
    """The record of a matching or retrieval test.

    Keys: ``task``, ``probe``, ``probes``, ``candidates`` (N of a matching, the size of a retrieval's gallery),
    ``people`` among the probes; ``score``: accuracy or mAP, ``score_ci95`` = [low, high] over people; the controls
    ``score_gender_only`` (what true gender and nothing else gives; None without genders) and ``score_chance`` (all
    candidates alike).

    Args:
        ranking: the test.
        voices: the items its rows point into.
        faces: the same for faces.
        score_rows: distances (b, N) of a slice of the probes to their candidates, lower = same person.
        seed: of the bootstrap.
    """
    own, other = (voices, faces) if ranking.probe == "voice" else (faces, voices)
    person = own.identity[ranking.probe_index]
    matching = ranking.task == "matching"
    if matching:
        scores = matching_hits(score_rows(slice(0, len(person))), direction="distance")
    else:
        scores = average_precisions(score_rows, person, other.identity[ranking.candidate_index], direction="distance")
    low, high = _over_people(scores, person, seed)
    return {
        "task": ranking.task,
        "probe": ranking.probe,
        "probes": len(person),
        "candidates": ranking.candidate_index.shape[-1],
        "people": len(np.unique(person)),
        "score": float(scores.mean()),
        "score_ci95": [low, high],
        "score_gender_only": _gender_only(ranking, own, other),
        "score_chance": 1 / ranking.candidate_index.shape[1] if matching else _prevalence(ranking, own, other),
    }


def _over_people(scores: NDArray[np.float64], person: NDArray[np.str_], seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean when other people had been the probes."""
    _, code = np.unique(person, return_inverse=True)
    total, count = np.bincount(code, scores), np.bincount(code)
    people = len(count)
    weight = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=_REPLICATES)
    low, high = np.quantile((weight @ total) / (weight @ count), [0.025, 0.975])
    return float(low), float(high)


def _gender_only(ranking: Ranking, own: Items, other: Items) -> float | None:
    """The score of distances 1 where the genders differ, else 0."""
    gender, candidate = own.gender[ranking.probe_index], other.gender[ranking.candidate_index]
    if (gender == "").any() or (candidate == "").any():
        return None
    if ranking.task == "matching":
        return float(matching_hits(gender[:, None] != candidate, direction="distance").mean())
    person, first, count = np.unique(own.identity[ranking.probe_index], return_index=True, return_counts=True)
    found = average_precisions(  # all queries of a person score alike
        lambda rows: gender[first[rows]][:, None] != candidate,
        person,
        other.identity[ranking.candidate_index],
        direction="distance",
    )
    return float(np.average(found, weights=count))


def _prevalence(ranking: Ranking, own: Items, other: Items) -> float:
    """Share of the gallery that is the query's person, mean over queries: the mAP of distances that are all alike."""
    person, count = np.unique(own.identity[ranking.probe_index], return_counts=True)
    there, shown = np.unique(other.identity[ranking.candidate_index], return_counts=True)
    return float(np.average(shown[np.searchsorted(there, person)], weights=count) / shown.sum())
