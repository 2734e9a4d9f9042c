"""Average linkage of unit embeddings, cut at a number of clusters or at a distance. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from postproc.clustering.kmeans import cluster_means, kmeans

LARGEST_TREE = 4096  # items up to which the tree is built, from n^2 / 2 distances
_MICRO = 512  # k-means clusters that are linked instead of the items where there are more


def cut(x: NDArray[np.float64], most: int, seed: int) -> NDArray[np.int64]:
    """Labels (n,) of at most ``most`` pure clusters of unit embeddings (n, d), numbered by their means.

    The numbers do not depend on the order of the rows. Of more than 4,096 items 512 k-means clusters are linked.
    """
    if len(x) <= most:
        labels = np.arange(len(x))
    elif len(x) <= LARGEST_TREE:
        from scipy.cluster.hierarchy import fcluster, linkage  # slow to import

        labels = fcluster(linkage(x, "average", metric="cosine"), most, "maxclust")
    else:
        micro = _micro_clusters(x, seed)
        labels = link(cluster_means(x, micro), np.bincount(micro), most)[micro]
    return _numbered(x, labels)


def cut_at(x: NDArray[np.float64], distances: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """Labels (n,) of the clusters of unit embeddings (n, d) whose mean cosine distance is at most each of some.

    The rest is as for :func:`cut`.
    """
    if len(x) < 2:
        cuts = [np.zeros(len(x), dtype=np.int64) for _ in distances]
    elif len(x) <= LARGEST_TREE:
        from scipy.cluster.hierarchy import fcluster, linkage  # slow to import

        tree = linkage(x, "average", metric="cosine")
        cuts = [fcluster(tree, distance, "distance") for distance in distances]
    else:
        micro = _micro_clusters(x, seed)
        means, sizes = cluster_means(x, micro), np.bincount(micro)
        cuts = [link(means, sizes, 1, 1 - distance)[micro] for distance in distances]
    return [_numbered(x, labels) for labels in cuts]


def link(
    means: NDArray[np.float64], sizes: NDArray[np.int64], clusters: int, least: float = -np.inf
) -> NDArray[np.int64]:
    """Average linkage of clusters of unit embeddings, as if all their items had been linked; labels (n,), with gaps.

    The mean cosine of the items of two clusters is the dot product of their means (not scaled to unit length).

    Args:
        means: (n, d) mean of each cluster.
        sizes: (n,) items of each.
        clusters: how many to leave, at least.
        least: smallest mean cosine of two clusters that are joined.
    """
    weight, labels = sizes.astype(np.float64), np.arange(len(means))
    similarity = means @ means.T
    np.fill_diagonal(similarity, -np.inf)
    for _ in range(len(means) - clusters):
        i, j = np.unravel_index(similarity.argmax(), similarity.shape)
        if similarity[i, j] < least:
            break
        joined = (weight[i] * similarity[i] + weight[j] * similarity[j]) / (weight[i] + weight[j])
        similarity[i] = similarity[:, i] = joined  # -inf with itself and with all that were joined before
        similarity[j] = similarity[:, j] = -np.inf
        weight[i] += weight[j]
        labels[labels == j] = i
    return labels


def _micro_clusters(x: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    found = kmeans(x, _MICRO, seed=seed, n_init=1, n_iter=5).labels
    labels: NDArray[np.int64] = np.unique(found, return_inverse=True)[1]
    return labels


def _numbered(x: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same clusters, numbered without gaps by their means, not by the order of the rows."""
    _, labels = np.unique(labels, return_inverse=True)
    rank: NDArray[np.int64] = np.argsort(np.lexsort(cluster_means(x, labels).T[::-1]))
    return rank[labels]
