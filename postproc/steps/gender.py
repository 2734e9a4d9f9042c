"""Adds the probability of the same gender, by a probe fitted on training identities. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, Embeddings, embeddings, initial_distances, unit
from postproc.crossval.sets import GOOD, MODEL, cross_validation_folds, cross_validation_sets
from postproc.memory import Memory
from postproc.metrics.roc import eer
from postproc.reference import Reference
from postproc.refinement import Gain, Refined, Refinement, follow, refine, unchanged

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)  # in standard deviations of the distances
_SETS = 8  # test sets per group, for the choice of the weight
_LEAST = 2  # identities of each gender that a probe needs

Probes = dict[Modality, NDArray[np.float64]]
"""By modality the weights of a logistic regression (d + 1,) for P(male), the offset last."""


class GenderProbe(Refinement):
    """Shifts a distance by how likely voice and face have the same gender.

    A logistic regression per modality learns M/F from the identities of the reference, with equal weights. With its
    probabilities p and q of one gender, ``P(same) = p q + (1 - p) (1 - q)`` and the distance becomes
    ``d - weight * log(2 P(same))``. Inductive: the shift depends only on the pair.

    The weight is in units of the distances. ``calibrate`` tries several on test sets of unseen identities
    (:func:`postproc.crossval.sets.cross_validation_folds`), since the model's scores of identities it has seen leave
    nothing to gain. The probes and the steps before this one are calibrated on other identities. Scorers differ in
    scale, so weights are tried in standard deviations of a set's distances. The best one, by mean EER over groups, is
    multiplied by the mean standard deviation of the model's own distances over its test sets. Without validation
    identities, those are sets of training identities, whose distances vary a little more.

    Args:
        weight: of the shift; ``calibrate`` = chosen by cross-validation.
        space: embeddings the probe reads; ``input`` falls back to ``model`` where there are none.
        regularisation: inverse strength C of the L2 penalty, for embeddings of unit length.
        floor: smallest P(same), so that gender does not rule out a pair.
        seed: of folds and test sets.

    Raises:
        ValueError: an option out of range.
    """

    assumes_identities = False

    def __init__(
        self,
        weight: float | Literal["calibrate"] = "calibrate",
        space: Literal["input", "model"] = "input",
        regularisation: float = 10.0,
        floor: float = 0.02,
        seed: int = 0,
    ) -> None:
        if weight != "calibrate" and not 0 <= weight < np.inf:
            raise ValueError(f"weight: {weight} must be 0 or more, or calibrate")
        if space not in ("input", "model"):
            raise ValueError(f"space: {space!r} is neither 'input' nor 'model'")
        if not 0 < regularisation < np.inf:
            raise ValueError(f"regularisation: {regularisation} must be positive")
        if not 0 < floor < 0.5:
            raise ValueError(f"floor: {floor} is outside 0..0.5")
        self.weight, self.space, self.regularisation, self.floor, self.seed = weight, space, regularisation, floor, seed
        self._probes: Probes = {}
        self._record: dict[str, Any] = {}
        self._weight, self._why = 0.0, "the probe was not calibrated: no reference identities were given"

    @property
    def needs_reference(self) -> bool:
        return True

    @property
    def cross_validates(self) -> bool:
        return self.weight == "calibrate"

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self._probes, self._record, self.gain = {}, {}, None
        self._space = "input" if self.space == "input" and "input" in reference.voices else "model"
        known = reference.rows(reference.gender != "")
        self._why = too_few(known)
        if self._why:
            return
        try:
            self._weight = self._choose(known, before) if self.weight == "calibrate" else float(self.weight)
        except DegenerateInput as reason:
            self._why = f"no weight was found: {reason}; set weight to a number"
            return
        self._probes = self._fit(known)

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition.

        The trace holds ``weight``; with ``calibrate``, the ``relative_weight``, the ``spread`` it is multiplied by and
        ``weights_tried``, the mean EER by relative weight; ``confidence``, the mean of max(p, 1 - p) of each modality.
        """
        if not self._probes:
            return unchanged(cell, self._why)
        try:
            initial = initial_distances(cell)
            points = embeddings(cell, self._space)
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))
        p = probabilities(self._probes, points)
        shift = same_gender_ratio(p["voice"][cell.voice_index], p["face"][cell.face_index], self.floor)
        trace: dict[str, Any] = {
            "weight": self._weight,
            "space": self._space,
            "confidence": {m: float(np.maximum(p[m], 1 - p[m]).mean()) for m in MODALITIES},
        }
        trace |= self._record
        return Refined(initial - self._weight * shift, trace)

    def _fit(self, known: Reference) -> Probes:
        return fit_probes(known, self._space, self.regularisation, memory=self.memory)

    def _choose(self, known: Reference, before: Sequence[Refinement]) -> float:
        errors: dict[int, list[list[float]]] = {}
        spreads: list[float] = []
        for fold in cross_validation_folds(known, [GOOD], _SETS, self.seed, memory=self.memory):
            if too_few(fold.training):
                continue
            earlier, probes = fold.calibrated(before), self._fit(fold.training)
            for cell, labels in fold.sets():
                cell = follow(cell, refine(cell, earlier))
                distances, spread = cell.distances, float(cell.distances.std())
                spreads += [spread] * (fold.scorer == MODEL)
                p = probabilities(probes, embeddings(cell, self._space))
                shift = spread * same_gender_ratio(p["voice"][cell.voice_index], p["face"][cell.face_index], self.floor)
                rates = [eer(distances - w * shift, labels, direction="distance").eer for w in WEIGHTS]
                errors.setdefault(fold.group, []).append(rates)
        if not errors:
            raise DegenerateInput("without the held-out identities, too few are left to fit a probe")
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


@dataclass(frozen=True)
class Genders:
    """Gender probes by modality and the space they read; no models where there were too few identities."""

    models: Probes = field(default_factory=dict)
    space: str = "model"

    def __call__(self, cell: ScoredCell) -> Embeddings:
        """P(male) of every voice (n,) and face (m,).

        Raises:
            DegenerateInput: there are no models, or the test condition lacks their space.
        """
        if not self.models:
            raise DegenerateInput("no reference genders to fit a probe; give data.genders")
        return probabilities(self.models, embeddings(cell, self.space))

    def labels(self, cell: ScoredCell) -> dict[Modality, NDArray[np.int64]]:
        """1 = male, 0 = female of every voice (n,) and face (m,).

        Raises:
            DegenerateInput: as above, or all of a modality are of one gender.
        """
        by_modality = {m: (male > 0.5).astype(np.int64) for m, male in self(cell).items()}
        for m, labels in by_modality.items():
            if len(np.unique(labels)) < 2:
                raise DegenerateInput(f"{m} gender: the probe assigns all {len(labels)} to one gender")
        return by_modality


def learn_genders(reference: Reference, memory: Memory) -> Genders:
    """Probes fitted on the identities of known gender, on ``input`` embeddings if the reference has them."""
    known = reference.rows(reference.gender != "")
    space = "input" if all("input" in spaces for spaces in (reference.voices, reference.faces)) else "model"
    return Genders() if too_few(known) else Genders(fit_probes(known, space, memory=memory), space)


def fit_probes(known: Reference, space: str, regularisation: float = 10.0, *, memory: Memory) -> Probes:
    """Probes of M against F; identities of a gender have equal weights, and so have the genders."""
    _, code, count = np.unique(known.identity, return_inverse=True, return_counts=True)
    weights = 1 / count[code]
    male = known.gender == "M"
    weights = weights * np.where(male, 0.5 / weights[male].sum(), 0.5 / weights[~male].sum()) * len(count)

    def fit(x: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        model = LogisticRegression(C=regularisation, max_iter=1000).fit(x, male, sample_weight=weights)
        return [np.append(model.coef_[0], model.intercept_)]

    probes: Probes = {}
    for m, spaces in zip(MODALITIES, (known.voices, known.faces), strict=True):
        x = unit(np.asarray(spaces[space], dtype=np.float64))
        (probes[m],) = memory.recall(f"gender probe {regularisation}", [x, male, weights], partial(fit, x))
    return probes


def probabilities(probes: Probes, points: Embeddings) -> Embeddings:
    """P(male) of every voice (n,) and face (m,) at unit length."""
    return {m: expit((points[m] @ probes[m][:-1, None] + probes[m][-1]).ravel()) for m in MODALITIES}


def same_gender_ratio(p: NDArray[np.float64], q: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Log(2 P(same gender)) of pairs, from P(male) of their voices and faces; 0 where nothing is known."""
    return np.log(2 * np.clip(p * q + (1 - p) * (1 - q), floor, 1 - floor))


def too_few(known: Reference) -> str:
    """Why no probe can be fitted, or "" if one can."""
    for gender, name in (("M", "male"), ("F", "female")):
        identities = len(np.unique(known.identity[known.gender == gender]))
        if identities < _LEAST:
            return f"{identities} {name} reference identities, a probe needs {_LEAST}; give data.genders"
    return ""
