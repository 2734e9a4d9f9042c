"""Cuts what a refinement may see of one cell out of an evaluation set; nothing else gets through."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, EvaluationSet, Modality, ScoredCell


def scored_cell(
    evaluation: EvaluationSet,
    name: str,
    distances: NDArray[np.float64],
    embeddings: Mapping[Modality, NDArray[np.floating]],
) -> ScoredCell:
    """Scores and embeddings of a cell's own unique items, in the order of the items.

    Args:
        evaluation: all cells and items.
        name: of the cell.
        distances: (t,) initial distances of its trials, lower = same person.
        embeddings: learnt embeddings (n, d) of all items of the set, by modality.
    """
    cell = evaluation.cells[name]
    spaces: dict[Modality, dict[str, NDArray[np.floating]]] = {}
    local: dict[Modality, NDArray[np.int64]] = {}
    for modality, index in zip(MODALITIES, (cell.voice_index, cell.face_index), strict=True):
        rows, local[modality] = np.unique(index, return_inverse=True)
        spaces[modality] = {"model": embeddings[modality][rows]}
        features = evaluation.items(modality).features
        if features is not None:
            spaces[modality]["input"] = features[rows]
    return ScoredCell(distances, local["voice"], local["face"], spaces["voice"], spaces["face"])
