"""Whether refined ranks depend on which pairs are listed. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datamodules.schema import ScoredCell
from postproc.metrics.ranking import rank_correlation
from postproc.refinement import Refined, Refinement, refine

_FEWEST = 8  # trials; a rank correlation of fewer says nothing


def rank_agreement(cell: ScoredCell, steps: Sequence[Refinement], refined: Refined, seed: int = 0) -> float | None:
    """Rank correlation of refined distances with those of another list of the same voices and faces.

    A random half of the trials is kept. The others are paired again at random, and the order is random. What a
    refinement makes of a kept pair must not depend on that: 1 = it does not.

    Args:
        cell: the test condition before all steps.
        steps: calibrated, and not bound to trial keys.
        refined: what they made of it.
        seed: of the other list.

    Returns:
        None for fewer than 8 kept trials, or refined distances that are all equal.
    """
    rng = np.random.default_rng(seed)
    count = len(cell.distances)
    order = rng.permutation(count)
    kept, others = order[: count // 2], order[count // 2 :]
    rows = np.concatenate([kept, others])
    faces = np.concatenate([cell.face_index[kept], rng.permutation(cell.face_index[others])])
    shuffled = rng.permutation(count)
    listed = replace(
        cell,
        distances=cell.distances[rows][shuffled],
        voice_index=cell.voice_index[rows][shuffled],
        face_index=faces[shuffled],
    )
    again = np.empty(count)
    again[shuffled] = refine(listed, steps).distances
    first, second = refined.distances[kept], again[: len(kept)]
    if len(kept) < _FEWEST or np.ptp(first) == 0:
        return None
    return rank_correlation(first, second)
