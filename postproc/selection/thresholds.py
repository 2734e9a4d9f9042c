"""How a guard's strength and thresholds are found on training people, without a test label. Not from the papers."""

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
from postproc.selection.reliability import gather_evidence, learn_judge

SHRINKAGES = (1.0, 3.0, 10.0, GOOD)  # of the scorers: from a bad one, which overfits, to the best one
# few, for the more is tried, the more looks safe by chance. None is the whole step: half of it leaves the order of the
# scores among what it penalises. On practice sets of V1 (6 fits) half of chaining gains as much with bad scorers (-8.7
# and -5.7 points, the whole -9.5 and -5.8), more with good ones (-1.4 and -.4, the whole -1.2 and -.2), and harms 17 %
# of the best scorer's sets by over a point instead of 24 %.
STRENGTHS, LEVELS = (0.5, 0.25), (0.0, 0.25, 0.5)
NOVELTY_LEVELS = tuple(tenth / 10 for tenth in range(10))
HARM, CONFIDENCE = 0.005, 0.99
_SETS = 8  # of a group
_LEAST = 3  # groups


@dataclass(frozen=True, eq=False)
class Practice:
    """What a step did on practice test sets.

    Attributes:
        group: (n,) sets of one group share people, sets of two groups none.
        scorer: (n,) the scorer's shrinkage, or ``model``.
        before: (n,) EER of the scores as they were.
        after: (n, s) EER by strength.
        evidence: (n,) by statistic.
    """

    group: NDArray[np.int64]
    scorer: NDArray[np.str_]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    evidence: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Choice:
    """What to do on cells.

    Attributes:
        strength: how much of a step to apply; 0 = nothing was found to be safe.
        thresholds: least evidence by statistic.
        record: how they were found; plain values.
    """

    strength: float
    thresholds: dict[str, float]
    record: dict[str, Any]


def practise(
    step: Refinement,
    reference: Reference,
    before: Sequence[Refinement] = (),
    *,
    strengths: Sequence[float] = STRENGTHS,
    resamples: int = 2,
    seed: int = 0,
) -> Practice:
    """Applies a step to test sets of people the scorer has not met (:func:`postproc.crossval.sets.cross_validation_folds`).

    People the model knows are scored by good and by bad scorers, those held out by the model. What the steps learn from
    people, they learn from people outside the set.

    Args:
        step: what is to be guarded; not changed.
        reference: training people.
        before: the steps that come before it.
        strengths: shares of the step to try.
        resamples: for the evidence of stability.
        seed: of groups, sets and evidence.

    Raises:
        DegenerateInput: too few people, or a reference that gives too few practice sets the step can refine.
    """
    rows: list[tuple[int, str, float, list[float], dict[str, float]]] = []
    for fold in cross_validation_folds(reference, SHRINKAGES, _SETS, seed, _LEAST):
        *earlier, guarded = fold.calibrated([*before, step])
        genders = learn_judge(step, fold.training)
        for cell, labels in fold.sets():
            cell = follow(cell, refine(cell, earlier))
            try:
                evidence = gather_evidence(guarded, cell, genders, resamples, seed)
            except DegenerateInput:
                continue
            refined = guarded(cell).distances
            tried = [cell.distances, *(partly(cell.distances, refined, s) for s in strengths)]
            raw, *after = (eer(distances, labels, direction="distance").eer for distances in tried)
            rows.append((fold.group, fold.scorer, raw, after, evidence))
    if len({group for group, *_ in rows}) < _LEAST:
        raise DegenerateInput(f"{len(rows)} practice sets of training people could be refined, too few to calibrate on")
    groups, scorers, initial, changed, found = zip(*rows, strict=True)
    evidence_of = {name: np.array([e[name] for e in found]) for name in found[0]}
    return Practice(np.array(groups), np.array(scorers), np.array(initial), np.array(changed), evidence_of)


def partly(initial: NDArray[np.float64], refined: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Distances moved from the initial towards the refined ones; strength 1 = the refined ones, bit by bit."""
    return refined if strength == 1 else (1 - strength) * initial + strength * refined


def choose(practice: Practice, strengths: Sequence[float], given: dict[str, float]) -> Choice:
    """The strength and the thresholds that gain most without harm.

    A set is accepted where each statistic reaches its threshold, a quantile over all practice sets: one level for
    ``novelty``, one for all others together; the least refuses only what is unlike every practice set. What is not
    accepted keeps its scores. A choice is safe where the mean EER over groups falls with 99 % confidence (t, one sided)
    and no group loses more than 0.5 points in the mean of its sets with any scorer. Where the model itself scored some,
    their mean EER must fall, too: what the step does to other scorers, however sure, is no reason to apply it to a
    model that shows no gain. Where it scored none, it may be as good as the best scorer of practice, whose own sets
    must then gain with 99 % confidence. Of the safe ones that of the largest mean gain is taken, of equals the least
    restrictive.

    Args:
        practice: what happened.
        strengths: of its columns.
        given: thresholds that are not to be chosen.
    """
    groups = np.unique(practice.group)
    members = [practice.group == g for g in groups]
    parts = [m & (practice.scorer == s) for m, s in product(members, np.unique(practice.scorer))]
    every = practice.after - practice.before[:, None]
    own, stand_in = practice.scorer == MODEL, practice.scorer == f"{GOOD:g}"
    best: dict[str, Any] = {}
    for novelty, level in product(NOVELTY_LEVELS, LEVELS):
        quantiles = {name: novelty if name == "novelty" else level for name in practice.evidence}
        least = {n: float(np.quantile(x, quantiles[n], method="lower")) for n, x in practice.evidence.items()} | given
        accepted = np.logical_and.reduce([x >= least[name] for name, x in practice.evidence.items()])
        change = np.where(accepted[:, None], every, 0.0)
        mean, upper = _bound([change[m] for m in members])
        worst = np.max([change[p].mean(axis=0) for p in parts if p.any()], axis=0)
        gains = np.full(len(strengths), True)
        if own.any():
            gains = change[own].mean(axis=0) < 0
        elif stand_in.any():
            gains = _bound([change[m & stand_in] for m in members if (m & stand_in).any()])[1] < 0
        for at, strength in enumerate(strengths):
            safe = upper[at] < 0 and worst[at] <= HARM and gains[at]
            if safe and mean[at] < best.get("mean_change", 0.0):
                best = {
                    "strength": strength,
                    "thresholds": least,
                    "mean_change": float(mean[at]),
                    "upper_bound": float(upper[at]),
                    "worst_group": float(worst[at]),
                    "accepted": float(accepted.mean()),
                }
    record = {
        "practice_sets": len(practice.group),
        "groups": len(groups),
        "eer_before": float(practice.before.mean()),
        "mean_change_unguarded": float(every[:, 0].mean()),
    }
    if own.any():
        record |= {"model_before": float(practice.before[own].mean()), "model_change": float(every[own, 0].mean())}
    record |= {name: value for name, value in best.items() if name not in ("strength", "thresholds")}
    return Choice(best.get("strength", 0.0), best.get("thresholds", {}), record)


def _bound(by_group: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean change (s,) over groups, of (sets, s) each, and its upper bound (t, one sided)."""
    means = np.stack([changes.mean(axis=0) for changes in by_group])
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    return means.mean(axis=0), means.mean(axis=0) + student.ppf(CONFIDENCE, len(means) - 1) * error
