"""Verification metrics read off the ROC: EER, AUC, minDCF and the points of the DET curve.

Every distinct score is a threshold, tied scores share one ROC point, and the EER is where the piecewise linear ROC
crosses FPR = FNR. It equals the challenge organisers' ``brentq`` on ``interp1d`` of scikit-learn's
``roc_curve(drop_intermediate=False)`` and does not sort the whole list.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Direction = Literal["distance", "similarity"]

_CHUNK = 1 << 17  # scores looked at together: stays in cache, bounds the memory of masks
_SAMPLE = 1 << 16  # scores drawn to guess where the crossing is
_SORTABLE = 1 << 17  # below this, sorting is quicker than guessing
_SIGMAS = 6.0


class EER(NamedTuple):
    """An equal error rate.

    Attributes:
        eer: fraction 0..1, linearly interpolated where FPR = FNR.
        threshold: the strictest observed score (smallest distance, largest similarity) at which accepting it and
            everything better gives FPR >= FNR.
        n_pos: number of same-person trials.
        n_neg: number of different-person trials.
    """

    eer: float
    threshold: float
    n_pos: int
    n_neg: int


class DetPoints(NamedTuple):
    """Error rates at every distinct threshold, strictest first; the first point accepts nothing.

    Attributes:
        fpr: (k + 1,) false acceptance rates, from 0 to 1.
        fnr: (k + 1,) false rejection rates, from 1 to 0.
        thresholds: (k + 1,) scores; the first is -inf for distances, inf for similarities.
    """

    fpr: NDArray[np.float64]
    fnr: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def eer(scores: ArrayLike, labels: ArrayLike, *, direction: Direction) -> EER:
    """Equal error rate of a trial list, exact with ties.

    Example:
        >>> eer([0.1, 0.4, 0.3, 0.9], [1, 1, 0, 0], direction="distance")
        EER(eer=0.5, threshold=0.3, n_pos=2, n_neg=2)
        >>> eer([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0], direction="similarity").eer
        0.5

    Time is linear in the number of trials: a random sample brackets the crossing, counting confirms the bracket, and
    only the scores inside it are sorted. The sample decides the speed, never the result.

    Args:
        scores: (t,) finite scores.
        labels: (t,) 1 = same person, 0 = different.
        direction: which way the scores point: ``distance`` (lower = same person) or ``similarity``.

    Raises:
        ValueError: empty list, non-finite score, label that is not 0 or 1, only one class, lengths that differ.
    """
    distances, positive = as_trials(scores, labels, direction=direction)
    n_pos = int(np.count_nonzero(positive))
    n_neg = len(positive) - n_pos
    rng = np.random.default_rng(0)
    pos_below, neg_below = 0, 0
    while len(distances) > _SORTABLE:
        low, high = _bracket(distances, positive, (n_pos, n_neg), (pos_below, neg_below), rng)
        inside, pos_under, neg_under = _split(distances, positive, low, high)
        pos_inside = int(np.count_nonzero(positive[inside]))
        neg_inside = len(inside) - pos_inside
        pos_at, neg_at = pos_below + pos_under, neg_below + neg_under
        crosses_inside = (
            _excess(pos_at, neg_at, n_pos, n_neg) < 0 <= _excess(pos_at + pos_inside, neg_at + neg_inside, n_pos, n_neg)
        )
        if not crosses_inside:
            break
        narrowed = len(inside) <= len(distances) // 2
        distances, positive = distances[inside], positive[inside]
        pos_below, neg_below = pos_at, neg_at
        if not narrowed:
            break
    values, pos_upto, neg_upto = _cumulative(distances, positive)
    pos_upto, neg_upto = pos_upto + pos_below, neg_upto + neg_below
    first = int(np.argmax(_excess(pos_upto, neg_upto, n_pos, n_neg) >= 0))
    pos0, neg0 = (pos_upto[first - 1], neg_upto[first - 1]) if first else (pos_below, neg_below)
    before = neg0 / n_neg + pos0 / n_pos - 1
    after = neg_upto[first] / n_neg + pos_upto[first] / n_pos - 1
    weight = before / (before - after)
    rate = (neg0 + weight * (neg_upto[first] - neg0)) / n_neg
    threshold = float(values[first])
    return EER(float(rate), threshold if direction == "distance" else -threshold, n_pos, n_neg)


def auc(scores: ArrayLike, labels: ArrayLike, *, direction: Direction) -> float:
    """Area under the ROC: probability that a same-person trial beats a different-person trial, ties counting half.

    Args and errors are those of :func:`eer`.

    Example:
        >>> auc([0.1, 0.4, 0.3, 0.9], [1, 1, 0, 0], direction="distance")
        0.75
    """
    distances, positive = as_trials(scores, labels, direction=direction)
    pos, neg = np.sort(distances[positive]), np.sort(distances[~positive])
    ranks = np.searchsorted(neg, pos, "left").sum(dtype=np.int64) + np.searchsorted(neg, pos, "right").sum(
        dtype=np.int64
    )
    return 1 - float(ranks) / (2 * len(pos) * len(neg))


def det_points(scores: ArrayLike, labels: ArrayLike, *, direction: Direction) -> DetPoints:
    """All points of the DET curve; args and errors are those of :func:`eer`.

    Example:
        >>> points = det_points([0.1, 0.4, 0.3, 0.9], [1, 1, 0, 0], direction="distance")
        >>> points.fpr.tolist(), points.fnr.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [1.0, 0.5, 0.5, 0.0, 0.0])
    """
    values, pos_upto, neg_upto = _cumulative(*as_trials(scores, labels, direction=direction))
    fpr = np.concatenate([[0.0], neg_upto / neg_upto[-1]])
    fnr = np.concatenate([[1.0], 1 - pos_upto / pos_upto[-1]])
    thresholds = np.concatenate([[-np.inf], values.astype(np.float64)])
    return DetPoints(fpr, fnr, thresholds if direction == "distance" else -thresholds)


def min_dcf(scores: ArrayLike, labels: ArrayLike, *, direction: Direction, p_target: float = 0.05) -> float:
    """Minimum detection cost (NIST, unit costs), divided by the cost of the better blind decision.

    Example:
        >>> min_dcf([0.1, 0.4, 0.3, 0.9], [1, 1, 0, 0], direction="distance")
        0.5

    Args:
        scores: (t,) finite scores.
        labels: (t,) 1 = same person, 0 = different.
        direction: which way the scores point.
        p_target: prior probability of a same-person trial, in (0, 1).

    Raises:
        ValueError: as :func:`eer`, or a prior outside (0, 1).
    """
    if not 0 < p_target < 1:
        raise ValueError(f"p_target: {p_target} is not a probability strictly between 0 and 1")
    points = det_points(scores, labels, direction=direction)
    cost = p_target * points.fnr + (1 - p_target) * points.fpr
    return float(cost.min()) / min(p_target, 1 - p_target)


def as_trials(
    scores: ArrayLike, labels: ArrayLike, *, direction: Direction
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Checked trials as (distances (t,) float32 or float64, positive (t,) bool); errors are those of :func:`eer`."""
    if direction not in ("distance", "similarity"):
        raise ValueError(f"direction: {direction!r} is neither 'distance' nor 'similarity'")
    values, marks = np.asarray(scores), np.asarray(labels)
    if values.ndim != 1 or values.shape != marks.shape:
        raise ValueError(f"scores {values.shape} and labels {marks.shape} must be two lists of the same length")
    if not len(values):
        raise ValueError("no trials: an EER needs at least one same-person and one different-person trial")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    _check_finite(values)
    positive = marks.astype(bool)
    if marks.dtype != bool and not np.array_equal(marks, positive):
        bad = int(np.argmax(marks != positive))
        raise ValueError(f"label of trial {bad} is {marks[bad]}; labels are 1 (same person) or 0 (different)")
    n_pos = int(np.count_nonzero(positive))
    if n_pos in (0, len(positive)):
        kind = "same-person" if n_pos else "different-person"
        raise ValueError(f"all {len(positive)} trials are {kind}: an error rate needs both classes")
    return (values if direction == "distance" else -values), positive


def _check_finite(values: NDArray[np.floating]) -> None:
    for start in range(0, len(values), _CHUNK):
        finite = np.isfinite(values[start : start + _CHUNK])
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise ValueError(f"score of trial {row} is {values[row]}; scores must be finite (check the embeddings)")


def _excess(pos: Any, neg: Any, n_pos: int, n_neg: int) -> Any:
    """(FPR - FNR) * n_pos * n_neg, in exact integers, where pos and neg trials are accepted."""
    return neg * n_pos + pos * n_neg - n_pos * n_neg


def _bracket(
    distances: NDArray[np.floating],
    positive: NDArray[np.bool_],
    totals: tuple[int, int],
    below: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Two scores, from a sample, that very probably have the crossing between them."""
    rows = rng.integers(0, len(distances), _SAMPLE)
    values, marks = distances[rows], positive[rows]
    order = np.argsort(values)
    values, marks = values[order], marks[order]
    share = len(distances) / _SAMPLE
    fpr = (below[1] + share * np.cumsum(~marks)) / totals[1]
    tpr = (below[0] + share * np.cumsum(marks)) / totals[0]
    excess = fpr + tpr - 1
    # standard error of the sampled excess, plus one sampled trial of the rarer class
    spread = (
        share * np.sqrt(np.count_nonzero(marks)) / totals[0] + share * np.sqrt(np.count_nonzero(~marks)) / totals[1]
    )
    slack = _SIGMAS * spread / 2 + share / min(totals)
    low, high = np.searchsorted(excess, [-slack, slack])
    return float(values[low]) if low else -np.inf, float(values[high]) if high < _SAMPLE else np.inf


def _split(
    distances: NDArray[np.floating], positive: NDArray[np.bool_], low: float, high: float
) -> tuple[NDArray[np.int64], int, int]:
    """Rows with low <= distance <= high, and how many positives and negatives lie below low."""
    rows, pos_under, under = [], 0, 0
    for start in range(0, len(distances), _CHUNK):
        part, marks = distances[start : start + _CHUNK], positive[start : start + _CHUNK]
        less = part < low
        under += int(np.count_nonzero(less))
        pos_under += int(np.count_nonzero(less & marks))
        rows.append(start + np.flatnonzero((part <= high) > less))
    return np.concatenate(rows), pos_under, under - pos_under


def _cumulative(
    distances: NDArray[np.floating], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct distances in ascending order, and how many positives and negatives lie at or below each."""
    pos, neg = np.sort(distances[positive]), np.sort(distances[~positive])
    merged = np.sort(np.concatenate([pos, neg]), kind="stable")  # two sorted runs: linear
    values = merged[np.concatenate([merged[1:] != merged[:-1], [True]])]
    return values, np.searchsorted(pos, values, "right"), np.searchsorted(neg, values, "right")
