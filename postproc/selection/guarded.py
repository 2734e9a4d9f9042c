"""Applies another refinement as far as cross-validation on training identities shows no harm. Not from the papers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import DegenerateInput, initial_distances
from postproc.memory import Memory
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, unchanged
from postproc.selection.reliability import STATISTICS, reliability_statistics
from postproc.selection.thresholds import STRENGTHS, Choice, choose, cross_validate, partly


class Guarded(Refinement):
    """Applies another refinement in full, in part, or not at all.

    ``calibrate`` applies the step to test sets of training identities and finds how much of it does no harm, and with
    which reliability statistics (:func:`postproc.selection.thresholds.choose`). The model scores identities it has seen
    too well for that. Training identities are therefore scored by held-out scorers, bad and good ones
    (:func:`postproc.crossval.scorers.held_out_scorers`). Validation identities are scored by the model. They are few,
    so their gain proves nothing, but they have a veto: a model that does not gain on them is left unchanged. Without
    validation identities the best held-out scorer stands in for the model. Without ``input`` embeddings there are too
    few groups of identities: the step is then applied only with a given strength and given thresholds.

    A test condition is left unchanged where a statistic
    (:func:`postproc.selection.reliability.reliability_statistics`) is below its threshold. Otherwise its scores move by
    ``strength`` of the way to the refined ones. The decision does not depend on which pairs are listed. Values that are
    given are kept; if all are given, there is no cross-validation.

    Limits: a model may be unlike every held-out scorer, and validation identities are few. A weak scorer matches the
    men and women of one group with those of another as confidently as with themselves, so no statistic here detects
    voices and faces of different identities. Where the two sides may have different identities, do not use transport.

    Args:
        step: the step to apply.
        agreement: smallest rank correlation with the scores; None = found by cross-validation, as all below.
        novelty: smallest 1 - agreement.
        stability: smallest rank correlation with resamples.
        information: smallest mean information of the plan.
        gender: smallest probability that the gender clusters are genders.
        strength: 0..1, share of the way from the initial to the refined distances.
        resamples: number of resamples for ``stability``.
        seed: of cross-validation, pairs and resamples.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        step: Refinement,
        agreement: float | None = None,
        novelty: float | None = None,
        stability: float | None = None,
        information: float | None = None,
        gender: float | None = None,
        strength: float | None = None,
        resamples: int = 2,
        seed: int = 0,
    ) -> None:
        values = (agreement, novelty, stability, information, gender)
        self.fixed = {name: value for name, value in zip(STATISTICS, values, strict=True) if value is not None}
        for name, value in self.fixed.items():
            if not -1 <= value <= 2:
                raise ValueError(f"{name}: {value} is outside -1..2; -1 accepts everything")
        if strength is not None and not 0 < strength <= 1:
            raise ValueError(f"strength: {strength} is outside 0..1; 1 = the whole step")
        if resamples < 1:
            raise ValueError(f"resamples: {resamples}; take 1 or more")
        self.step, self.strength, self.resamples, self.seed = step, strength, resamples, seed
        self._why = "not calibrated: no reference identities were given"
        self._choice = Choice(strength or 0.0, self.fixed, {})

    @property
    def cross_validates(self) -> bool:
        return True

    @property
    def needs_reference(self) -> bool:
        return True

    def share(self, memory: Memory) -> None:
        super().share(memory)
        self.step.share(memory)

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self.step.share(self.memory)
        self.step.calibrate(reference, before)
        self._choice = Choice(self.strength or 0.0, self.fixed, {})
        if self.strength and len(self.fixed) == len(STATISTICS):
            return
        strengths = (self.strength,) if self.strength else STRENGTHS
        options: dict[str, Any] = {"resamples": self.resamples, "seed": self.seed}
        try:
            outcomes = cross_validate(self.step, reference, before, strengths=strengths, **options)
        except DegenerateInput as reason:
            self._why = str(reason)
            return
        self._choice = choose(outcomes, strengths, self.fixed)
        self._why = f"no strength is safe on {len(outcomes.group)} cross-validation test sets of training identities"

    def for_cell(self, name: str, keys: NDArray[np.str_]) -> Refinement:
        step = self.step.for_cell(name, keys)
        if step is self.step:
            return self
        bound = copy.copy(self)
        bound.step = step
        return bound

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition, or leaves it unchanged.

        The trace holds that of the step, and ``guard``: ``applied``, ``strength``, ``reliability`` and ``thresholds``
        by statistic, and ``calibration``. The latter holds the number of cross-validation sets and of groups of
        identities; mean EER before, and its change with the whole step, unguarded, also of the sets scored by the model
        (``model_before``, ``model_change``); for the chosen strength the mean change, its upper bound and the worst
        group, where rejected sets count as unchanged, and the share of accepted sets.
        """
        try:
            initial = initial_distances(cell)
            statistics = reliability_statistics(self.step, cell, self.resamples, self.seed)
        except DegenerateInput as reason:
            return self._declined(cell, str(reason), {})
        if not self._choice.strength:
            return self._declined(cell, self._why, statistics)
        for name, value in statistics.items():
            if name not in self._choice.thresholds:
                return self._declined(cell, f"no threshold of {name}: {self._why}", statistics)
            if not value >= self._choice.thresholds[name]:
                return self._declined(
                    cell, f"{name} {value:.3f} is below {self._choice.thresholds[name]:.3f}", statistics
                )
        refined = self.step(cell)
        if "unchanged" in refined.trace:
            return self._declined(cell, refined.trace["unchanged"], statistics)
        trace = refined.trace | {"step_guarded": type(self.step).__name__, "guard": self._record(True, statistics)}
        return Refined(partly(initial, refined.distances, self._choice.strength), trace, refined.embeddings)

    def _record(self, applied: bool, statistics: dict[str, float]) -> dict[str, Any]:
        least = self._choice.thresholds
        return {
            "applied": applied,
            "strength": self._choice.strength,
            "reliability": statistics,
            "thresholds": {name: least[name] for name in statistics if name in least},
            "calibration": self._choice.record,
        }

    def _declined(self, cell: ScoredCell, reason: str, statistics: dict[str, float]) -> Refined:
        same = unchanged(cell, f"guard of {type(self.step).__name__}: {reason}")
        trace = same.trace | {"step_guarded": type(self.step).__name__, "guard": self._record(False, statistics)}
        return Refined(same.distances, trace)
