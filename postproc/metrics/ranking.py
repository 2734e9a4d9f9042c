"""1:N matching accuracy and retrieval mAP (as in the protocols of VoxCeleb1); ties never help. Rank correlation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from postproc.metrics.roc import Direction

_BLOCK = 256  # queries whose scores are held at once


def matching_accuracy(scores: ArrayLike, target: ArrayLike = 0, *, direction: Direction) -> float:
    """1:N matching: how often the right candidate has the best score; see :func:`matching_hits`.

    Example:
        >>> matching_accuracy([[0.1, 0.9], [0.8, 0.2]], direction="distance")
        0.5
    """
    return float(matching_hits(scores, target, direction=direction).mean())


def matching_hits(scores: ArrayLike, target: ArrayLike = 0, *, direction: Direction) -> NDArray[np.float64]:
    """Whether the right candidate of each probe has the best score.

    A target that ties with m - 1 others for the best score counts 1/m, so a collapsed model gets 1/N.

    Args:
        scores: (q, N) finite scores of each probe's candidates.
        target: (q,) column of the right candidate, or one column for all (the VoxCeleb1 lists put it first: 0).
        direction: which way the scores point.

    Returns:
        (q,) 0 to 1.

    Raises:
        ValueError: no probe, fewer than two candidates, non-finite score, or a target that is no column.
    """
    distances = _distances(scores, direction)
    if distances.ndim != 2 or distances.shape[0] == 0 or distances.shape[1] < 2:
        raise ValueError(
            f"scores {distances.shape} must be (probes, candidates) with a probe and two candidates at least"
        )
    columns = np.broadcast_to(np.asarray(target), len(distances))
    if columns.min() < 0 or columns.max() >= distances.shape[1]:
        raise ValueError(f"target: column {columns.min()}..{columns.max()} outside 0..{distances.shape[1] - 1}")
    best = distances == distances.min(axis=1, keepdims=True)
    hits: NDArray[np.float64] = best[np.arange(len(best)), columns] / best.sum(axis=1)
    return hits


def retrieval_map(
    score_rows: Callable[[slice], ArrayLike],
    query_identity: ArrayLike,
    gallery_identity: ArrayLike,
    *,
    direction: Direction,
) -> float:
    """Mean average precision of retrieval; see :func:`average_precisions`.

    Example:
        >>> import numpy as np
        >>> distances = np.array([[0.1, 0.9, 0.5], [0.2, 0.3, 0.8]])
        >>> retrieval_map(lambda rows: distances[rows], ["a", "b"], ["a", "b", "a"], direction="distance")
        0.75
    """
    return float(average_precisions(score_rows, query_identity, gallery_identity, direction=direction).mean())


def average_precisions(
    score_rows: Callable[[slice], ArrayLike],
    query_identity: ArrayLike,
    gallery_identity: ArrayLike,
    *,
    direction: Direction,
) -> NDArray[np.float64]:
    """Average precision of retrieving, for each query, the gallery items of the same person.

    The gallery is all of ``gallery_identity``; state its size next to the number. Tied items share the rank of their
    last one (as in scikit-learn's average precision), so a collapsed model gets the prevalence, whatever the order of
    the files. Memory is bounded by 256 rows of the score matrix.

    Args:
        score_rows: scores of a slice of the queries against the whole gallery, (b, g); e.g.
            ``lambda rows: queries[rows] @ gallery.T``.
        query_identity: (q,) identity of each query.
        gallery_identity: (g,) identity of each gallery item.
        direction: which way the scores point.

    Returns:
        (q,) 0 to 1.

    Raises:
        ValueError: no query, non-finite score, a wrong shape, or queries whose identity is not in the gallery.
    """
    queries, gallery = np.asarray(query_identity), np.asarray(gallery_identity)
    if not len(queries):
        raise ValueError("no queries: mAP needs at least one")
    absent = ~np.isin(queries, gallery)
    if absent.any():
        raise ValueError(
            f"{int(absent.sum())} of {len(queries)} queries have an identity that is not in the gallery, "
            f"first {queries[absent][0]!s}; drop them from the queries"
        )
    gallery_identities, code = np.unique(gallery, return_inverse=True)  # numbers compare faster than names
    query_codes = np.searchsorted(gallery_identities, queries)
    precisions = np.empty(len(queries))
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(queries)))
        distances = _distances(score_rows(rows), direction)
        if distances.shape != (rows.stop - start, len(gallery)):
            raise ValueError(
                f"score_rows gave {distances.shape} for {rows.stop - start} queries and {len(gallery)} items"
            )
        precisions[rows] = [
            average_precision(d, code == query) for d, query in zip(distances, query_codes[rows], strict=True)
        ]
    return precisions


def average_precision(distances: NDArray[np.floating], relevant: NDArray[np.bool_]) -> float:
    """Average precision of one query, from its distances to the gallery (g,) and which items have its identity."""
    hits = np.sort(distances[relevant])
    rank = np.searchsorted(np.sort(distances), hits, "right")
    return float(np.mean(np.searchsorted(hits, hits, "right") / rank))


def _distances(scores: ArrayLike, direction: Direction) -> NDArray[np.floating]:
    if direction not in ("distance", "similarity"):
        raise ValueError(f"direction: {direction!r} is neither 'distance' nor 'similarity'")
    values = np.asarray(scores)
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite (check the embeddings)")
    return values if direction == "distance" else -values


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's correlation, ties at their mean rank; 0 where either is constant."""
    from scipy.stats import rankdata  # slow to import

    if len(a) < 2 or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return 0.0
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
