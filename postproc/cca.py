"""Regularised canonical correlation analysis of two modalities. Not from the papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postproc.cells import DegenerateInput, unit

Array = NDArray[np.float64]
WIDTHS = (2, 4, 8, 16, 32)  # of a scorer that generalises: see :func:`nested`


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the unit-length clips of one modality, from which CCA is solved; sums of parts of the data add up.

    Attributes:
        count: (C,) clips of each identity; identities without clips are ignored.
        total: (C, d) sums of the clips of each identity.
        moment: (d, d) sum of x x' over all clips.
    """

    count: Array
    total: Array
    moment: Array

    @classmethod
    def zeros(cls, identities: int, width: int) -> Moments:
        """Sums over no clips, for C identities and d features."""
        return cls(np.zeros(identities), np.zeros((identities, width)), np.zeros((width, width)))

    @classmethod
    def of(cls, x: Array, identity: NDArray[np.str_] | NDArray[np.int64]) -> Moments:
        """Those of unit-length clips x (n, d), identity (n,)."""
        identities, index = np.unique(identity, return_inverse=True)
        moments = cls.zeros(len(identities), x.shape[1])
        moments.add(x, index)
        return moments

    def add(self, x: Array, identity: NDArray[np.int64]) -> None:
        """Adds unit-length clips x (n, d) of the identities with these indices (n,)."""
        np.add.at(self.count, identity, 1)
        np.add.at(self.total, identity, x)
        np.add(self.moment, x.T @ x, out=self.moment)


@dataclass(frozen=True, eq=False)
class Correlated:
    """The solution: unit-length clips x of modality m map to ``(x - means[m]) @ projections[m]``, voices first.

    Attributes:
        means: (dv,) and (df,), means of the identities' means.
        projections: (dv, k) and (df, k).
        correlations: (k,) singular values, descending.
    """

    means: tuple[Array, Array]
    projections: tuple[Array, Array]
    correlations: Array


def regularised_cca(
    voices: Moments, faces: Moments, shrinkages: Sequence[float], directions: int
) -> Iterator[Correlated]:
    """Directions in which the mean voices and mean faces of identities vary together.

    With m the unweighted mean of the identities' means: C = 1/N sum_i (a_i - m_v)(b_i - m_f)' over N identities;
    Cv, Cf = covariances of all clips about m; W = (C. + shrinkage * trace(C.)/d * I)^(-1/2); U S V' = svd(Wv C Wf);
    projections Wv U S^(1/2), Wf V S^(1/2), the first k. Several shrinkages share the eigenvectors of Cv and Cf.

    Args:
        voices: of all clips; the same identities as ``faces``, two or more.
        faces: of all clips.
        shrinkages: one solution each, in this order.
        directions: k, at most min(dv, df).

    Raises:
        DegenerateInput: all clips of a modality are the same.
    """
    means, centred, spectra = [], [], []
    for of in (voices, faces):
        seen = of.count > 0
        identity_means = of.total[seen] / of.count[seen, None]
        mean, clip_mean = identity_means.mean(axis=0), of.total.sum(axis=0) / of.count.sum()
        cross = np.outer(clip_mean, mean)
        covariance = of.moment / of.count.sum() - cross - cross.T + np.outer(mean, mean)
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        if values.sum() < 1e-12:  # of unit-length clips: the total variance lies between 0 and 1
            raise DegenerateInput("all clips of training identities have the same embedding")
        means.append(mean)
        centred.append(identity_means - mean)
        spectra.append((values, vectors))
    together = centred[0].T @ centred[1] / len(centred[0])
    for shrinkage in shrinkages:
        roots = [_inverse_root(*spectrum, shrinkage) for spectrum in spectra]
        u, s, vt = np.linalg.svd(roots[0] @ together @ roots[1], full_matrices=False)
        u, s, v = u[:, :directions], s[:directions], vt[:directions].T
        # A pair of singular vectors is defined up to its sign: fix it, so that equal data give equal embeddings.
        scale = np.sqrt(s) * np.sign(np.take_along_axis(u, abs(u).argmax(axis=0)[None], axis=0))
        yield Correlated((means[0], means[1]), (roots[0] @ u * scale, roots[1] @ v * scale), s)


def nested(x: Array, widths: Sequence[int]) -> Array:
    """Embeddings whose cosine is the mean of the cosines of the first k directions, for several k.

    The first directions separate most (gender above all) and are estimated best. The later ones separate identities of
    one gender and are estimated poorly, so no single k weighs them well.

    Args:
        x: (n, d) projections, most correlated directions first.
        widths: numbers of directions, each at most d; a single one gives plain cosines.

    Returns:
        (n, sum of widths), rows of unit length.
    """
    embeddings: Array = np.concatenate([unit(x[:, :k]) for k in widths], axis=1) / np.sqrt(len(widths))
    return embeddings


def _inverse_root(values: Array, vectors: Array, shrinkage: float) -> Array:
    """(covariance + shrinkage * mean variance * I)^(-1/2) from the spectrum of the covariance."""
    values = values + shrinkage * values.mean()
    # without shrinkage, directions in which nothing varies are left out instead of being blown up
    floor = values.max() * np.finfo(np.float64).eps * len(values)
    scale = np.where(values > floor, 1 / np.sqrt(np.maximum(values, floor)), 0.0)
    return np.asarray(vectors * scale @ vectors.T)
