"""The number of clusters of videos, estimated by silhouettes. Not from the papers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_VIDEOS = 8192  # all pairs of them are compared: 0.5 GB
LEAST_SILHOUETTE = 0.1  # V1's videos have .32; those of s2f, each of another identity, .06
STEP = 1.1  # ratio of the numbers of clusters that are tried


def count_by_silhouette(videos: NDArray[np.floating]) -> int:
    """Number of clusters at which a cut of Ward's tree of the videos has the largest mean silhouette.

    A silhouette compares a video's mean distance to its own cluster with that to the nearest other one. If no cut
    reaches 0.1, the videos form no clusters, and each counts: as where every video shows another identity.

    Args:
        videos: (v, d) pooled embeddings of 2 to 8,192 videos.

    Example:
        >>> count_by_silhouette(np.repeat(np.eye(3), [2, 1, 3], axis=0) + np.arange(6)[:, None] / 100)
        3
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # slow to import
    from scipy.spatial.distance import pdist, squareform
    from sklearn.metrics import silhouette_score

    apart = pdist(np.asarray(videos, dtype=np.float64))
    tree, square = linkage(apart, "ward"), squareform(apart)
    largest, count = LEAST_SILHOUETTE, len(videos)
    for k in _counts(len(videos)):
        cut = fcluster(tree, k, "maxclust")
        if len(np.unique(cut)) < 2:  # equal videos cannot be cut
            continue
        silhouette = float(silhouette_score(square, cut, metric="precomputed"))
        if silhouette > largest:
            largest, count = silhouette, len(np.unique(cut))
    return count


def _counts(videos: int) -> list[int]:
    """Numbers of clusters to try: 2 up to all but one, in steps of a tenth."""
    counts = [2]
    while counts[-1] < videos - 1:
        counts.append(min(videos - 1, max(counts[-1] + 1, int(counts[-1] * STEP))))
    return [k for k in counts if k < videos]
