"""Quality of clusters against true genders and identities, for loggers and reports; no refinement uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from datamodules.schema import MODALITIES, EvaluationSet


def cluster_quality(clusters: ArrayLike, identity: ArrayLike) -> dict[str, float]:
    """Agreement of clusters with identities; all values are 1 for perfect clusters.

    Example:
        >>> cluster_quality([0, 0, 1, 1], ["a", "a", "b", "b"])
        {'nmi': 1.0, 'ari': 1.0, 'purity': 1.0}

    Args:
        clusters: (n,) cluster of each item.
        identity: (n,) identity of each item.

    Returns:
        ``nmi`` (normalised mutual information), ``ari`` (adjusted Rand index) and :func:`purity`.
    """
    return {
        "nmi": float(normalized_mutual_info_score(identity, clusters)),
        "ari": float(adjusted_rand_score(identity, clusters)),
        "purity": purity(clusters, identity),
    }


def refinement_cluster_quality(
    evaluation: EvaluationSet, name: str, traces: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Quality of the clusters of the first clustering step of a test condition. Not from the papers.

    Args:
        evaluation: items with true genders and identities.
        name: of the test condition.
        traces: of its refinement steps; ``assignment`` holds (gender, identity) clusters of its items.

    Returns:
        ``<modality>_gender_purity``; ``<modality>_identity_purity`` and ``_identity_ari`` (adjusted Rand index);
        ``<modality>_clusters``: number of identity clusters. What is unknown is left out; empty without clusters.
    """
    assignment = next((trace["assignment"] for trace in traces if "assignment" in trace), None)
    quality: dict[str, float] = {}
    if assignment is None:
        return quality
    cell = evaluation.cells[name]
    for modality in MODALITIES:
        clusters = np.asarray(assignment[modality])
        items = evaluation.items(modality)
        rows = np.unique(cell.voice_index if modality == "voice" else cell.face_index)
        gender, identity = items.gender[rows], items.identity[rows]
        identity_cluster = np.unique(clusters, axis=0, return_inverse=True)[1].ravel()
        quality[f"{modality}_clusters"] = float(identity_cluster.max() + 1)
        if (gender != "").all():
            quality[f"{modality}_gender_purity"] = purity(clusters[:, 0], gender)
        if (identity != "").all():
            agreement = cluster_quality(identity_cluster, identity)
            quality[f"{modality}_identity_purity"] = agreement["purity"]
            quality[f"{modality}_identity_ari"] = agreement["ari"]
    return quality


def purity(clusters: ArrayLike, truth: ArrayLike) -> float:
    """Share of items (n,) that belong to the majority class of their cluster: 0..1.

    Example:
        >>> purity([0, 0, 0, 1], ["a", "a", "b", "b"])
        0.75
    """
    rows, columns = (np.unique(x, return_inverse=True)[1] for x in (clusters, truth))
    table = np.zeros((rows.max() + 1, columns.max() + 1), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    return float(table.max(axis=1).sum() / len(rows))
