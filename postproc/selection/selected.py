"""Takes, of several ways to refine, the one that is best in practice on training people. Not from the papers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import DegenerateInput
from postproc.crossval.sets import GOOD, cross_validation_folds
from postproc.metrics.roc import eer
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, calibrate, follow, refine, unchanged

RAW = "raw"


class Selected(Refinement):
    """One of several alternatives, or none: a choice from training people alone, made anew in every run.

    ``calibrate`` applies each alternative to practice test sets of people the scorer has not met
    (:func:`postproc.crossval.sets.cross_validation_folds`, by a scorer that generalises and, where people were held out, by the model)
    and takes the one of the lowest mean EER over groups of people. What its steps learn from people, they learn from
    those outside the set during practice, and from everybody once they are taken. Leaving the scores as they are is
    always an alternative. No confidence is asked of the choice: where a harm must be excluded, use
    :class:`postproc.Guarded`.

    Args:
        alternatives: steps by name, applied in order.
        sets: practice sets of a group of people.
        seed: of groups and sets.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, alternatives: dict[str, list[Refinement]], sets: int = 3, seed: int = 0) -> None:
        if not alternatives or RAW in alternatives or not all(alternatives.values()):
            raise ValueError(
                f"alternatives: {', '.join(alternatives) or 'none'}; name some, not {RAW}, each with steps"
            )
        if sets < 1:
            raise ValueError(f"sets: {sets}; take 1 or more")
        self.alternatives, self.sets, self.seed = alternatives, sets, seed
        self._taken: list[Refinement] = []
        self._record: dict[str, Any] = {}
        self._why = "not calibrated: no reference people were given"

    @property
    def needs_reference(self) -> bool:
        return True

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self._taken, self._record = [], {}
        try:
            errors = self._practise(reference, before)
        except DegenerateInput as reason:
            self._why = str(reason)
            return
        means = {name: by_group.mean() for name, by_group in errors.items()}
        taken = min(means, key=lambda name: means[name])  # of equals the first, which is raw
        self._taken = self.alternatives.get(taken, [])
        self._why = f"{RAW} scores were best in practice on training people"
        self._record = {
            "taken": taken,
            "groups": len(errors[RAW]),
            "eer": {name: float(mean) for name, mean in means.items()},
            "eer_sd": {name: float(by_group.std()) for name, by_group in errors.items()},
        }
        calibrate(self._taken, reference, before)

    def for_cell(self, name: str, keys: NDArray[np.str_]) -> Refinement:
        bound = copy.copy(self)
        bound._taken = [step.for_cell(name, keys) for step in self._taken]
        return bound

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one cell.

        The trace holds the ``steps`` taken, and ``selection``: the name ``taken``, the number of ``groups`` of people,
        and by name the mean ``eer`` over them and its standard deviation ``eer_sd``.
        """
        if not self._taken:
            alone = unchanged(cell, self._why)
            return Refined(alone.distances, alone.trace | {"selection": self._record})
        refined = refine(cell, self._taken)
        reasons = [trace["unchanged"] for trace in refined.trace["steps"] if "unchanged" in trace]
        declined = {"unchanged": "; ".join(reasons)} if len(reasons) == len(self._taken) else {}
        return Refined(refined.distances, refined.trace | declined | {"selection": self._record}, refined.embeddings)

    def _practise(self, reference: Reference, before: Sequence[Refinement]) -> dict[str, NDArray[np.float64]]:
        """Mean EER (groups,) by name."""
        names = [RAW, *self.alternatives]
        errors: dict[int, list[list[float]]] = {}
        for fold in cross_validation_folds(reference, [GOOD], self.sets, self.seed):
            earlier = fold.calibrated(before)
            ways: list[list[Refinement]] = [[]]
            ways += [fold.calibrated([*before, *steps])[len(before) :] for steps in self.alternatives.values()]
            for cell, labels in fold.sets():
                cell = follow(cell, refine(cell, earlier))
                found = [eer(refine(cell, steps).distances, labels, direction="distance").eer for steps in ways]
                errors.setdefault(fold.group, []).append(found)
        by_group = np.array([np.mean(of_group, axis=0) for of_group in errors.values()])
        return dict(zip(names, by_group.T, strict=True))
