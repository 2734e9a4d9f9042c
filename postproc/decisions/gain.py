"""What refinements may be expected to gain: cross-validation on training identities. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from postproc.cells import DegenerateInput
from postproc.crossval.sets import GOOD, cross_validation_folds
from postproc.memory import Memory
from postproc.metrics.roc import eer
from postproc.reference import Reference
from postproc.refinement import Gain, Refinement, refine


def expected_gain(
    steps: Sequence[Refinement], reference: Reference | None, seed: int = 0, memory: Memory | None = None
) -> Gain | None:
    """The change of the EER on test sets of training identities that neither the scorer nor the steps have seen.

    Test sets have few identities and are scored by held-out scorers, so the figure says whether the steps suit these
    encoders and identities, not how much they gain on a given list.

    Args:
        steps: calibrated; those that run a cross-validation of their own say what it has found.
        reference: clips of training identities; None = there are none.
        seed: of groups and test sets.
        memory: of the run.

    Returns:
        None without a reference, with too few identities, where several steps choose by cross-validation, and where no
        step can be applied to such sets, as those that read scores of other runs.
    """
    if any(step.cross_validates for step in steps):
        return steps[0].gain if len(steps) == 1 else None
    if reference is None:
        return None
    changes: dict[int, list[float]] = {}
    applied = False
    try:
        for fold in cross_validation_folds(reference.finite(), [GOOD], 1, seed, least=2, memory=memory):
            calibrated = fold.calibrated(steps)
            for cell, labels in fold.sets():
                distances = cell.distances, refine(cell, calibrated).distances
                applied = applied or not np.array_equal(*distances)
                before, after = (eer(d, labels, direction="distance").eer for d in distances)
                changes.setdefault(fold.group, []).append(after - before)
    except DegenerateInput:
        return None
    if not applied:
        return None
    return Gain.of([float(np.mean(of_group)) for of_group in changes.values()])
