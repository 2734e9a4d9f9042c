"""Regularised canonical correlation analysis from sufficient statistics, in float64. Not from the papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.schema import DataError


class PairStatistics:
    """What the closed form needs to know of the training clips; statistics of parts of the data add up.

    Inputs are scaled to unit length first. Everything is float64 on the CPU: a float32 sum over a large set would lose
    the small covariances between people that the method lives on.

    Args:
        num_identities: C.
        dims: widths (voice, face).
    """

    def __init__(self, num_identities: int, dims: tuple[int, int]) -> None:
        voice, face = dims
        self.count = torch.zeros(num_identities, dtype=torch.float64)  # (C,) clips
        self.voice_sum = torch.zeros(num_identities, voice, dtype=torch.float64)
        self.face_sum = torch.zeros(num_identities, face, dtype=torch.float64)
        self.voice_moment = torch.zeros(voice, voice, dtype=torch.float64)  # sum of x x' over clips
        self.face_moment = torch.zeros(face, face, dtype=torch.float64)

    def update(self, voice: Tensor, face: Tensor, identity: Tensor) -> None:
        """Adds clips: voice (B, dv), face (B, df), identity (B,)."""
        voice, face = (F.normalize(x.detach().to("cpu", torch.float64), dim=1) for x in (voice, face))
        identity = identity.cpu()
        self.count.index_add_(0, identity, torch.ones(len(identity), dtype=torch.float64))
        self.voice_sum.index_add_(0, identity, voice)
        self.face_sum.index_add_(0, identity, face)
        self.voice_moment.addmm_(voice.T, voice)
        self.face_moment.addmm_(face.T, face)

    def reduce(self, all_sum: Callable[[Tensor], Tensor]) -> None:
        """Replaces every statistic by its sum over ranks, which ``all_sum`` computes."""
        for name, value in vars(self).items():
            setattr(self, name, all_sum(value))


@dataclass(frozen=True)
class CCA:
    """A fitted model: a unit-length voice v maps to ``(v - voice_mean) @ voice_projection``, faces likewise.

    Attributes:
        voice_mean: (dv,) mean of the identity means.
        face_mean: (df,).
        voice_projection: (dv, k).
        face_projection: (df, k).
        correlations: (k,) singular values, descending.
    """

    voice_mean: Tensor
    face_mean: Tensor
    voice_projection: Tensor
    face_projection: Tensor
    correlations: Tensor


def regularised_cca(statistics: PairStatistics, shrinkage: float = 100.0, directions: int = 16) -> CCA:
    """Directions in which the mean voices and mean faces of identities vary together.

    With m the unweighted mean of the identity means (centring by the mean of all clips costs 1.5 points of EER):
    C = 1/N sum_i (a_i - m_v)(b_i - m_f)' over the N identity means; Cv, Cf = covariances of all clips about m;
    W = (C. + shrinkage * trace(C.)/d * I)^(-1/2); U S V' = svd(Wv C Wf); projections Wv U S^(1/2), Wf V S^(1/2), the
    first k.
    At a shrinkage of 100 and more this is partial least squares: it is what generalises to unseen people.

    Args:
        statistics: of all training clips, over all ranks.
        shrinkage: r.
        directions: k, at most min(dv, df).

    Raises:
        DataError: fewer than two identities with clips, or non-finite features.
    """
    seen = statistics.count > 0
    if int(seen.sum()) < 2:
        raise DataError(f"CCA needs clips of at least 2 identities, got {int(seen.sum())}; check the training list")
    count = statistics.count[seen, None]
    means, centres, whiteners = [], [], []
    for name, total, moment in (
        ("voice", statistics.voice_sum, statistics.voice_moment),
        ("face", statistics.face_sum, statistics.face_moment),
    ):
        if not torch.isfinite(moment).all():
            raise DataError(f"CCA: NaN or inf in the {name} features of the training clips; check the feature file")
        identity_means = total[seen] / count
        mean = identity_means.mean(dim=0)
        clip_mean = total.sum(dim=0) / count.sum()
        cross = torch.outer(clip_mean, mean)
        covariance = moment / count.sum() - cross - cross.T + torch.outer(mean, mean)
        means.append(mean)
        centres.append(identity_means - mean)
        whiteners.append(_inverse_root(covariance, shrinkage))
    cross_covariance = centres[0].T @ centres[1] / len(count)
    u, s, vt = torch.linalg.svd(whiteners[0] @ cross_covariance @ whiteners[1], full_matrices=False)
    u, s, v = u[:, :directions], s[:directions], vt[:directions].T
    # A pair of singular vectors is defined up to its sign: fix it, so that equal data give equal embeddings.
    sign = torch.sign(u.gather(0, u.abs().argmax(dim=0, keepdim=True)))
    root = s.sqrt() * sign
    return CCA(means[0], means[1], whiteners[0] @ u * root, whiteners[1] @ v * root, s)


def _inverse_root(covariance: Tensor, shrinkage: float) -> Tensor:
    """(covariance + shrinkage * mean variance * I)^(-1/2)."""
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    if values.sum() < 1e-12:  # of unit-length features: the total variance lies between 0 and 1
        raise DataError("CCA: all training clips have the same features; check the feature file")
    values = values + shrinkage * values.mean()
    # without shrinkage, directions in which nothing varies are left out instead of being blown up
    floor = values.max() * torch.finfo(torch.float64).eps * len(values)
    scale = torch.where(values > floor, values.clamp(min=floor).rsqrt(), 0.0)
    return vectors * scale @ vectors.T
