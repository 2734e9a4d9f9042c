"""Linear heads that start from a closed form: regularised CCA of the training clips. Not from the papers."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from datamodules.schema import DataError
from datamodules.training_set import TrainingSet
from lightning_modules.closed_form import PairStatistics, regularised_cca
from lightning_modules.networks.heads import HeadPair

CLIPS_AT_ONCE = 1 << 14


@torch.no_grad()
def start_from_cca(network: nn.Module, train: TrainingSet, shrinkage: float) -> None:
    """Writes the solution of :func:`regularised_cca` into both branches, each scaled to a mean length of 1 over people.

    Args:
        network: linear heads, ``HeadPair`` without hidden layers; as many directions as it has outputs.
        train: clips with features of unit length.
        shrinkage: r.

    Raises:
        DataError: another network, more outputs than directions, or features that are not of unit length.
    """
    if not isinstance(network, HeadPair) or not network.linear:
        raise DataError("model.cca_start: is for linear heads, HeadPair without hidden layers")
    layers = cast(tuple[nn.Linear, nn.Linear], (network.voice_branch[-1], network.face_branch[-1]))
    dims = layers[0].in_features, layers[1].in_features
    if network.embedding_dim > min(dims):
        raise DataError(
            f"model.cca_start: CCA of {dims} features has {min(dims)} directions, not the {network.embedding_dim} of "
            "model.network.embedding_dim"
        )
    statistics = PairStatistics(len(train.identities), dims)
    identity = torch.from_numpy(train.identity)
    for first in range(0, len(identity), CLIPS_AT_ONCE):
        clips = slice(first, first + CLIPS_AT_ONCE)
        voices, faces = train.voices.read(train.voice_rows[clips]), train.faces.read(train.face_rows[clips])
        for x, name in ((voices, "voice"), (faces, "face")):
            length = x.norm(dim=1)
            if not torch.isclose(length, torch.ones(()), atol=1e-3).logical_or(length == 0).all():
                raise DataError(f"model.cca_start: the {name} features are not of unit length; set data.normalise true")
        statistics.update(voices, faces, identity[clips])
    found = regularised_cca(statistics, shrinkage, network.embedding_dim)
    seen = statistics.count > 0
    for layer, total, mean, projection in (
        (layers[0], statistics.voice_sum, found.voice_mean, found.voice_projection),
        (layers[1], statistics.face_sum, found.face_mean, found.face_projection),
    ):
        people = (total[seen] / statistics.count[seen, None] - mean) @ projection
        projection = projection / people.norm(dim=1).mean()
        layer.weight.copy_(projection.T)
        layer.bias.copy_(-mean @ projection)
