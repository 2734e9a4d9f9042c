"""K-means on faiss (GPU or CPU) or scikit-learn; the only file that imports faiss.

All backends start from the same k-means++ seeds and end with the same float64 assignment, so they agree on the
partition up to rounding. It depends only on the seed, not on the number of threads. Many points cost little more than
a sample of them: the starts and the elbow use at most a few thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch  # before faiss: both bring an OpenMP runtime, and torch must load its own first
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

import faiss  # isort: skip

Backend = Literal["auto", "gpu", "cpu", "sklearn"]

_CHUNK = 1 << 14  # points assigned at once
_SAMPLE, _SAMPLE_PER_CLUSTER = 1 << 13, 64  # starts of larger sets are tried on so many points
_POLISH = 10  # Lloyd iterations on all points, from the best start on the sample
_ELBOW_EXACT, _ELBOW_SAMPLE = 1 << 11, 1 << 12  # up to this many points an elbow tries every start; a sample above
_ONE_THREAD = 1 << 23  # values of points up to which one thread does
_ELBOW_ITER = 8  # Lloyd iterations for each number of clusters, from the centres of the number before


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of points.

    Attributes:
        centres: (k, d) float64, means of their points. A centre without points (identical points) is finite, too.
        labels: (n,) int64 cluster of each point.
        distances: (n,) float64 L2 distance, not squared, of each point to its centre.
        inertia: sum of squared distances.
    """

    centres: NDArray[np.float64]
    labels: NDArray[np.int64]
    distances: NDArray[np.float64]
    inertia: float

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(k,) points of each cluster; 0 where there are fewer distinct points than clusters."""
        return np.bincount(self.labels, minlength=len(self.centres))


def kmeans(
    x: NDArray[np.floating], k: int, *, seed: int, backend: Backend = "auto", n_init: int = 10, n_iter: int = 50
) -> Clusters:
    """Clusters points; the best of ``n_init`` starts.

    Of more than 16,384 points (or 128 per cluster) the starts see a random half or less, and the best one is finished
    on all.

    Args:
        x: (n, d) finite points.
        k: number of clusters, 1..n.
        seed: of the k-means++ starts.
        backend: ``auto`` takes a GPU where there is one, else faiss on the CPU; ``gpu`` insists on one; ``sklearn``.
        n_init: starts; the one with the least inertia wins.
        n_iter: Lloyd iterations of each start.

    Raises:
        ValueError: wrong shape, non-finite points, k out of range, unknown backend, or ``gpu`` without a GPU.

    Example:
        >>> import numpy as np
        >>> clusters = kmeans(np.array([[0.0], [1.0], [10.0], [11.0], [12.0]]), 2, seed=0, backend="cpu")
        >>> sorted(clusters.centres.ravel().round(6).tolist()), sorted(clusters.sizes.tolist())
        ([0.5, 11.0], [2, 3])
    """
    x = np.asarray(x)
    _check(x, [k], n_init, n_iter)
    backend = resolve_backend(backend)

    points, mean, scale = _standardise(x)
    size = max(_SAMPLE, _SAMPLE_PER_CLUSTER * k)
    if len(points) <= 2 * size:
        with _few_threads(points):
            best = _best_start(points, _starts(points, [k], seed, n_init)[k], backend, n_iter)
    else:
        sample = points[_rows(len(points), size, seed)]
        with _few_threads(sample):
            of_sample = _best_start(sample, _starts(sample, [k], seed, n_init)[k], backend, n_iter)
        centres = of_sample.centres.astype(np.float32)
        best = _settle(points, lloyd(points, centres, backend, min(n_iter, _POLISH)))
    return Clusters(best.centres * scale + mean, best.labels, best.distances * scale, best.inertia * scale**2)


def elbow(
    x: NDArray[np.floating],
    ks: Sequence[int],
    *,
    seed: int,
    backend: Backend = "auto",
    n_init: int = 10,
    n_iter: int = 50,
    rule: Literal["drop", "knee"] = "drop",
) -> tuple[int, dict[int, float]]:
    """The number of clusters at the elbow of the curve of total L2 distances ([SCC] 3.2, Fig. 2).

    ``drop``, as published: the k after the largest drop. The drop of a k is the total distance (not squared) of the k
    tried before it minus its own, so the first of ``ks`` only serves as a reference and is never chosen. The curve
    always flattens as k grows, so the rule favours the low end: ``ks`` must start near the expected number of
    identities, as the paper says. Of 20 compact identities it finds 2, or by the seed another small number.

    ``knee``, not from the paper: the k whose point is farthest below the line through the first and the last point
    (Satopaa et al., 2011), the first k of equals. It uses the whole curve, so that one drop decides nothing; ``ks``
    must reach beyond the number of identities.

    Of more than 2,048 points the curve is that of a sample of 4,096, scaled to all, and each k starts from the centres
    of the k before and new k-means++ ones; ``n_init`` does not count then. So the cost does not grow with n.

    Args:
        x: (n, d) finite points.
        ks: at least two increasing numbers of clusters, none above n.
        seed: of the k-means starts.
        backend: as :func:`kmeans`.
        n_init: as :func:`kmeans`.
        n_iter: as :func:`kmeans`.
        rule: ``drop`` or ``knee``.

    Returns:
        The chosen k, and the total distance by k.

    Raises:
        ValueError: as :func:`kmeans`, or ``ks`` that do not increase.
    """
    if len(ks) < 2 or any(b <= a for a, b in pairwise(ks)):
        raise ValueError(f"ks: {list(ks)} must be at least two increasing numbers of clusters")
    x = np.asarray(x)
    if len(x) > _ELBOW_EXACT and x.ndim == 2 and ks[0] >= 1 and ks[-1] <= len(x):
        curve = _sampled_curve(x, ks, seed, backend, min(n_iter, _ELBOW_ITER))
    else:
        curve = _exact_curve(x, ks, seed, backend, n_init, n_iter)
    totals = np.array([curve[k] for k in ks])
    if rule == "drop":
        heights = totals[:-1] - totals[1:]
    else:
        line = np.interp(ks, (ks[0], ks[-1]), (totals[0], totals[-1]))
        heights = (line - totals)[1:]
    return ks[int(np.argmax(heights)) + 1], curve


def resolve_backend(backend: Backend) -> Backend:
    """``auto`` -> ``gpu`` or ``cpu``; any other as it is.

    Raises:
        ValueError: an unknown backend, or ``gpu`` where faiss sees no GPU.
    """
    if backend not in ("auto", "gpu", "cpu", "sklearn"):
        raise ValueError(f"backend: {backend!r} is none of auto, gpu, cpu, sklearn")
    built_for_gpu = hasattr(faiss, "StandardGpuResources")
    gpu = built_for_gpu and torch.cuda.is_available() and faiss.get_num_gpus() > 0
    if backend == "gpu" and not gpu:
        why = "no CUDA device is visible" if built_for_gpu else "the installed faiss is the CPU build (faiss-cpu)"
        raise ValueError(f"backend: gpu, but {why}; set backend: auto or cpu")
    if backend == "auto":
        return "gpu" if gpu else "cpu"
    return backend


def _check(x: NDArray[np.floating], ks: Sequence[int], n_init: int, n_iter: int) -> None:
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"x: k-means needs points (n, d), got {x.shape}")
    for k in ks:
        if not 1 <= k <= len(x):
            raise ValueError(f"k: {k} clusters of {len(x)} points; take 1 to {len(x)}")
    _check_finite(x)
    if n_init < 1 or n_iter < 1:
        raise ValueError(f"n_init: {n_init} starts of n_iter: {n_iter} iterations; both must be positive")


def _check_finite(x: NDArray[np.floating]) -> None:
    for start in range(0, len(x), _CHUNK):
        finite = np.isfinite(x[start : start + _CHUNK]).all(axis=1)
        if not finite.all():
            raise ValueError(f"x: point {start + int(np.argmin(finite))} is not finite; check the embeddings")


def _standardise(x: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float64], float]:
    """Centred points of unit size in float32, their mean and scale; k-means commutes with shifts and scalings.

    Raises:
        ValueError: points too large to average, or not finite.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    parts = [slice(start, start + _CHUNK) for start in range(0, len(x), _CHUNK)]  # no float64 copy of everything
    scale = max(float(np.abs(x[part] - mean).max()) for part in parts) or 1.0
    if not np.isfinite(scale):
        raise ValueError("x: points are too large to average; normalise the embeddings")
    points = np.empty(x.shape, dtype=np.float32)
    for part in parts:
        points[part] = (x[part] - mean) / scale
    return points, mean, scale


@contextmanager
def _few_threads(points: NDArray[np.float32]) -> Iterator[None]:
    """One thread for small problems: on a busy machine, threads that wait for each other cost more than they give."""
    if points.size > _ONE_THREAD:
        yield
        return
    with _threads().limit(limits=1):
        yield


@lru_cache(maxsize=1)
def _threads() -> ThreadpoolController:
    return ThreadpoolController()  # looks at every loaded library: once


def _rows(n: int, size: int, seed: int) -> NDArray[np.int64]:
    """A random ``size`` of n rows, in order."""
    return np.sort(np.random.default_rng(seed).choice(n, min(n, size), replace=False))


def _starts(points: NDArray[np.float32], ks: Sequence[int], seed: int, n_init: int) -> dict[int, list[list[int]]]:
    """K-means++ rows of ``n_init`` starts for each number of clusters; one start for one cluster."""
    # fewer rows are the first of more, so those of the largest k of as many candidates serve the others
    largest = {_candidates(k): k for k in sorted(ks)}
    seeds = np.random.SeedSequence(seed).spawn(n_init)
    rows = {
        candidates: [plus_plus(points, k, np.random.default_rng(start)) for start in seeds[: n_init if k > 1 else 1]]
        for candidates, k in largest.items()
    }
    return {k: [start[:k] for start in rows[_candidates(k)][: n_init if k > 1 else 1]] for k in ks}


def _best_start(points: NDArray[np.float32], starts: Sequence[list[int]], backend: Backend, n_iter: int) -> Clusters:
    """The partition of least inertia over some starts."""
    best: Clusters | None = None
    for rows in starts:
        clusters = _settle(points, lloyd(points, points[rows], backend, n_iter))
        if best is None or clusters.inertia < best.inertia:
            best = clusters
    assert best is not None
    return best


def _exact_curve(
    x: NDArray[np.floating], ks: Sequence[int], seed: int, backend: Backend, n_init: int, n_iter: int
) -> dict[int, float]:
    """Total L2 distance by k of what :func:`kmeans` finds."""
    _check(x, ks, n_init, n_iter)
    backend = resolve_backend(backend)
    points, _, scale = _standardise(x)
    with _few_threads(points):
        starts = _starts(points, ks, seed, n_init)
        return {k: float((_best_start(points, starts[k], backend, n_iter).distances * scale).sum()) for k in ks}


def _sampled_curve(
    x: NDArray[np.floating], ks: Sequence[int], seed: int, backend: Backend, n_iter: int
) -> dict[int, float]:
    """Total L2 distance by k of a sample, scaled to all points, each k starts from the centres of the one before."""
    _check_finite(x)
    size = max(_ELBOW_SAMPLE, _SAMPLE_PER_CLUSTER * ks[-1])
    points, _, scale = _standardise(x[_rows(len(x), size, seed)])
    backend, rng = resolve_backend(backend), np.random.default_rng(seed)
    centres = np.empty((0, points.shape[1]), dtype=np.float32)
    norms = np.einsum("nd,nd->n", points, points)
    nearest: NDArray[np.float32] | None = None
    curve = {}
    for k in ks:
        with _few_threads(points):
            new = points[plus_plus(points, k - len(centres), rng, nearest)]
            centres = lloyd(points, np.concatenate([centres, new]), backend, n_iter)
        nearest = (norms[:, None] + np.einsum("kd,kd->k", centres, centres) - 2 * (points @ centres.T)).min(axis=1)
        nearest = np.maximum(nearest, 0)
        curve[k] = float(np.sqrt(nearest).sum(dtype=np.float64)) * scale * len(x) / len(points)
    return curve


def lloyd(
    points: NDArray[np.float32], centres: NDArray[np.float32], backend: Backend, n_iter: int
) -> NDArray[np.float32]:
    """Centres (k, d) after ``n_iter`` iterations of Lloyd's on all ``points`` (n, d), from ``centres``."""
    k, d = centres.shape
    if backend == "sklearn":
        from sklearn.cluster import KMeans

        model = KMeans(k, init=centres, n_init=1, max_iter=n_iter)
        return np.asarray(model.fit(points).cluster_centers_, dtype=np.float32)
    parameters = faiss.ClusteringParameters()
    parameters.niter, parameters.nredo = n_iter, 1
    parameters.min_points_per_centroid = 1
    parameters.max_points_per_centroid = len(points)  # faiss would drop points above 256 per cluster, silently
    clustering = faiss.Clustering(d, k, parameters)
    faiss.copy_array_to_vector(np.ascontiguousarray(centres).ravel(), clustering.centroids)
    index: faiss.Index = faiss.IndexFlatL2(d)
    if backend == "gpu":  # one GPU, torch's own; faiss.Kmeans(gpu=1) would take all of them
        resources = faiss.StandardGpuResources()
        index = faiss.index_cpu_to_gpu(resources, torch.cuda.current_device(), index)
    clustering.train(points, index)
    return faiss.vector_to_array(clustering.centroids).reshape(k, d)


def _settle(points: NDArray[np.float32], centres: NDArray[np.float32]) -> Clusters:
    """One more step in float64: assign to the nearest centre, move centres to their means, measure."""
    centres64 = centres.astype(np.float64)
    labels = np.empty(len(points), dtype=np.int64)
    half_norms = 0.5 * np.einsum("kd,kd->k", centres64, centres64)
    for start in range(0, len(points), _CHUNK):
        part = points[start : start + _CHUNK].astype(np.float64)
        labels[start : start + _CHUNK] = np.argmin(half_norms - part @ centres64.T, axis=1)
    counts = np.bincount(labels, minlength=len(centres))
    order = np.argsort(labels, kind="stable")
    for cluster, members in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        if len(members):
            centres64[cluster] = points[members].mean(axis=0, dtype=np.float64)
    distances = np.empty(len(points))
    for start in range(0, len(points), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distances[rows] = np.linalg.norm(points[rows] - centres64[labels[rows]], axis=1)
    return Clusters(centres64, labels, distances, float(np.square(distances).sum()))


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
    candidates = _candidates(k)
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


def _candidates(k: int) -> int:
    return 2 + int(np.log(k))


def _squared(
    points: NDArray[np.float32], norms: NDArray[np.float32], rows: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float32]:
    """Squared distances (n, len(rows)) of all points to some of them, exactly 0 to themselves."""
    squared = norms[:, None] + norms[rows] - 2 * (points @ points[rows].T)
    squared[rows, np.arange(len(rows))] = 0
    return np.maximum(squared, 0)


def cluster_means(x: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean (k, d) of the rows of each cluster; no cluster may be empty."""
    sums = np.zeros((int(labels.max()) + 1, x.shape[1]))
    np.add.at(sums, labels, x)
    return sums / np.bincount(labels)[:, None]
