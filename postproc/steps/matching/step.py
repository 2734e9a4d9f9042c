"""Matches fine voice clusters with fine face clusters by calibrated probabilities. Not from the papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, Embeddings, initial_distances, shared_space
from postproc.clustering.threshold import Thresholds, calibrated_thresholds, owners_of
from postproc.crossval.scenarios import Scenario, scenario_sets
from postproc.crossval.sets import GOOD, cross_validation_folds
from postproc.metrics.roc import eer
from postproc.reference import Reference
from postproc.refinement import Gain, Refined, Refinement, unchanged
from postproc.steps.age import has_ages, learn_ages
from postproc.steps.blocks import similarity_spread
from postproc.steps.gender import learn_genders
from postproc.steps.matching.describe import Array, Attributes, Pairs, describe
from postproc.steps.transport import Transport, transport_plans

_CLIP = 5.0  # largest size of a log-ratio
_TRIALS = 400  # pairs of a test set of training identities
_OWNER = "owner"  # a space of such a set: the number of each item's identity
_REGULARISATION = 0.3  # inverse strength of the penalty on the weights of L
_SCENARIOS = tuple(Scenario(n, clips) for n in (4, 6) for clips in ("scrambled", "wide", "balanced", 1, 2, 8))


@dataclass(frozen=True, eq=False)
class Evidence:
    """Log-likelihood ratio of one identity against two, linear in the features of a pair of clusters.

    Attributes:
        weights: (f,) of the features; there is no offset, which a plan with given masses would ignore.
        attributes: from which the features come, beside embeddings.
    """

    weights: Array
    attributes: Attributes


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A test set of held-out training identities: their group, the set, its labels (t,), and its pairs of clusters."""

    group: int
    cell: ScoredCell
    labels: NDArray[np.int8]
    levels: list[Pairs]


class Matching(Refinement):
    """Scores a pair by how probably its voice and its face are of one identity, given all others.

    1. Each modality is cut into fine, pure clusters at three distances calibrated on training identities
       (:mod:`postproc.clustering.threshold`).
    2. ``same`` is the probability that two clusters of a modality are of one identity. Embeddings are pooled over
       clusters by it, and the clusters of one identity share its mass: over-splitting costs little.
    3. The similarity of a voice and a face cluster, the probabilities of their genders and, where the data have some,
       their estimated ages become a log-likelihood ratio L. Its weights come from test sets of training identities
       that the scorer has not seen.
    4. Entropic optimal transport, unbalanced so that an identity of one side may stay alone, turns L into a plan. The
       distance of a pair is ``-log(plan / (voice mass * face mass))``, averaged over the three cuts, plus
       ``initial_weight`` times the distance before: where the plan knows nothing, the order stays. A cut counts by
       ``1 - clusters / items`` of the side where that is less: clusters of single clips average nothing, and match by
       chance as often as not.

    Where there are no encoder embeddings, or training identities are too few or have one clip each,
    ``otherwise`` is applied, and the trace says why. Transductive. A distance depends on the voices and faces of the
    test condition, not on which pairs are listed.

    Args:
        temperature: of the plan, in units of L; small = one to one.
        unbalanced: price of leaving mass unmatched, in units of L.
        initial_weight: of the initial distances, in standard deviations of the cosines of all pairs.
        otherwise: step to apply where nothing can be calibrated; None = :class:`postproc.Transport`.
        seed: of draws of training identities.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        temperature: float = 0.4,
        unbalanced: float = 6.0,
        initial_weight: float = 0.2,
        otherwise: Refinement | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("temperature", temperature), ("unbalanced", unbalanced)):
            if not 0 < value < np.inf:
                raise ValueError(f"{name}: {value} must be positive and finite")
        if not 0 <= initial_weight < np.inf:
            raise ValueError(f"initial_weight: {initial_weight} must be 0 or more and finite")
        self.temperature, self.unbalanced, self.initial_weight = temperature, unbalanced, initial_weight
        self.otherwise, self.seed = otherwise or Transport(), seed
        self._thresholds: dict[Modality, Thresholds] = {}
        self._evidence: Evidence | None = None
        self._why, self._record = "no reference identities were given", dict[str, Any]()

    @property
    def cross_validates(self) -> bool:
        return True

    @property
    def needs_reference(self) -> bool:
        return True

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self._evidence, self._record, self._why, self.gain = None, {}, "", None
        self.otherwise.share(self.memory)
        self.otherwise.calibrate(reference, before)
        try:
            self._thresholds = calibrated_thresholds(reference, self.seed, self.memory)
            if not all(thresholds.same for thresholds in self._thresholds.values()):
                raise DegenerateInput("too few training identities have several clips")
            self._evidence = self._learn(reference)
        except DegenerateInput as reason:
            self._why = str(reason)

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition.

        The trace holds, by cut, the number of ``clusters`` and the estimated ``identities`` of each modality, and the
        ``weights`` of L. Or ``otherwise``: why the other step was applied.
        """
        if self._evidence is None or not all("input" in spaces for spaces in (cell.voices, cell.faces)):
            refined = self.otherwise(cell)
            why = self._why or "no encoder embeddings of both modalities"
            return Refined(refined.distances, refined.trace | {"otherwise": why}, refined.embeddings)
        try:
            distances, trace = self._match(cell, self._evidence)
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))
        return Refined(distances, trace | self._record)

    def _match(self, cell: ScoredCell, evidence: Evidence) -> tuple[Array, dict[str, Any]]:
        initial, learnt = initial_distances(cell), shared_space(cell)
        levels = describe(cell, learnt, self._thresholds, evidence.attributes, self.memory, self.seed)
        total = self._log_ratios(levels, evidence.weights, cell)
        sides = [(pairs.voices, pairs.faces) for pairs in levels]
        trace: dict[str, Any] = {
            "clusters": {m: [len(side[i].share) for side in sides] for i, m in enumerate(MODALITIES)},
            "identities": {m: [float(side[i].share.sum()) for side in sides] for i, m in enumerate(MODALITIES)},
        }
        return self._with_initial(initial, learnt, total), trace

    def _with_initial(self, initial: Array, learnt: Embeddings, total: Array) -> Array:
        """Distances (t,): minus the log-ratio, plus a share of the initial distances in units of their spread."""
        return self.initial_weight * initial / similarity_spread(learnt) - total

    def _log_ratios(self, levels: Sequence[Pairs], weights: Array, cell: ScoredCell) -> Array:
        """Mean over the levels of log(plan / masses) (t,), each as far as its clusters are averages."""
        total = np.zeros(len(cell.distances))
        for pairs in levels:
            a, b = pairs.voices.share / pairs.voices.share.sum(), pairs.faces.share / pairs.faces.share.sum()
            (plan,) = transport_plans([(pairs.features @ weights, a, b)], self.temperature, self.unbalanced)
            with np.errstate(divide="ignore"):  # log 0 = -inf, clipped
                ratio = np.log(plan) - np.log(np.outer(a, b))
            total += pairs.averaged * pairs.of_trials(np.clip(ratio, -_CLIP, _CLIP), cell)
        return total / len(levels)

    def _learn(self, reference: Reference) -> Evidence:
        """Weights from test sets of held-out training identities, and the gain on groups they were not fitted on.

        Raises:
            DegenerateInput: too few training identities.
        """
        attributes = self._attributes(reference)
        drawn = list(self._drawn(reference, attributes.features))
        weights = _fit(drawn)
        self._record = {"weights": dict(zip(attributes.features, weights.tolist(), strict=True))}
        groups = sorted({of.group for of in drawn})
        changes = [self._change(drawn, group) for group in groups] if len(groups) > 1 else []
        self.gain = Gain.of(changes)
        return Evidence(weights, attributes)

    def _attributes(self, reference: Reference) -> Attributes:
        """Genders, and ages where both sides have some."""
        known = has_ages(reference.voices, reference.faces)
        return Attributes(learn_genders(reference, self.memory), learn_ages(reference) if known else None)

    def _change(self, drawn: Sequence[_Drawn], group: int) -> float:
        """Mean change of the EER of a group's test sets, with weights fitted on the others."""
        weights = _fit([of for of in drawn if of.group != group])
        changes = []
        for of in drawn:
            if of.group == group:
                total = self._log_ratios(of.levels, weights, of.cell)
                refined = self._with_initial(of.cell.distances, shared_space(of.cell), total)
                before, after = (eer(d, of.labels, direction="distance").eer for d in (of.cell.distances, refined))
                changes.append(after - before)
        return float(np.mean(changes))

    def _drawn(self, reference: Reference, features: tuple[str, ...]) -> Iterator[_Drawn]:
        """Many test sets of held-out identities, with the given features."""
        names = np.unique(reference.identity)
        for fold in cross_validation_folds(reference, [GOOD], 1, self.seed, memory=self.memory):
            attributes = self._attributes(fold.training)
            if attributes.features != features:
                continue
            code = np.searchsorted(names, fold.held_out.identity)[:, None].astype(float)
            held_out = replace(
                fold.held_out,
                voices=fold.held_out.voices | {_OWNER: code},
                faces=fold.held_out.faces | {_OWNER: code},
            )
            for scenario in _SCENARIOS:
                for cell, labels in scenario_sets(held_out, scenario, 1, fold.seed, _TRIALS):
                    learnt = shared_space(cell)
                    levels = describe(cell, learnt, self._thresholds, attributes, self.memory, self.seed)
                    yield _Drawn(fold.group, cell, labels, levels)


def _fit(drawn: Sequence[_Drawn]) -> Array:
    """Weights (f,) of the features, by logistic regression on whether two clusters are of one identity.

    All sets together weigh as much as one pair of the same and one of different identities for each identity: the
    penalty then shrinks what few identities cannot tell, above all the weight of gender beside that of similarity.

    Raises:
        DegenerateInput: no sets.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    features, same, weights, identities = [], [], [], set[int]()
    for of in drawn:
        voices, faces = (side[_OWNER][:, 0].astype(np.int64) for side in (of.cell.voices, of.cell.faces))
        identities |= {*voices.tolist()}
        for pairs in of.levels:
            owners = owners_of(pairs.voices.labels, voices), owners_of(pairs.faces.labels, faces)
            equal = owners[0][:, None] == owners[1]
            mass = np.outer(pairs.voices.share, pairs.faces.share)
            if 0 < equal.sum() < equal.size:
                features.append(pairs.features.reshape(equal.size, -1))
                same.append(equal.ravel())
                weights.append(np.where(equal, mass / mass[equal].sum(), mass / mass[~equal].sum()).ravel())
    if not features:
        raise DegenerateInput("no test set could be made of the training identities")
    x, weight = np.concatenate(features), np.concatenate(weights)
    scale = np.sqrt((x**2).mean(axis=0))
    model = LogisticRegression(C=_REGULARISATION, max_iter=1000)
    model.fit(x / scale, np.concatenate(same), sample_weight=weight * (2 * len(identities) / weight.sum()))
    fitted: Array = model.coef_[0] / scale
    return fitted
