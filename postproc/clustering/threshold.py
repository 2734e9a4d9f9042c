"""Clusters at distances that are calibrated on training identities. Not from the papers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality
from postproc.cells import DegenerateInput, checked, unit
from postproc.clustering.kmeans import cluster_means
from postproc.memory import Memory
from postproc.reference import Reference

PURITIES = (0.99, 0.98, 0.96, 0.94)
"""Share of clips that lie in a cluster of their own identity, at each threshold: clusters are split rather too much."""

FINE = (0.7, 0.85, 1.0)
"""Shares of the second threshold at which clusters are cut for :attr:`Thresholds.same`."""

_DISTANCES = np.arange(0.2, 1.1, 0.025)  # thresholds that are tried
_DRAWS, _ITEMS = 32, 600  # draws of training identities; clips in a draw at most
_FEWEST, _MOST, _CLIPS = 4, 64, 40  # identities of a draw; clips of one identity
_FEWEST_PAIRS = 20  # pairs of clusters of one identity that a level needs


@dataclass(frozen=True, eq=False)
class Level:
    """A cut into fine clusters, and the chance that two of them are of one identity.

    Attributes:
        distance: largest mean cosine distance within a cluster.
        weights: of the log-odds: offset, cosine of the means, spread (see :func:`_features`), their product.
    """

    distance: float
    weights: NDArray[np.float64]

    def log_odds(self, means: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log-likelihood ratio (a, a) of one identity against two, of clusters with means (a, d) and sizes (a,)."""
        odds: NDArray[np.float64] = self.weights[0] + _features(means, sizes) @ self.weights[1:]
        return odds


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Of one modality.

    Attributes:
        mean: (d,) mean of the identities' mean embeddings, subtracted before anything is compared: cosines of
            uncentred embeddings tell identities apart less well.
        distances: the largest cosine distance that reaches each of :data:`PURITIES`.
        same: levels of :data:`FINE`; empty where no training identity has two clusters.
    """

    mean: NDArray[np.float64]
    distances: tuple[float, ...]
    same: tuple[Level, ...]

    def centred(self, x: NDArray[np.float64], what: str) -> NDArray[np.float64]:
        """Unit embeddings (n, d), centred and scaled to unit length again.

        Raises:
            DegenerateInput: an embedding equals the mean.
        """
        return checked(x - self.mean, what, "centred")


def calibrated_thresholds(reference: Reference, seed: int, memory: Memory) -> dict[Modality, Thresholds]:
    """The largest cosine distances at which average linkage keeps identities apart, by modality.

    Draws of 4 to 64 training identities with 1 to 40 clips each, numbers that a test condition may have, are linked.
    The purity of clusters is averaged over the draws, for each distance; the thresholds are the largest distances that
    reach :data:`PURITIES`. A logistic regression learns when two fine clusters of a draw are of one identity. Encoders
    have not seen the identities, so nothing needs to be held out. Identities with a single clip show how far apart two
    identities are, which is all that purity asks.

    Args:
        reference: clips of training identities, with ``input`` embeddings.
        seed: of the draws.
        memory: keeps the thresholds of equal references.

    Raises:
        DegenerateInput: no ``input`` embeddings, fewer than 4 identities, or an embedding that is zero.
    """
    if not all("input" in spaces for spaces in (reference.voices, reference.faces)):
        raise DegenerateInput("thresholds need encoder embeddings of training identities")
    names, identity = np.unique(reference.identity, return_inverse=True)
    if len(names) < _FEWEST:
        raise DegenerateInput(f"{len(names)} training identities are too few for thresholds; give {_FEWEST}")
    found: dict[Modality, Thresholds] = {}
    for modality, spaces in zip(MODALITIES, (reference.voices, reference.faces), strict=True):
        x = checked(spaces["input"], f"{modality}", "input")
        mean = cluster_means(cluster_means(x, identity), np.zeros(len(names), dtype=np.int64))[0]
        centred = checked(x - mean, f"{modality}", "centred")

        def calibrate(x: NDArray[np.float64] = centred) -> list[NDArray[np.float64]]:
            return _calibrate(x, identity, seed)

        distances, *levels = memory.recall(f"thresholds {PURITIES} {FINE} {seed}", [x, identity], calibrate)
        same = tuple(Level(float(level[0]), level[1:]) for level in levels)
        found[modality] = Thresholds(mean, tuple(distances.tolist()), same)
    return found


def _draws(identity: NDArray[np.int64], rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Rows of some clips of some identities; how many of either is random, on a logarithmic scale."""
    rows_of = np.split(np.argsort(identity, kind="stable"), np.cumsum(np.bincount(identity))[:-1])
    for _ in range(_DRAWS):
        people = round(np.exp(rng.uniform(np.log(_FEWEST), np.log(min(_MOST, len(rows_of))))))
        clips = max(min(round(np.exp(rng.uniform(0, np.log(_CLIPS)))), _ITEMS // people), 1)
        chosen = rng.choice(len(rows_of), people, replace=False)
        yield np.concatenate([rng.choice(rows_of[c], min(clips, len(rows_of[c])), replace=False) for c in chosen])


def _calibrate(x: NDArray[np.float64], identity: NDArray[np.int64], seed: int) -> list[NDArray[np.float64]]:
    """Distances at each purity, then a row (distance, weights) for each fine level."""
    from scipy.cluster.hierarchy import fcluster, linkage  # slow to import

    drawn = []
    for rows in _draws(identity, np.random.default_rng(seed)):
        tree = linkage(x[rows], "average", metric="cosine")
        drawn.append((rows, [fcluster(tree, distance, "distance") - 1 for distance in _DISTANCES]))
    purity = np.mean([[_purity(labels, identity[rows]) for labels in cuts] for rows, cuts in drawn], axis=0)
    curve = np.minimum.accumulate(purity)  # a larger distance joins more
    chosen = [max(int((curve >= least).sum()) - 1, 0) for least in PURITIES]
    levels = []
    for share in FINE:
        at = int(np.abs(_DISTANCES - share * _DISTANCES[chosen[1]]).argmin())
        weights = _same_identity([(x[rows], cuts[at], identity[rows]) for rows, cuts in drawn])
        if weights is not None:
            levels.append(np.array([_DISTANCES[at], *weights]))
    return [_DISTANCES[chosen], *(levels if len(levels) == len(FINE) else [])]


def _same_identity(
    drawn: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]],
) -> NDArray[np.float64] | None:
    """Weights (4,) of the log-odds that two clusters are of one identity; None: too few such pairs.

    In each draw the pairs of one identity and those of two weigh alike: the odds are a likelihood ratio.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    features, same, weights = [], [], []
    for x, labels, identity in drawn:
        sizes = np.bincount(labels)
        owner = owners_of(labels, identity)
        i, j = np.triu_indices(len(sizes), 1)
        equal = owner[i] == owner[j]
        if 0 < equal.sum() < len(equal):
            features.append(_features(cluster_means(x, labels), sizes)[i, j])
            same.append(equal)
            weights.append(np.where(equal, 1 / equal.sum(), 1 / (~equal).sum()))
    if sum(int(equal.sum()) for equal in same) < _FEWEST_PAIRS:
        return None
    weight = np.concatenate(weights)
    model = LogisticRegression(C=100, max_iter=1000)
    model.fit(np.concatenate(features), np.concatenate(same), sample_weight=weight / weight.mean())
    return np.array([model.intercept_[0], *model.coef_[0]])


def _features(means: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each pair of clusters (a, a, 3): cosine of their means, spread, and both multiplied.

    The spread is the standard deviation of the difference of two means, in units of that of a clip: means of few clips
    lie far apart by chance.
    """
    direction = unit(means)
    cosine, spread = direction @ direction.T, np.sqrt(1 / sizes[:, None] + 1 / sizes)
    return np.stack([cosine, spread, cosine * spread], axis=-1)


def owners_of(labels: NDArray[np.int64], identity: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most frequent identity (a,) of each cluster."""
    owners: NDArray[np.int64] = _table(labels, identity).argmax(axis=1)
    return owners


def _purity(labels: NDArray[np.int64], identity: NDArray[np.int64]) -> float:
    """Chance that two clips drawn from one cluster, the first from all clips, are of one identity."""
    table = _table(labels, identity)
    return float((table**2 / table.sum(axis=1, keepdims=True)).sum() / len(labels))


def _table(labels: NDArray[np.int64], identity: NDArray[np.int64]) -> NDArray[np.float64]:
    """Clips (clusters, identities) by cluster and identity."""
    table = np.zeros((labels.max() + 1, identity.max() + 1))
    np.add.at(table, (labels, identity), 1)
    return table
