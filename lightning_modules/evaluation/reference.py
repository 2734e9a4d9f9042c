"""Embeds the identities that refinements may learn from."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from datamodules.base import VoiceFaceDataModule
from datamodules.schema import MODALITIES, DataError
from datamodules.training_set import TrainingSet
from lightning_modules.evaluation.scorer import TrialScorer
from postproc.cells import ESTIMATES
from postproc.reference import Reference, join

PER_IDENTITY = 50
SMALL = 4_000_000  # numbers, 16 MB as float32


def small_reference(module: TrialScorer) -> bool:
    """Whether :func:`embed_reference` costs next to nothing: few clips, of feature files.

    Args:
        module: as there.
    """
    data = cast("VoiceFaceDataModule", cast(Any, module.trainer).datamodule)
    if data.unit_length is None:  # media
        return False
    try:
        parts = [data.reference_set(), data.held_out_set()]
    except DataError:  # a test has no need of training clips
        return False
    counts = [np.bincount(part.identity) for part in parts if part is not None]
    clips = sum(int(np.minimum(count, PER_IDENTITY).sum()) for count in counts)
    widths = sum(data.dims) + sum(int(x.shape[1]) for x in module.embeddings.values())
    return bool(clips * widths <= SMALL)


@torch.no_grad()
def embed_reference(module: TrialScorer, per_identity: int = PER_IDENTITY, seed: int = 0) -> Reference:
    """Embeds clips of training and validation identities, without augmentation, on one rank.

    Args:
        module: a model in a test or predict run whose evaluation has begun.
        per_identity: maximum number of clips of each identity.
        seed: of the random choice of clips.
    """
    data = cast("VoiceFaceDataModule", cast(Any, module.trainer).datamodule)
    parts = [_embed(module, data, data.reference_set(), True, per_identity, seed)]
    held_out = data.held_out_set()
    if held_out is not None:
        parts.append(_embed(module, data, held_out, False, per_identity, seed))
    return join(parts)


def _embed(
    module: TrialScorer,
    data: VoiceFaceDataModule,
    clips: TrainingSet,
    seen: bool,
    per_identity: int,
    seed: int,
) -> Reference:
    order = np.random.default_rng(seed).permutation(len(clips.identity))
    order = order[np.argsort(clips.identity[order], kind="stable")]
    first = np.searchsorted(clips.identity[order], np.arange(len(clips.identities)))
    chosen = np.sort(order[np.arange(len(order)) - first[clips.identity[order]] < per_identity])
    genders = data.identity_genders()
    identity = clips.identities[clips.identity[chosen]]
    gender = np.array([genders.get(name, "") for name in identity.tolist()], dtype=np.str_)
    spaces = []
    sources, rows_of = (clips.voices, clips.faces), (clips.voice_rows[chosen], clips.face_rows[chosen])
    for modality, source, rows, estimates in zip(MODALITIES, sources, rows_of, clips.attributes, strict=True):
        has_features = module.evaluation.items(modality).features is not None
        inputs, learnt = [], []
        for start in range(0, len(rows), data.eval_batch_size):
            x = source.read(rows[start : start + data.eval_batch_size])
            with module.trainer.precision_plugin.forward_context():
                learnt.append(module.embed(modality, x.to(module.device)).float().cpu().numpy())
            if has_features:
                inputs.append(x.numpy())
        of_side = {"model": np.concatenate(learnt)} | ({"input": np.concatenate(inputs)} if has_features else {})
        spaces.append(of_side | ({} if estimates is None else {ESTIMATES: estimates[chosen]}))
    known = np.full(len(chosen), seen)
    return Reference(spaces[0], spaces[1], identity, clips.language[chosen], gender, known)
