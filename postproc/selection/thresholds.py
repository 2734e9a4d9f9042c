"""Strength and thresholds of a guard, found by cross-validation on training identities. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from postproc.cells import DegenerateInput
from postproc.crossval.sets import GOOD, MODEL, cross_validation_folds
from postproc.metrics.roc import eer
from postproc.reference import Reference
from postproc.refinement import Refinement, follow, refine
from postproc.selection.reliability import reliability_statistics

SHRINKAGES = (1.0, 3.0, 10.0, GOOD)  # of the scorers, from one that overfits to the best one
# few: the more is tried, the more looks safe by chance; the whole step harms good scorers more often than half of it
STRENGTHS, LEVELS = (0.5, 0.25), (0.0, 0.25, 0.5)
NOVELTY_LEVELS = tuple(tenth / 10 for tenth in range(10))
HARM, CONFIDENCE = 0.005, 0.99
_SETS = 8  # test sets per group
_LEAST = 3  # groups


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a step did on cross-validation test sets.

    Attributes:
        group: (n,) group of each set; sets of one group share identities, sets of two groups have none in common.
        scorer: (n,) the scorer's shrinkage, or ``model``.
        before: (n,) EER before the step.
        after: (n, s) EER by strength.
        reliability: (n,) statistics by name.
    """

    group: NDArray[np.int64]
    scorer: NDArray[np.str_]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    reliability: dict[str, NDArray[np.float64]]

    @property
    def change(self) -> NDArray[np.float64]:
        """(n, s) change of the EER by strength; negative = better."""
        return self.after - self.before[:, None]


@dataclass(frozen=True)
class Choice:
    """How a guard treats test conditions.

    Attributes:
        strength: how much of a step to apply; 0 = no strength is safe.
        thresholds: smallest accepted statistic by name.
        record: how they were found; plain values.
    """

    strength: float
    thresholds: dict[str, float]
    record: dict[str, Any]


def cross_validate(
    step: Refinement,
    reference: Reference,
    before: Sequence[Refinement] = (),
    *,
    strengths: Sequence[float] = STRENGTHS,
    resamples: int = 2,
    seed: int = 0,
) -> Outcomes:
    """Applies a step to test sets of unseen identities (:func:`postproc.crossval.sets.cross_validation_folds`).

    Training identities are scored by good and by bad held-out scorers, validation identities by the model. Steps are
    calibrated on the identities outside the set.

    Args:
        step: the step to be guarded; it is copied, not changed.
        reference: clips of training and validation identities.
        before: the steps that come before it.
        strengths: shares of the step to try.
        resamples: number of resamples for ``stability``.
        seed: of groups, sets and statistics.

    Raises:
        DegenerateInput: too few identities, or too few test sets that the step can refine.
    """
    rows: list[tuple[int, str, float, list[float], dict[str, float]]] = []
    for fold in cross_validation_folds(reference, SHRINKAGES, _SETS, seed, _LEAST, step.memory):
        *earlier, guarded = fold.calibrated([*before, step])
        for cell, labels in fold.sets():
            cell = follow(cell, refine(cell, earlier))
            try:
                statistics = reliability_statistics(guarded, cell, resamples, seed)
            except DegenerateInput:
                continue
            refined = guarded(cell).distances
            candidates = [cell.distances, *(partly(cell.distances, refined, s) for s in strengths)]
            raw, *after = (eer(distances, labels, direction="distance").eer for distances in candidates)
            rows.append((fold.group, fold.scorer, raw, after, statistics))
    if len({group for group, *_ in rows}) < _LEAST:
        raise DegenerateInput(
            f"only {len(rows)} cross-validation test sets could be refined, too few to calibrate the guard"
        )
    groups, scorers, initial, changed, gathered = zip(*rows, strict=True)
    reliability = {name: np.array([statistics[name] for statistics in gathered]) for name in gathered[0]}
    return Outcomes(np.array(groups), np.array(scorers), np.array(initial), np.array(changed), reliability)


def partly(initial: NDArray[np.float64], refined: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Distances moved from the initial towards the refined ones; strength 1 = exactly the refined ones."""
    return refined if strength == 1 else (1 - strength) * initial + strength * refined


def choose(outcomes: Outcomes, strengths: Sequence[float], fixed: dict[str, float]) -> Choice:
    """The strength and thresholds with the largest gain among those that do no harm.

    A test set is accepted if each statistic reaches its threshold, a quantile over all sets: one level for ``novelty``
    and one for all others together. A set that is not accepted keeps its scores. A choice is safe if

    - the mean EER over groups falls with 99 % confidence (t, one-sided);
    - no group loses more than 0.5 points, averaged over its sets with any one scorer;
    - the sets scored by the model gain on average, too. Without such sets, the best held-out scorer stands in for the
      model, and its own sets must gain with 99 % confidence.

    Of the safe choices, the one with the largest mean gain is taken; of equals, the least restrictive.

    Args:
        outcomes: what the step did.
        strengths: of the columns of ``outcomes.after``.
        fixed: thresholds that are not to be chosen.
    """
    best: dict[str, Any] = {}
    for novelty, level in product(NOVELTY_LEVELS, LEVELS):
        quantiles = {name: novelty if name == "novelty" else level for name in outcomes.reliability}
        least = {
            name: float(np.quantile(x, quantiles[name], method="lower")) for name, x in outcomes.reliability.items()
        } | fixed
        accepted = np.logical_and.reduce([x >= least[name] for name, x in outcomes.reliability.items()])
        mean, upper, worst, safe = _judge(outcomes, accepted)
        for at, strength in enumerate(strengths):
            if safe[at] and mean[at] < best.get("mean_change", 0.0):
                best = {
                    "strength": strength,
                    "thresholds": least,
                    "mean_change": float(mean[at]),
                    "upper_bound": float(upper[at]),
                    "worst_group": float(worst[at]),
                    "accepted": float(accepted.mean()),
                }
    by_model = outcomes.scorer == MODEL
    record = {
        "cross_validation_sets": len(outcomes.group),
        "groups": len(np.unique(outcomes.group)),
        "eer_before": float(outcomes.before.mean()),
        "mean_change_unguarded": float(outcomes.change[:, 0].mean()),
    }
    if by_model.any():
        record |= {
            "model_before": float(outcomes.before[by_model].mean()),
            "model_change": float(outcomes.change[by_model, 0].mean()),
        }
    record |= {name: value for name, value in best.items() if name not in ("strength", "thresholds")}
    return Choice(best.get("strength", 0.0), best.get("thresholds", {}), record)


def _judge(
    outcomes: Outcomes, accepted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """By strength (s,): mean change over groups, its upper bound, the worst group, and whether it is safe."""
    change = np.where(accepted[:, None], outcomes.change, 0.0)
    members = [outcomes.group == g for g in np.unique(outcomes.group)]
    parts = [m & (outcomes.scorer == s) for m, s in product(members, np.unique(outcomes.scorer))]
    mean, upper = _bound([change[m] for m in members])
    worst = np.max([change[part].mean(axis=0) for part in parts if part.any()], axis=0)
    by_model, stand_in = outcomes.scorer == MODEL, outcomes.scorer == f"{GOOD:g}"
    gains = np.full(change.shape[1], True)
    if by_model.any():
        gains = change[by_model].mean(axis=0) < 0
    elif stand_in.any():
        gains = _bound([change[m & stand_in] for m in members if (m & stand_in).any()])[1] < 0
    return mean, upper, worst, (upper < 0) & (worst <= HARM) & gains


def _bound(by_group: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean change (s,) over groups, of (sets, s) each, and its upper bound (t, one sided)."""
    means = np.stack([changes.mean(axis=0) for changes in by_group])
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    return means.mean(axis=0), means.mean(axis=0) + student.ppf(CONFIDENCE, len(means) - 1) * error
