"""How many people a cell's voices and faces are of. Not from the papers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES
from postproc.cells import DegenerateInput, Embeddings, unit
from postproc.clustering.kmeans import Backend, kmeans

_SAMPLE = 2048  # items of a modality that are looked at: all pairs of them are compared
_FEWEST, _MOST = 6, 512  # items that tell anything; people looked for
# A silhouette this much below the best is as good. Of 60 draws of six V1 training people one was counted as 11 without
# it and none above 8 with it; for 4 to 24 people the error of the logarithm is the same, .12 in the mean. Looked for
# after one cell of the dev folds had been counted as 15.
_TIE = 0.01
_SETS = 4096  # of embeddings whose count is remembered
_remembered: dict[str, int] = {}


def estimate_identities(points: Embeddings, seed: int = 0) -> int:
    """The number of clusters that suits the voices and the faces of a cell best, both being of the same people.

    Each modality is linked to Ward's tree, the tree cut into 2, 3, ... clusters, and each cut judged by the mean
    silhouette of cosine distances. The two silhouettes are added up: faces alone may count every session as a person.
    The smallest number that suits about as well as the best is taken.
    Draws of V1 training people (40 of each size; ECAPA, FaceNet; as many clips as in the scrambled lists) were counted

    =======  ===  ===  ====  ====  ====  ====
    people     4    6    10    16    24    40
    mean     4.0  6.2   9.8  16.1  24.2  40.0
    lowest     3    5     8    14    19    33
    highest    5    7    12    19    28    50
    =======  ===  ===  ====  ====  ====  ====

    Args:
        points: voices (n, dv) and faces (m, df) of the encoders, which tell people apart best. Of more than 2,048 a
            random sample is looked at.
        seed: of the sample.

    Returns:
        2 or more; every number up to 20, above in steps of a tenth up to 512.

    Raises:
        DegenerateInput: fewer than 6 voices or faces.
    """
    fewest = min(len(points[m]) for m in MODALITIES)
    if fewest < _FEWEST:
        raise DegenerateInput(f"{fewest} voices or faces do not tell how many people they are of; give {_FEWEST}")
    looked_at = [_sample(points[m], seed) for m in MODALITIES]
    # encoder embeddings of the same lists come again: for other steps, other fits, other train languages
    key = str([(x.shape, hashlib.sha256(x.tobytes()).hexdigest()) for x in looked_at])
    if key not in _remembered:
        if len(_remembered) >= _SETS:
            _remembered.clear()
        counts = _counts(min(fewest, _SAMPLE))
        together = np.sum([_silhouettes(x, counts) for x in looked_at], axis=0)
        _remembered[key] = counts[int(np.argmax(together >= together.max() - _TIE))]
    return _remembered[key]


def _silhouettes(x: NDArray[np.float64], counts: list[int]) -> list[float]:
    """Mean silhouette of each cut of Ward's tree; -1 where repeated points leave fewer clusters than asked for."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist, squareform
    from sklearn.metrics import silhouette_score

    apart = pdist(unit(x))
    tree, cosine = linkage(apart, "ward"), squareform(apart**2)
    found = []
    for count in counts:
        labels = fcluster(tree, count, "maxclust")
        full = labels.max() == count
        found.append(float(silhouette_score(cosine, labels, metric="precomputed")) if full else -1.0)
    return found


def _sample(x: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    if len(x) <= _SAMPLE:
        return x
    return x[np.sort(np.random.default_rng(seed).choice(len(x), _SAMPLE, replace=False))]


def _counts(items: int) -> list[int]:
    """Numbers of people to try for so many items."""
    found = [2]
    while (following := found[-1] + max(1, found[-1] // 10)) < min(items, _MOST + 1):
        found.append(following)
    return found


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
