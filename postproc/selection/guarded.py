"""Applies another refinement as far as practice on training people shows that it does no harm. Not from the papers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import DegenerateInput, initial_distances
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, unchanged
from postproc.selection.reliability import STATISTICS, gather_evidence, learn_judge
from postproc.selection.thresholds import STRENGTHS, Choice, choose, partly, practise
from postproc.steps.gender import Genders


class Guarded(Refinement):
    """Another refinement, a part of it, or none.

    ``calibrate`` applies the step to practice test sets of training people and finds there how much of it does no harm,
    and on which evidence (:func:`postproc.selection.thresholds.choose`). The model's scores of people it knows are too good to
    practise on. So the sets of a group of people are scored by closed-form scorers, bad and good ones, learnt on the
    input embeddings of all others (:func:`postproc.crossval.scorers.held_out_scorers`), and what the step learns from people, it
    learns from those. People held out for validation are strangers to the model and are scored by it: half a dozen, one
    draw of people, so they prove no gain alone, but they have a veto: a model that does not gain on them is left alone,
    however much other scorers gain. Where nobody is held out, the best scorer of practice stands in for the model, and
    must gain surely. Where the data give no embeddings from before the model, too few groups of people are left: the
    step is applied only with a strength and thresholds that are given.

    A cell's scores are left alone where a statistic (:func:`.gather_evidence`) is below its threshold;
    else they move by ``strength`` of the way to the refined ones. The decision is the same whichever pairs are listed.
    Numbers that are given are kept; where all are, nobody practises.

    Its limits: where nobody is held out, a model may be unlike every scorer of practice, and where some are, they are
    few. Chaining on the training people of V1 (6 folds, English and Urdu, 3 seeds): no strength is safe for 28 of 36
    fits of SCC heads, whose EER of held-out people the whole step changes by -2.4 to +8.6 points, .9 in the mean; one
    is for 25 of 36 fits of FOP. And a weak scorer matches the men and the women of one group with those of another as
    surely as with themselves, so no statistic here tells voices and faces of disjoint people from those of the same
    people. Where the people of the two sides may differ, apply no transport.

    Args:
        step: what to apply.
        agreement: least rank correlation with the scores; None = found by practice, as all below.
        novelty: least 1 - agreement.
        stability: least rank correlation with resamples.
        information: least mean information of the plan.
        gender: least probability that the gender clusters are gender.
        strength: 0..1, share of the way from the initial to the refined distances.
        resamples: how many.
        seed: of practice, pairs and resamples.

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
        self.given = {name: value for name, value in zip(STATISTICS, values, strict=True) if value is not None}
        for name, value in self.given.items():
            if not -1 <= value <= 2:
                raise ValueError(f"{name}: {value} is outside -1..2; -1 = never refuse for it")
        if strength is not None and not 0 < strength <= 1:
            raise ValueError(f"strength: {strength} is outside 0..1; 1 = the whole step")
        if resamples < 1:
            raise ValueError(f"resamples: {resamples}; take 1 or more")
        self.step, self.strength, self.resamples, self.seed = step, strength, resamples, seed
        self._genders, self._why = Genders(), "not calibrated: no reference people were given"
        self._choice = Choice(strength or 0.0, self.given, {})

    @property
    def needs_reference(self) -> bool:
        return True

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self.step.calibrate(reference, before)
        self._genders = learn_judge(self.step, reference)
        self._choice = Choice(self.strength or 0.0, self.given, {})
        if self.strength and len(self.given) == len(STATISTICS):
            return
        strengths = (self.strength,) if self.strength else STRENGTHS
        options: dict[str, Any] = {"resamples": self.resamples, "seed": self.seed}
        try:
            found = practise(self.step, reference, before, strengths=strengths, **options)
        except DegenerateInput as reason:
            self._why = str(reason)
            return
        self._choice = choose(found, strengths, self.given)
        self._why = f"no strength is safe on {len(found.group)} practice sets of training people"

    def for_cell(self, name: str, keys: NDArray[np.str_]) -> Refinement:
        bound = copy.copy(self)
        bound.step = self.step.for_cell(name, keys)
        return bound

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one cell, or leaves it alone.

        The trace holds the step's own and ``guard``: ``applied``, ``strength``, ``evidence`` and ``thresholds`` by
        statistic, and ``calibration``: number of practice sets and of groups of disjoint people, mean EER before and
        change of it with the whole step, unguarded, also of the sets the model scored (``model_before``,
        ``model_change``); of the choice the mean change, its upper bound and the worst
        group, refused sets counting as unchanged, and the share of sets accepted.
        """
        try:
            initial = initial_distances(cell)
            evidence = gather_evidence(self.step, cell, self._genders, self.resamples, self.seed)
        except DegenerateInput as reason:
            return self._declined(cell, str(reason), {})
        if not self._choice.strength:
            return self._declined(cell, self._why, evidence)
        for name, value in evidence.items():
            if name not in self._choice.thresholds:
                return self._declined(cell, f"no threshold of {name}: {self._why}", evidence)
            if not value >= self._choice.thresholds[name]:
                return self._declined(
                    cell, f"{name} {value:.3f} is below {self._choice.thresholds[name]:.3f}", evidence
                )
        refined = self.step(cell)
        if "unchanged" in refined.trace:
            return self._declined(cell, refined.trace["unchanged"], evidence)
        trace = refined.trace | {"step_guarded": type(self.step).__name__, "guard": self._record(True, evidence)}
        return Refined(partly(initial, refined.distances, self._choice.strength), trace, refined.embeddings)

    def _record(self, applied: bool, evidence: dict[str, float]) -> dict[str, Any]:
        least = self._choice.thresholds
        return {
            "applied": applied,
            "strength": self._choice.strength,
            "evidence": evidence,
            "thresholds": {name: least[name] for name in evidence if name in least},
            "calibration": self._choice.record,
        }

    def _declined(self, cell: ScoredCell, reason: str, evidence: dict[str, float]) -> Refined:
        alone = unchanged(cell, f"guard of {type(self.step).__name__}: {reason}")
        trace = alone.trace | {"step_guarded": type(self.step).__name__, "guard": self._record(False, evidence)}
        return Refined(alone.distances, trace)
