"""Takes, of several refinements, the best one in cross-validation on training identities. Not from the papers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import DegenerateInput
from postproc.crossval.sets import GOOD, cross_validation_folds
from postproc.memory import Memory
from postproc.metrics.roc import eer
from postproc.reference import Reference
from postproc.refinement import Gain, Refined, Refinement, calibrate, follow, refine, unchanged

RAW = "raw"


class Selected(Refinement):
    """Applies one of several alternatives, or none, chosen in each run from training identities only.

    ``calibrate`` applies each alternative to test sets of identities that the scorer has not seen
    (:func:`postproc.crossval.sets.cross_validation_folds`: a held-out scorer that generalises and, for validation
    identities, the model). It takes the alternative with the lowest mean EER over groups of identities. During
    cross-validation, steps are calibrated on the identities outside the set; the chosen steps are calibrated on all.
    Leaving the scores unchanged (``raw``) is always an alternative. The choice is not tested for significance: to
    exclude harm, use :class:`postproc.Guarded`.

    Args:
        alternatives: steps by name, applied in order.
        sets: test sets per group of identities.
        seed: of groups and sets.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, alternatives: dict[str, list[Refinement]], sets: int = 3, seed: int = 0) -> None:
        if not alternatives or RAW in alternatives or not all(alternatives.values()):
            raise ValueError(
                f"alternatives: {', '.join(alternatives) or 'none'}; give at least one, none called {RAW}, "
                "each with steps"
            )
        if sets < 1:
            raise ValueError(f"sets: {sets}; take 1 or more")
        self.alternatives, self.sets, self.seed = alternatives, sets, seed
        self._chosen: list[Refinement] = []
        self._record: dict[str, Any] = {}
        self._why = "not calibrated: no reference identities were given"

    @property
    def cross_validates(self) -> bool:
        return True

    @property
    def needs_reference(self) -> bool:
        return True

    def share(self, memory: Memory) -> None:
        super().share(memory)
        for steps in self.alternatives.values():
            for step in steps:
                step.share(memory)

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self.share(self.memory)
        self._chosen, self._record, self.gain = [], {}, None
        try:
            errors = self._cross_validate(reference, before)
        except DegenerateInput as reason:
            self._why = str(reason)
            return
        means = {name: by_group.mean() for name, by_group in errors.items()}
        chosen = min(means, key=lambda name: means[name])  # of equals the first, which is raw
        self._chosen = self.alternatives.get(chosen, [])
        self.gain = Gain.of((errors[chosen] - errors[RAW]).tolist())
        self._why = f"{RAW} scores were best in cross-validation on training identities"
        self._record = {
            "chosen": chosen,
            "groups": len(errors[RAW]),
            "eer": {name: float(mean) for name, mean in means.items()},
            "eer_sd": {name: float(by_group.std()) for name, by_group in errors.items()},
        }
        calibrate(self._chosen, reference, before)

    def for_cell(self, name: str, keys: NDArray[np.str_]) -> Refinement:
        chosen = [step.for_cell(name, keys) for step in self._chosen]
        if all(step is own for step, own in zip(chosen, self._chosen, strict=True)):
            return self
        bound = copy.copy(self)
        bound._chosen = chosen
        return bound

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition.

        The trace holds the ``steps`` applied, and ``selection``: the name ``chosen``, the number of ``groups`` of
        identities, and by name the mean ``eer`` over them and its standard deviation ``eer_sd``.
        """
        if not self._chosen:
            same = unchanged(cell, self._why)
            return Refined(same.distances, same.trace | {"selection": self._record})
        refined = refine(cell, self._chosen)
        reasons = [trace["unchanged"] for trace in refined.trace["steps"] if "unchanged" in trace]
        declined = {"unchanged": "; ".join(reasons)} if len(reasons) == len(self._chosen) else {}
        return Refined(refined.distances, refined.trace | declined | {"selection": self._record}, refined.embeddings)

    def _cross_validate(self, reference: Reference, before: Sequence[Refinement]) -> dict[str, NDArray[np.float64]]:
        """Mean EER (groups,) by name."""
        names = [RAW, *self.alternatives]
        errors: dict[int, list[list[float]]] = {}
        for fold in cross_validation_folds(reference, [GOOD], self.sets, self.seed, memory=self.memory):
            earlier = fold.calibrated(before)
            ways: list[list[Refinement]] = [[]]
            ways += [fold.calibrated([*before, *steps])[len(before) :] for steps in self.alternatives.values()]
            for cell, labels in fold.sets():
                cell = follow(cell, refine(cell, earlier))
                by_way = [eer(refine(cell, steps).distances, labels, direction="distance").eer for steps in ways]
                errors.setdefault(fold.group, []).append(by_way)
        by_group = np.array([np.mean(of_group, axis=0) for of_group in errors.values()])
        return dict(zip(names, by_group.T, strict=True))
