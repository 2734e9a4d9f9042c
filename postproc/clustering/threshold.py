"""Distances at which clusters of one identity end, calibrated on training identities. Not from the papers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality
from postproc.cells import DegenerateInput, checked
from postproc.clustering.linkage import cut_at
from postproc.memory import Memory
from postproc.reference import Reference

PURITIES = (0.99, 0.98, 0.96, 0.94)
"""Share of clips that lie in a cluster of their own identity, at each threshold: clusters are split rather too much."""

_DISTANCES = np.arange(0.1, 0.9, 0.025)  # thresholds that are tried
_DRAWS, _ITEMS = 16, 600  # draws of training identities; clips in a draw at most
_FEWEST, _MOST, _CLIPS = 4, 64, 32  # identities of a draw; clips of one identity
Thresholds = dict[Modality, list[float]]


def calibrated_thresholds(reference: Reference, seed: int, memory: Memory) -> Thresholds:
    """The largest cosine distances at which average linkage keeps identities apart, by modality.

    Draws of 4 to 64 training identities with 1 to 32 clips each, numbers that a test condition may have, are linked.
    The purity of clusters is averaged over the draws, for each distance; the thresholds are the largest distances that
    reach :data:`PURITIES`. Encoders have not seen the identities, so nothing needs to be held out. Identities with a
    single clip show how far apart two identities are, which is all that purity asks.

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
    found: Thresholds = {}
    for modality, spaces in zip(MODALITIES, (reference.voices, reference.faces), strict=True):
        x = checked(spaces["input"], f"{modality}", "input")

        def calibrate(x: NDArray[np.float64] = x) -> list[NDArray[np.float64]]:
            return [_calibrate(x, identity, seed)]

        found[modality] = memory.recall(f"thresholds {PURITIES} {seed}", [x, identity], calibrate)[0].tolist()
    return found


def _calibrate(x: NDArray[np.float64], identity: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    rows_of = np.split(np.argsort(identity, kind="stable"), np.cumsum(np.bincount(identity))[:-1])
    purity = np.zeros(len(_DISTANCES))
    for _ in range(_DRAWS):
        people = round(np.exp(rng.uniform(np.log(_FEWEST), np.log(min(_MOST, len(rows_of))))))
        clips = min(round(np.exp(rng.uniform(0, np.log(_CLIPS)))), _ITEMS // people)
        chosen = rng.choice(len(rows_of), people, replace=False)
        rows = np.concatenate([rng.choice(rows_of[c], min(clips, len(rows_of[c])), replace=False) for c in chosen])
        purity += [_purity(labels, identity[rows]) for labels in cut_at(x[rows], _DISTANCES.tolist(), seed)]
    curve = np.minimum.accumulate(purity / _DRAWS)  # a larger distance joins more
    return np.array([_DISTANCES[max(int((curve >= least).sum()) - 1, 0)] for least in PURITIES])


def _purity(labels: NDArray[np.int64], identity: NDArray[np.int64]) -> float:
    """Chance that two clips drawn from one cluster, the first from all clips, are of one identity."""
    table = np.zeros((labels.max() + 1, identity.max() + 1))
    np.add.at(table, (labels, identity), 1)
    return float((table**2 / table.sum(axis=1, keepdims=True)).sum() / len(labels))
