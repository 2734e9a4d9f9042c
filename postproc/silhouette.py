"""The number of clusters by silhouette, an alternative to the elbow. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from postproc.kmeans import Backend, kmeans

_SAMPLE = 2048  # points that are clustered and judged: all pairs of them are compared


def silhouette(
    x: NDArray[np.floating], ks: Sequence[int], *, seed: int, backend: Backend = "auto", n_init: int = 10
) -> tuple[int, dict[int, float]]:
    """The number of clusters of the largest mean silhouette; of equals the smallest.

    A point's silhouette compares its mean distance to its own cluster with that to the nearest other one: 1 = far
    apart, 0 = on the border. Of more than 2,048 points a random sample is judged, so the cost does not grow with n.

    Args:
        x: (n, d) finite points.
        ks: numbers of clusters, each 2..n-1.
        seed: of the k-means starts and of the sample.
        backend: as :func:`kmeans`.
        n_init: as :func:`kmeans`.

    Returns:
        The chosen k, and the mean silhouette by k; -1 where not all k clusters are filled.

    Raises:
        ValueError: as :func:`kmeans`, or a k that has no silhouette.
    """
    from sklearn.metrics import silhouette_score

    x = np.asarray(x)
    if len(x) > _SAMPLE:
        x = x[np.sort(np.random.default_rng(seed).choice(len(x), _SAMPLE, replace=False))]
    if not ks or min(ks) < 2 or max(ks) >= len(x):
        raise ValueError(f"ks: {list(ks)} for {len(x)} points; a silhouette takes 2 to {len(x) - 1} clusters")
    curve = {}
    for k in ks:
        clusters = kmeans(x, k, seed=seed, backend=backend, n_init=n_init)
        curve[k] = float(silhouette_score(x, clusters.labels)) if clusters.sizes.all() else -1.0
    return max(curve, key=lambda k: curve[k]), curve
