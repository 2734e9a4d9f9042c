"""The number of clusters by silhouettes: identities of a test condition, pseudo-identities. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES
from postproc.cells import DegenerateInput, Embeddings, unit
from postproc.clustering.kmeans import Backend, kmeans
from postproc.memory import Memory

_SAMPLE = 2048  # items that are clustered and judged: all pairs of them are compared
_FEWEST, _MOST = 6, 512  # items needed; largest number of identities tried
_TIE = 0.01  # a silhouette this much below the best is as good: without it, a few draws of 6 were estimated as 11 or 15


def estimate_identities(points: Embeddings, seed: int = 0, memory: Memory | None = None) -> int:
    """Estimates the number of identities from voices and faces of the same identities.

    Each modality is linked to Ward's tree, the tree is cut into 2, 3, ... clusters, and each cut is judged by its mean
    silhouette of cosine distances. The silhouettes of the two modalities are added: faces by themselves may form one
    cluster per recording. The smallest number that is about as good as the best is taken.

    Args:
        points: voices (n, dv) and faces (m, df) of the encoders, which separate identities best. Of more than 2,048 a
            random sample is used.
        seed: of the sample.
        memory: keeps the estimate for equal embeddings; None = it is computed.

    Returns:
        2 or more; any number up to 20, above in steps of a tenth, up to 512.

    Raises:
        DegenerateInput: fewer than 6 voices or faces.

    Example:
        >>> import numpy as np
        >>> rng, clips = np.random.default_rng(0), np.repeat(np.eye(5), 8, axis=0)
        >>> estimate_identities({m: clips + 0.1 * rng.normal(size=clips.shape) for m in ("voice", "face")})
        5
    """
    fewest = min(len(points[m]) for m in MODALITIES)
    if fewest < _FEWEST:
        raise DegenerateInput(
            f"{fewest} voices or faces are too few to estimate the number of identities; give {_FEWEST}"
        )
    samples = [_sample(points[m], seed) for m in MODALITIES]

    def compute() -> int:
        counts = _counts(min(fewest, _SAMPLE), _MOST)
        total = np.sum([_ward_silhouettes(x, counts) for x in samples], axis=0)
        return counts[int(np.argmax(total >= total.max() - _TIE))]

    memory = Memory() if memory is None else memory
    return memory.recall("number of identities", samples, compute)


MOST_VIDEOS = 8192  # all pairs of them are compared: 0.5 GB
LEAST_SILHOUETTE = 0.1  # V1's videos have .32; those of s2f, each of another identity, .06


def count_by_silhouette(videos: NDArray[np.floating]) -> int:
    """Number of clusters at which a cut of Ward's tree of the videos has the largest mean silhouette.

    If no cut reaches 0.1, the videos form no clusters, and each counts: as where every video shows another identity.

    Args:
        videos: (v, d) pooled embeddings of 2 to 8,192 videos, compared by their Euclidean distance.

    Example:
        >>> import numpy as np
        >>> count_by_silhouette(np.repeat(np.eye(3), [2, 1, 3], axis=0) + np.arange(6)[:, None] / 100)
        3
    """
    counts = _counts(len(videos), len(videos) - 1)
    curve = np.array(_ward_silhouettes(videos, counts, "euclidean")) if counts else np.zeros(1)
    return counts[int(curve.argmax())] if curve.max() > LEAST_SILHOUETTE else len(videos)


def silhouette(
    x: NDArray[np.floating], ks: Sequence[int], *, seed: int, backend: Backend = "auto", n_init: int = 10
) -> tuple[int, dict[int, float]]:
    """The number of k-means clusters with the largest mean silhouette; the smallest of equals.

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
    x = _sample(np.asarray(x), seed)
    if not ks or min(ks) < 2 or max(ks) >= len(x):
        raise ValueError(f"ks: {list(ks)} for {len(x)} points; a silhouette takes 2 to {len(x) - 1} clusters")
    curve = {k: _mean_silhouette(x, kmeans(x, k, seed=seed, backend=backend, n_init=n_init).labels, k) for k in ks}
    return max(curve, key=lambda k: curve[k]), curve


def _ward_silhouettes(
    x: NDArray[np.floating], counts: list[int], distance: Literal["cosine", "euclidean"] = "cosine"
) -> list[float]:
    """Mean silhouette of each cut of Ward's tree; -1 where equal points leave fewer clusters."""
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage  # slow to import
    from scipy.spatial.distance import pdist, squareform

    points = np.asarray(x, dtype=np.float64)
    apart = pdist(unit(points) if distance == "cosine" else points)
    tree, square = linkage(apart, "ward"), squareform(apart**2 if distance == "cosine" else apart)
    order = leaves_list(tree)  # each cluster of each cut is a run of leaves
    square = square[np.ix_(order, order)]
    return [_mean_of_runs(square, fcluster(tree, k, "maxclust")[order], k) for k in counts]


def _mean_of_runs(square: NDArray[np.float64], labels: NDArray[np.integer], k: int) -> float:
    """Mean silhouette of clusters that are runs of equal labels (n,), by distances (n, n); -1 where they are not k.

    Sums over runs are several times as fast as scikit-learn's, which takes clusters in any order.
    """
    starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))
    if len(starts) < k:
        return -1.0
    sizes = np.diff(starts, append=len(labels))
    rows, own = np.arange(len(labels)), np.repeat(np.arange(k), sizes)
    between = np.add.reduceat(square, starts, axis=1)
    within = between[rows, own] / np.maximum(sizes[own] - 1, 1)
    between /= sizes
    between[rows, own] = np.inf
    nearest = between.min(axis=1)
    widest = np.maximum(within, nearest)
    silhouettes = np.where(sizes[own] > 1, nearest - within, 0) / np.where(widest > 0, widest, 1)
    return float(silhouettes.mean())


def _mean_silhouette(x: NDArray[np.floating], labels: NDArray[np.integer], k: int) -> float:
    """Mean silhouette of k clusters of points (n, d); -1 where repeated points leave fewer."""
    from sklearn.metrics import silhouette_score  # slow to import

    return float(silhouette_score(x, labels)) if len(np.unique(labels)) == k else -1.0


def _sample(x: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
    """At most 2,048 of the rows, in order."""
    if len(x) <= _SAMPLE:
        return x
    return x[np.sort(np.random.default_rng(seed).choice(len(x), _SAMPLE, replace=False))]


def _counts(items: int, most: int) -> list[int]:
    """Numbers of clusters to try for so many items: 2, 3, ... 20, above in steps of a tenth."""
    counts = [2] if items > 2 else []
    while counts and (following := counts[-1] + max(1, counts[-1] // 10)) < min(items, most + 1):
        counts.append(following)
    return counts
