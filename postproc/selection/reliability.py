"""What unlabelled data say about a refinement: does its premise hold on this cell? Not from the papers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, cosine_distances, shared_space
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement
from postproc.steps.chaining import ChainingCluster
from postproc.steps.gender import Genders, learn_genders

STATISTICS = ("agreement", "novelty", "stability", "information", "gender")
_PAIRS = 4096  # drawn from all voices x faces of the cell to judge a step by
_SHARE = 0.8  # of the items in a resample


def learn_judge(step: Refinement, reference: Reference) -> Genders:
    """What the evidence of a step needs of training people: gender probes for chaining, nothing for others."""
    return learn_genders(reference) if isinstance(step, ChainingCluster) else Genders()


def gather_evidence(
    step: Refinement, cell: ScoredCell, genders: Genders, resamples: int, seed: int
) -> dict[str, float]:
    """Tries a step on pairs drawn from all voices and faces of a cell, whichever pairs are listed.

    Args:
        step: what is to be judged.
        cell: an unlabelled cell.
        genders: of :func:`learn_judge`.
        resamples: how many for ``stability``.
        seed: of pairs and resamples.

    Returns:
        By name, larger = the premise holds better:

        - ``gender`` (of :class:`ChainingCluster`): with P(same gender) of the probes, the mean of P(same) within tied
          gender clusters and of 1 - P(same) across; 1 = the clusters are gender, 0.5 = nothing to do with it. Where
          the clusters are a probe's own, how sure it is.
        - ``information`` (of :class:`postproc.Transport`): how one-to-one the plan is. Low for one person, or where
          the scorer cannot tell.
        - ``agreement``: rank correlation of the refined with the cosine distances. A step that contradicts the scores
          it started from has found something else than people.
        - ``novelty``: 1 - agreement. Scores that know already what the step brings do not gain by it: the better the
          scorer, the less is new.
        - ``stability``: mean rank correlation of the refined distances with those of resamples of 80 % of the items.

    Raises:
        DegenerateInput: the step cannot refine the cell, or there is nothing to compare.
    """
    learnt = shared_space(cell)
    rng = np.random.default_rng(seed)
    voice, face = _draw(len(learnt["voice"]), len(learnt["face"]), rng)
    trial = ScoredCell(cosine_distances(learnt, voice, face), voice, face, cell.voices, cell.faces)
    tried = _try(step, trial)
    found: dict[str, float] = {}
    if isinstance(step, ChainingCluster):
        found["gender"] = _gender(cell, tried.trace["assignment"], genders)
    if "information" in tried.trace:
        found["information"] = float(np.mean(tried.trace["information"]))
    found["agreement"] = rank_correlation(trial.distances, tried.distances)
    found["novelty"] = 1 - found["agreement"]
    again = [_again(step, trial, tried.distances, rng) for _ in range(resamples)]
    found["stability"] = float(np.mean(again))
    return found


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's correlation, ties at their mean rank; 0 where either is constant."""
    from scipy.stats import rankdata

    if len(a) < 2 or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return 0.0
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _try(step: Refinement, cell: ScoredCell) -> Refined:
    refined = step(cell)
    if "unchanged" in refined.trace:
        raise DegenerateInput(refined.trace["unchanged"])
    return refined


def _again(step: Refinement, trial: ScoredCell, refined: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Rank correlation of refined distances with those of the step on a part of the items."""
    place, kept = {}, {}
    for m, spaces in zip(MODALITIES, (trial.voices, trial.faces), strict=True):
        size = len(spaces["model"])
        kept[m] = np.sort(rng.choice(size, max(1, int(_SHARE * size)), replace=False))
        place[m] = np.full(size, -1)
        place[m][kept[m]] = np.arange(len(kept[m]))
    voice, face = place["voice"][trial.voice_index], place["face"][trial.face_index]
    inside = (voice >= 0) & (face >= 0)
    part = ScoredCell(
        trial.distances[inside],
        voice[inside],
        face[inside],
        {space: x[kept["voice"]] for space, x in trial.voices.items()},
        {space: x[kept["face"]] for space, x in trial.faces.items()},
    )
    return rank_correlation(refined[inside], _try(step, part).distances)


def _gender(cell: ScoredCell, assignment: dict[Modality, NDArray[np.int64]], genders: Genders) -> float:
    male = genders(cell)
    p, q = ([male[m][assignment[m][:, 0] == g].mean() for g in (0, 1)] for m in MODALITIES)
    same = np.array([[a * b + (1 - a) * (1 - b) for b in q] for a in p])  # mean P(same) of each block
    return float((same[0, 0] + same[1, 1] + 2 - same[0, 1] - same[1, 0]) / 4)


def _draw(voices: int, faces: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All voice-face pairs, or some of them."""
    total = voices * faces
    pair = np.arange(total) if total <= _PAIRS else rng.integers(total, size=_PAIRS)
    return pair // faces, pair % faces
