"""Confidence interval of an EER: bootstrap over identities, since trials of one identity are not independent."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from postproc.metrics.controls import TooFewIdentities
from postproc.metrics.roc import Direction, as_trials

_CELLS = 1 << 21  # (replicates x trials) weighted at once: bounds memory at a few times 16 MiB


def bootstrap_eer(
    scores: ArrayLike,
    labels: ArrayLike,
    voice_identity: ArrayLike,
    face_identity: ArrayLike,
    *,
    direction: Direction,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the EER over other draws of identities.

    Each replicate draws as many identities as there are, with replacement. A trial between two identities has the
    product of their multiplicities as its weight, a trial within one identity has that identity's multiplicity.
    Replicates with a single class do not count. Six identities give wide intervals.

    Example:
        >>> voice, face = ["a", "a", "b", "b", "c", "c"], ["a", "b", "b", "c", "c", "a"]
        >>> bootstrap_eer([0.1, 0.8, 0.3, 0.2, 0.2, 0.9], [1, 0, 1, 0, 1, 0], voice, face, direction="distance", n=100)
        (0.0, 0.75)

    Args:
        scores: (t,) finite scores.
        labels: (t,) 1 = same person, 0 = different.
        voice_identity: (t,) identity of each trial's voice.
        face_identity: (t,) identity of each trial's face.
        direction: which way the scores point.
        n: number of replicates.
        seed: of the draws.
        level: coverage of the interval.

    Returns:
        (low, high), fractions 0..1.

    Raises:
        ValueError: as :func:`postproc.metrics.roc.eer`.
        TooFewIdentities: fewer than two, or no replicate with both classes.
    """
    identities, codes = np.unique(np.concatenate([voice_identity, face_identity]), return_inverse=True)
    if len(identities) < 2:
        raise TooFewIdentities(f"{len(identities)} identity: a bootstrap over identities needs two or more")
    voice, face = np.split(codes, 2)
    rates = resampled_eers(scores, labels, voice, face, draw_identities(len(identities), n, seed), direction=direction)
    rates = rates[np.isfinite(rates)]
    if not len(rates):
        raise TooFewIdentities(f"none of {n} draws of {len(identities)} identities has trials of both classes")
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def draw_identities(count: int, n: int, seed: int) -> NDArray[np.int64]:
    """How often each identity is drawn (n, count): ``n`` times, ``count`` identities with replacement."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=n)


def resampled_eers(
    scores: ArrayLike,
    labels: ArrayLike,
    voice: NDArray[np.int64],
    face: NDArray[np.int64],
    multiplicity: NDArray[np.int64],
    *,
    direction: Direction,
) -> NDArray[np.float64]:
    """EER of each replicate of :func:`draw_identities`; the same draws may serve several trial lists.

    Args:
        scores: (t,) finite scores.
        labels: (t,) 1 = same person.
        voice: (t,) column of ``multiplicity`` of each trial's voice.
        face: (t,) column of each trial's face.
        multiplicity: (n, identities).
        direction: which way the scores point.

    Returns:
        (n,) fractions 0..1; NaN for a replicate left with a single class.

    Raises:
        ValueError: as :func:`postproc.metrics.roc.eer`.
    """
    distances, positive = as_trials(scores, labels, direction=direction)
    order = np.argsort(distances, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(distances[order]) != 0, True))  # last trial of each group of ties
    # trials of the same two identities have the same weight: compute it once per pair
    identities = multiplicity.shape[1]
    codes, pair = np.unique(voice * identities + face, return_inverse=True)
    pairs, pair, positive = np.divmod(codes, identities), pair[order], positive[order]
    step = max(1, _CELLS // len(order))
    parts = [multiplicity[i : i + step] for i in range(0, len(multiplicity), step)]
    return np.concatenate([_weighted_eers(_pair_weights(part, pairs), pair, positive, ends) for part in parts])


def _pair_weights(
    multiplicity: NDArray[np.int64], pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Weights (r, p) of trials between pairs of identities: (p,) of the voice and (p,) of the face."""
    voice, face = pairs
    return multiplicity[:, voice] * np.where(voice == face, 1, multiplicity[:, face])


def _weighted_eers(
    weights: NDArray[np.int64], pair: NDArray[np.int64], positive: NDArray[np.bool_], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    """EERs of replicates (r, p) of a sorted trial list (t,) by :func:`postproc.metrics.roc.eer`'s convention."""
    weight = np.take(weights, pair, axis=1)
    total = np.take(np.cumsum(weight, axis=1), ends, axis=1)
    weight *= positive
    pos = np.take(np.cumsum(weight, axis=1), ends, axis=1)
    neg = total - pos
    positives, negatives = pos[:, -1], neg[:, -1]
    rates = np.full(len(total), np.nan)
    both = (positives > 0) & (negatives > 0)
    pos, neg, p, n = pos[both], neg[both], positives[both], negatives[both]
    # the first point with neg / n + pos / p >= 1, of integers: nothing is rounded
    after = (neg * p[:, None] + pos * n[:, None] < (p * n)[:, None]).sum(axis=1)
    rows, before = np.arange(len(after)), np.maximum(after - 1, 0)
    fpr, tpr = neg[rows, after] / n, pos[rows, after] / p
    some = after > 0  # else the point before is the origin
    fpr_before, tpr_before = np.where(some, neg[rows, before] / n, 0.0), np.where(some, pos[rows, before] / p, 0.0)
    excess, short = fpr + tpr - 1, fpr_before + tpr_before - 1
    rates[both] = fpr_before + short / (short - excess) * (fpr - fpr_before)
    return rates
