"""Compares the scale of a model's inputs with the one that its batch normalisation has learnt from."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from datamodules.base import VoiceFaceDataModule
from datamodules.schema import MODALITIES, Modality, Stage
from lightning_modules.evaluation.scorer import TrialScorer

ITEMS = 256  # of each modality that are looked at
FEWEST = 8  # items whose variance says something
FACTOR = 20.0  # between variances; with other or few identities 2 to 4, with another length hundreds and more
SETTLED = 30  # training steps after which the statistics of a model trained here say more than its start


def warn_of_other_scale(module: TrialScorer, data: VoiceFaceDataModule, stage: Stage | Literal["fit"]) -> None:
    """Warns if the inputs of a stage do not fit the weights: raw embeddings for weights of unit ones, or the reverse.

    The outputs of the first layer vary much more, or much less, than its batch normalisation has noted in training.

    Args:
        module: the model, with the weights that are about to be used.
        data: a data module; nothing is compared where it reads media, whose scale is fixed.
        stage: whose inputs are compared.
    """
    if data.unit_length is None or not any(map(_has_statistics, module.modules())):
        return
    for modality in MODALITIES:
        ratio = variance_ratio(module, modality, _sample(data, stage, modality))
        if not 1 / FACTOR <= ratio <= FACTOR:
            rank_zero_warn(
                f"the {modality}s do not fit the weights: outputs of the first layer vary {ratio:.2g} times as much as "
                f"in training; if the weights were trained on {'raw' if data.unit_length else 'unit-length'} "
                f"embeddings, set data.normalise to {str(not data.unit_length).lower()}, else check the encoder"
            )


@torch.no_grad()
def variance_ratio(module: TrialScorer, modality: Modality, x: Tensor) -> float:
    """Variance of what the first batch normalisation gets, as a multiple of its running variance (median of units).

    Args:
        module: the model; unchanged.
        modality: of the inputs.
        x: (n, d) inputs.

    Returns:
        1.0 where nothing can be said: no batch normalisation, statistics that have not settled, or too few items.
    """
    norms = [part for part in module.modules() if _has_statistics(part)]
    seen: list[tuple[Any, Tensor]] = []
    hooks = [part.register_forward_pre_hook(lambda norm, given: seen.append((norm, given[0]))) for part in norms]
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        precision = module.trainer.precision_plugin
        with precision.forward_context():
            module.embed(modality, precision.convert_input(x.to(module.device)))
    finally:
        for hook in hooks:
            hook.remove()
        for part in training:
            part.training = True
    if not seen or len(x) < FEWEST:
        return 1.0
    norm, outputs = seen[0]
    steps = int(norm.num_batches_tracked)
    if 0 < steps < SETTLED:
        return 1.0
    expected = outputs.float().var(dim=0)
    if steps and norm.momentum is not None:  # what is left of the 1 that running variances start from
        expected = expected.lerp(torch.ones_like(expected), (1 - norm.momentum) ** steps)
    return float((expected / norm.running_var.clamp(min=norm.eps)).median())


def _has_statistics(part: Any) -> bool:
    """Whether a module is a batch normalisation that has noted statistics."""
    if not isinstance(part, _BatchNorm) or part.running_mean is None or part.running_var is None:
        return False
    return bool((part.running_mean != 0).any() or (part.running_var != 1).any())


def _sample(data: VoiceFaceDataModule, stage: Stage | Literal["fit"], modality: Modality) -> Tensor:
    """Up to :data:`ITEMS` items from all over the inputs of a stage."""
    if stage == "fit":
        train = data.training_set()
        voice = modality == "voice"
        source, rows = (train.voices, train.voice_rows) if voice else (train.faces, train.face_rows)
    else:
        source, rows = (
            data.evaluation_source(stage, modality),
            np.arange(len(data.evaluation_set(stage).items(modality))),
        )
    chosen = np.linspace(0, len(rows) - 1, min(ITEMS, len(rows))).astype(np.int64)
    return source.read(rows[chosen])
