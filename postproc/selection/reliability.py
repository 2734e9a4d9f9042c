"""Statistics of unlabelled data on whether a refinement can be trusted on a test condition. Not from the papers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, ScoredCell
from postproc.cells import DegenerateInput, cosine_distances, shared_space
from postproc.metrics.ranking import rank_correlation
from postproc.refinement import Refined, Refinement

STATISTICS = ("agreement", "novelty", "stability", "information", "gender")
_PAIRS = 4096  # drawn from all voices x faces of the test condition
_SHARE = 0.8  # of the items in a resample


def reliability_statistics(step: Refinement, cell: ScoredCell, resamples: int, seed: int) -> dict[str, float]:
    """Applies a step to pairs drawn from all voices and faces of a test condition, whichever pairs are listed.

    Args:
        step: the step to be judged, calibrated.
        cell: a scored cell; its trials are not used.
        resamples: number of resamples for ``stability``.
        seed: of pairs and resamples.

    Returns:
        By name; larger = the step is more reliable, or has more to add:

        - the step's own statistics (:meth:`postproc.Refinement.reliability`), such as ``gender`` of
          :class:`postproc.ChainingCluster` and ``information`` of :class:`postproc.Transport`.
        - ``agreement``: rank correlation of the refined distances with the cosine distances. A step that contradicts
          the scores it starts from has clustered something else than identities.
        - ``novelty``: 1 - agreement. The better the scorer, the less a step can add.
        - ``stability``: mean rank correlation of the refined distances with those from resamples of 80 % of the items.

    Raises:
        DegenerateInput: the step cannot refine the test condition, or there is nothing to compare.
    """
    learnt = shared_space(cell)
    rng = np.random.default_rng(seed)
    voice, face = _draw(len(learnt["voice"]), len(learnt["face"]), rng)
    pairs = ScoredCell(cosine_distances(learnt, voice, face), voice, face, cell.voices, cell.faces)
    refined = _apply(step, pairs)
    statistics = step.reliability(pairs, refined)
    statistics["agreement"] = rank_correlation(pairs.distances, refined.distances)
    statistics["novelty"] = 1 - statistics["agreement"]
    correlations = [_resampled(step, pairs, refined.distances, rng) for _ in range(resamples)]
    statistics["stability"] = float(np.mean(correlations))
    return statistics


def _apply(step: Refinement, cell: ScoredCell) -> Refined:
    refined = step(cell)
    if "unchanged" in refined.trace:
        raise DegenerateInput(refined.trace["unchanged"])
    return refined


def _resampled(step: Refinement, pairs: ScoredCell, refined: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Rank correlation of refined distances with those of the step on a part of the items."""
    place, kept = {}, {}
    for m, spaces in zip(MODALITIES, (pairs.voices, pairs.faces), strict=True):
        size = len(spaces["model"])
        kept[m] = np.sort(rng.choice(size, max(1, int(_SHARE * size)), replace=False))
        place[m] = np.full(size, -1)
        place[m][kept[m]] = np.arange(len(kept[m]))
    voice, face = place["voice"][pairs.voice_index], place["face"][pairs.face_index]
    inside = (voice >= 0) & (face >= 0)
    part = ScoredCell(
        pairs.distances[inside],
        voice[inside],
        face[inside],
        {space: x[kept["voice"]] for space, x in pairs.voices.items()},
        {space: x[kept["face"]] for space, x in pairs.faces.items()},
    )
    return rank_correlation(refined[inside], _apply(step, part).distances)


def _draw(voices: int, faces: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All voice-face pairs, or some of them."""
    total = voices * faces
    pair = np.arange(total) if total <= _PAIRS else rng.integers(total, size=_PAIRS)
    return pair // faces, pair % faces
