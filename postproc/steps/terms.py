"""What an attribute says of a pair, added to its distance by a weight from cross-validation. Not from the papers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import DegenerateInput, initial_distances
from postproc.crossval.sets import GOOD, MODEL, cross_validation_folds, cross_validation_sets
from postproc.metrics.roc import eer
from postproc.reference import Reference
from postproc.refinement import Gain, Refined, Refinement, follow, refine, unchanged

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)  # in standard deviations of the distances
_SETS = 8  # test sets per group, for the choice of the weight


class Term(Protocol):
    """What an attribute says of the pairs of a test condition, as learnt from training identities."""

    def __call__(self, cell: ScoredCell) -> NDArray[np.float64]:
        """(t,) by trial, higher = more probably the same person, 0 = it says nothing.

        Raises:
            DegenerateInput: the test condition lacks what the term reads.
        """

    def trace(self, cell: ScoredCell) -> dict[str, Any]:
        """What to record of a test condition."""


class PairTerm(Refinement):
    """Shifts a distance by a term of its voice and its face: ``d - weight * term``. Inductive.

    The weight is in units of the distances. ``calibrate`` tries several on test sets of unseen identities
    (:func:`postproc.crossval.sets.cross_validation_folds`), since the model's scores of identities it has seen leave
    nothing to gain. The term and the steps before this one are calibrated on other identities. Scorers differ in
    scale, so weights are tried in standard deviations of a set's distances. The best one, by mean EER over groups, is
    multiplied by the mean standard deviation of the model's own distances over its test sets. Without validation
    identities, those are sets of training identities, whose distances vary a little more.

    Args:
        weight: of the term; ``calibrate`` = chosen by cross-validation.
        seed: of folds and test sets.

    Raises:
        ValueError: an option out of range.
    """

    assumes_identities = False

    def __init__(self, weight: float | Literal["calibrate"] = "calibrate", seed: int = 0) -> None:
        if weight != "calibrate" and not 0 <= weight < np.inf:
            raise ValueError(f"weight: {weight} must be 0 or more, or calibrate")
        self.weight, self.seed = weight, seed
        self._term: Term | None = None
        self._record: dict[str, Any] = {}
        self._weight, self._why = 0.0, "the step was not calibrated: no reference identities were given"

    @property
    def needs_reference(self) -> bool:
        return True

    @property
    def cross_validates(self) -> bool:
        return self.weight == "calibrate"

    @abstractmethod
    def learn(self, reference: Reference) -> Term:
        """The term, from training identities.

        Raises:
            DegenerateInput: they do not tell.
        """

    def known(self, reference: Reference) -> Reference:
        """The clips of a reference to learn from; all, unless a subclass leaves some out."""
        return reference

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self._term, self._record, self.gain = None, {}, None
        known = self.known(reference)
        try:
            term = self.learn(known)
        except DegenerateInput as reason:
            self._why = str(reason)
            return
        try:
            self._weight = self._choose(known, before) if self.weight == "calibrate" else float(self.weight)
        except DegenerateInput as reason:
            self._why = f"no weight was found: {reason}; set weight to a number"
            return
        self._term = term

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition.

        The trace holds ``weight`` and what the term records; with ``calibrate``, the ``relative_weight``, the
        ``spread`` it is multiplied by and ``weights_tried``, the mean EER by relative weight.
        """
        if self._term is None:
            return unchanged(cell, self._why)
        try:
            refined = initial_distances(cell) - self._weight * self._term(cell)
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))
        return Refined(refined, {"weight": self._weight} | self._term.trace(cell) | self._record)

    def _choose(self, known: Reference, before: Sequence[Refinement]) -> float:
        errors: dict[int, list[list[float]]] = {}
        spreads: list[float] = []
        for fold in cross_validation_folds(known, [GOOD], _SETS, self.seed, memory=self.memory):
            try:
                term = self.learn(fold.training)
            except DegenerateInput:
                continue
            earlier = fold.calibrated(before)
            for cell, labels in fold.sets():
                cell = follow(cell, refine(cell, earlier))
                distances, spread = cell.distances, float(cell.distances.std())
                spreads += [spread] * (fold.scorer == MODEL)
                shift = spread * term(cell)
                rates = [eer(distances - w * shift, labels, direction="distance").eer for w in WEIGHTS]
                errors.setdefault(fold.group, []).append(rates)
        if not errors:
            raise DegenerateInput("without the held-out identities, too few are left to learn from")
        if not spreads:
            cells = cross_validation_sets(known, _SETS, self.seed)
            spreads = [float(refine(cell, before).distances.std()) for cell, *_ in cells]
        by_group = np.array([np.mean(of_group, axis=0) for of_group in errors.values()])
        self.gain = Gain.of(_changes(by_group))
        mean = by_group.mean(axis=0)
        best, spread = WEIGHTS[int(np.argmin(mean))], float(np.mean(spreads))
        curve = dict(zip(map(str, WEIGHTS), mean.round(5).tolist(), strict=True))
        self._record = {"relative_weight": best, "spread": spread, "weights_tried": curve}
        return best * spread


def _changes(errors: NDArray[np.float64]) -> list[float]:
    """Change of the EER of each group, from EERs (groups, weights), with the weight that is best on the others."""
    groups = np.arange(len(errors))
    best = [int(errors[groups != group].mean(axis=0).argmin()) for group in groups] if len(errors) > 1 else []
    return [float(errors[group, weight] - errors[group, 0]) for group, weight in enumerate(best)]
