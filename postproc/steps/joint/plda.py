"""Spherical probabilistic LDA: how clips of one identity resemble each other. Not from the papers.

After centring and scaling to unit length, a clip is ``identity + noise``. Both are normal and have the same variance in
all directions (Prince and Elder, ICCV 2007, with two variances only). A few dozen training identities are too few to
estimate whole covariance matrices: those separated unseen identities worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postproc.cells import DegenerateInput, checked

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plda:
    """Variances of the clips of one modality.

    Attributes:
        mean: (d,) mean of the identities' means.
        within: variance of a clip about its identity, summed over all directions.
        ratio: variance between identities, divided by ``within``.
    """

    mean: Array
    within: float
    ratio: float

    def __call__(self, x: Array, what: str) -> Array:
        """Centres unit embeddings (n, d) and scales them to unit length again.

        Raises:
            DegenerateInput: an embedding equals the mean.
        """
        return checked(x - self.mean, what, "centred")


def fit_plda(x: Array, identity: NDArray[np.str_], what: str) -> Plda:
    """Estimates the two variances by the method of moments; every identity has the same weight.

    Args:
        x: (n, d) unit embeddings.
        identity: (n,) identity of each.
        what: the modality, for messages.

    Raises:
        DegenerateInput: fewer than three identities, no identity with two different clips, or identities that do not
            differ.
    """
    names, code, count = np.unique(identity, return_inverse=True, return_counts=True)
    if len(names) < 3 or count.max() < 2:
        raise DegenerateInput(
            f"{len(names)} training identities with {len(x)} clips are too few to estimate variances; "
            "PLDA needs 3 identities, and one of them with 2 clips"
        )
    mean = _means(x, code, count).mean(axis=0)
    points = checked(x - mean, what, "centred")
    means = _means(points, code, count)
    repeated = count > 1  # an identity with a single clip has no variance within
    squares = np.bincount(code, ((points - means[code]) ** 2).sum(axis=1))
    within = float((squares[repeated] / (count[repeated] - 1)).mean())
    between = float((means**2).sum(axis=1).mean()) - within * float((1 / count).mean())
    if not (within > 1e-9 and between > 1e-9):
        raise DegenerateInput(f"the {what}s of training identities are all alike, or vary only within identities")
    return Plda(mean, within, between / within)


def log_evidence(square: Array, count: Array, ratio: float, width: int) -> Array:
    """Log p(clips | one identity) - log p(clips | the mean identity), integrated over the identity's position.

    Args:
        square: squared length of the sum of the clips, in units of the variance within per direction.
        count: number of clips. Scale it and the sum of clips by the same factor where clips are not independent.
        ratio: variance between identities, divided by that within.
        width: number of directions.
    """
    precision = 1 + count * ratio
    evidence: Array = 0.5 * (ratio * square / precision - width * np.log(precision))
    return evidence


def _means(x: Array, code: NDArray[np.int64], count: NDArray[np.int64]) -> Array:
    sums = np.zeros((len(count), x.shape[1]))
    np.add.at(sums, code, x)
    return sums / count[:, None]
