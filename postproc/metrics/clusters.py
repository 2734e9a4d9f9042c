"""How well the clusters of a refinement are genders and people: for W&B and the report, never for the refinement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from datamodules.schema import MODALITIES, EvaluationSet


def cluster_quality(evaluation: EvaluationSet, name: str, traces: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Purity and agreement of the clusters that the first clustering step of a cell made. Not from the papers.

    Args:
        evaluation: items with the genders and identities the clusters are compared with.
        name: of the cell.
        traces: of its refinement steps; ``assignment`` holds (gender, identity) clusters of the cell's items.

    Returns:
        ``<modality>_gender_purity``: share of items in the majority gender of their gender cluster;
        ``<modality>_identity_purity`` and ``_identity_ari`` (adjusted Rand index) for people; ``_clusters``: how many
        identity clusters. What is unknown is left out; empty where no step clustered.
    """
    assignment = next((trace["assignment"] for trace in traces if "assignment" in trace), None)
    found: dict[str, float] = {}
    if assignment is None:
        return found
    cell = evaluation.cells[name]
    for modality in MODALITIES:
        clusters = np.asarray(assignment[modality])
        items = evaluation.items(modality)
        rows = np.unique(cell.voice_index if modality == "voice" else cell.face_index)
        gender, person = items.gender[rows], items.identity[rows]
        identity_cluster = np.unique(clusters, axis=0, return_inverse=True)[1].ravel()
        found[f"{modality}_clusters"] = float(identity_cluster.max() + 1)
        if (gender != "").all():
            found[f"{modality}_gender_purity"] = purity(clusters[:, 0], gender)
        if (person != "").all():
            found[f"{modality}_identity_purity"] = purity(identity_cluster, person)
            found[f"{modality}_identity_ari"] = float(adjusted_rand_score(person, identity_cluster))
    return found


def purity(clusters: NDArray[Any], truth: NDArray[Any]) -> float:
    """Share of items (n,) that belong to the majority class of their cluster: 0..1."""
    rows, columns = (np.unique(x, return_inverse=True)[1] for x in (clusters, truth))
    table = np.zeros((rows.max() + 1, columns.max() + 1), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    return float(table.max(axis=1).sum() / len(truth))
