"""Regularised CCA of training clips: sums over batches, the solution, heads that start from it. Not from the papers.

The mathematics is in :mod:`postproc.cca`.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from datamodules.schema import MODALITIES, DataError
from datamodules.training_set import TrainingSet
from lightning_modules.networks.heads import HeadPair
from postproc.cca import Correlated, Moments, regularised_cca
from postproc.cells import DegenerateInput, unit

CLIPS_AT_ONCE = 1 << 14

PairMoments = tuple[Moments, Moments]


def no_moments(identities: int, dims: tuple[int, int]) -> PairMoments:
    """Sums over no clips, for voices and faces."""
    return Moments.zeros(identities, dims[0]), Moments.zeros(identities, dims[1])


def add_clips(moments: PairMoments, voice: Tensor, face: Tensor, identity: Tensor) -> None:
    """Adds clips: voice (B, dv) and face (B, df) of any length, identity (B,).

    The sums are float64: in float32, sums over a large set would lose the small covariances between identities.
    """
    index = identity.cpu().numpy()
    for of, x in zip(moments, (voice, face), strict=True):
        with np.errstate(invalid="ignore"):  # :func:`fit_cca` names features that are not finite
            of.add(unit(x.detach().to("cpu", torch.float64).numpy()), index)


def fit_cca(moments: PairMoments, shrinkage: float = 100.0, directions: int = 16) -> Correlated:
    """Solves :func:`postproc.cca.regularised_cca` for the training clips.

    Args:
        moments: sums over all training clips, on all ranks.
        shrinkage: weight of the identity matrix in the whitening, in units of the mean variance. At 100 and more this
            is close to partial least squares.
        directions: k, at most min(dv, df).

    Raises:
        DataError: fewer than two identities with clips, features that are not finite or all the same.
    """
    identities = int((moments[0].count > 0).sum())
    if identities < 2:
        raise DataError(f"CCA needs clips of at least 2 identities, got {identities}; check the training list")
    for modality, of in zip(MODALITIES, moments, strict=True):
        if not np.isfinite(of.moment).all():
            raise DataError(f"CCA: NaN or inf in the {modality} features of the training clips; check the feature file")
    try:
        (solution,) = regularised_cca(*moments, [shrinkage], directions)
    except DegenerateInput as reason:
        raise DataError("CCA: all training clips have the same features; check the feature file") from reason
    return solution


def start_fit_from_cca(module: LightningModule, network: nn.Module, shrinkage: float) -> None:
    """Starts a fit by :func:`start_from_cca`, equally on all ranks; a resumed fit keeps its weights.

    Args:
        module: the method, in ``on_fit_start``.
        network: its linear heads.
        shrinkage: see :func:`fit_cca`.
    """
    trainer = module.trainer
    if trainer.ckpt_path is None:
        start_from_cca(network, cast(Any, trainer).datamodule.reference_set(), shrinkage)
        for parameter in network.parameters():  # ranks on different machines may round differently
            parameter.data.copy_(trainer.strategy.broadcast(parameter.data))


@torch.no_grad()
def start_from_cca(network: nn.Module, train: TrainingSet, shrinkage: float) -> None:
    """Writes the solution of :func:`fit_cca` into linear heads, scaled so that identity means have mean length 1.

    Args:
        network: linear heads, ``HeadPair`` without hidden layers; as many directions as it has outputs.
        train: clips with features of unit length.
        shrinkage: see :func:`fit_cca`.

    Raises:
        DataError: another network, more outputs than directions, or features that are not of unit length.
    """
    if not isinstance(network, HeadPair) or not network.linear:
        raise DataError("model.cca_start is for linear heads: network HeadPair without hidden layers")
    layers = cast(tuple[nn.Linear, nn.Linear], (network.voice_branch[-1], network.face_branch[-1]))
    dims = layers[0].in_features, layers[1].in_features
    if network.embedding_dim > min(dims):
        raise DataError(
            f"model.cca_start: CCA of {dims} features has {min(dims)} directions, not the {network.embedding_dim} of "
            "model.network.embedding_dim"
        )
    moments = no_moments(len(train.identities), dims)
    identity = torch.from_numpy(train.identity)
    for first in range(0, len(identity), CLIPS_AT_ONCE):
        clips = slice(first, first + CLIPS_AT_ONCE)
        voices, faces = train.voices.read(train.voice_rows[clips]), train.faces.read(train.face_rows[clips])
        for x, name in ((voices, "voice"), (faces, "face")):
            length = x.norm(dim=1)
            if not torch.isclose(length, torch.ones(()), atol=1e-3).logical_or(length == 0).all():
                raise DataError(f"model.cca_start: the {name} features are not of unit length; set data.normalise true")
        add_clips(moments, voices, faces, identity[clips])
    solution = fit_cca(moments, shrinkage, network.embedding_dim)
    for layer, of, mean, projection in zip(layers, moments, solution.means, solution.projections, strict=True):
        seen = of.count > 0
        identities = (of.total[seen] / of.count[seen, None] - mean) @ projection
        scaled = projection / np.linalg.norm(identities, axis=1).mean()
        layer.weight.copy_(torch.from_numpy(scaled.T))
        layer.bias.copy_(torch.from_numpy(-mean @ scaled))
