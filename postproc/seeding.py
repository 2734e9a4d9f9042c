"""Starting centres of k-means.

Ours, because the oldest supported faiss-cpu has no k-means++ and scikit-learn's would start the backends apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def plus_plus(
    points: NDArray[np.float32], k: int, rng: np.random.Generator, nearest: NDArray[np.float32] | None = None
) -> list[int]:
    """Rows of k starting centres: k-means++ with several candidates a step, the best kept (Arthur, Vassilvitskii 2007).

    Args:
        points: (n, d), best centred and of unit size.
        k: rows to choose, at most n.
        rng: draws candidates.
        nearest: (n,) squared distances to the nearest of the centres there are already; None = there are none.
    """
    candidates = 2 + int(np.log(k))
    norms = np.einsum("nd,nd->n", points, points)
    chosen: list[int] = []
    if nearest is None:
        chosen = [int(rng.integers(len(points)))]
        nearest = _squared(points, norms, chosen)[:, 0]
    while len(chosen) < k:
        total = nearest.sum(dtype=np.float64)
        if total > 0:
            drawn = np.searchsorted(np.cumsum(nearest, dtype=np.float64), rng.random(candidates) * total)
            drawn = np.minimum(drawn, len(points) - 1)
        else:  # fewer distinct points than clusters: any other point will do
            drawn = rng.choice(np.setdiff1d(np.arange(len(points)), chosen), 1)
        reached = np.minimum(nearest[:, None], _squared(points, norms, drawn))
        best = int(np.argmin(reached.sum(axis=0, dtype=np.float64)))
        chosen.append(int(drawn[best]))
        nearest = reached[:, best]
    return chosen


def _squared(
    points: NDArray[np.float32], norms: NDArray[np.float32], rows: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float32]:
    """Squared distances (n, len(rows)) of all points to some of them, exactly 0 to themselves."""
    squared = norms[:, None] + norms[rows] - 2 * (points @ points[rows].T)
    squared[rows, np.arange(len(rows))] = 0
    return np.maximum(squared, 0)
