"""First chain of [SCC] Algorithm 1: gender clusters of voices and of faces, tied to each other."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import Embeddings, unit
from postproc.clustering.kmeans import Clusters
from postproc.steps.gender import Genders

GENDERS = (0, 1)  # of k-means clusters, which of the two is male is neither known nor needed
Alignment = Literal["centroids", "scores", "probe"]
Labels = dict[Modality, NDArray[np.int64]]


def probed_clusters(cell: ScoredCell, points: Embeddings, probes: Genders) -> dict[Modality, Clusters]:
    """Gender clusters by probes of training identities; cluster 1 is male in both modalities. Not from the paper.

    Raises:
        DegenerateInput: there are no probes, or they assign all voices or all faces to one gender.
    """
    clusters: dict[Modality, Clusters] = {}
    for m, labels in probes.labels(cell).items():
        centres = means(points[m], labels, 2)
        distances = np.linalg.norm(points[m] - centres[labels], axis=1)
        clusters[m] = Clusters(centres, labels, distances, float((distances**2).sum()))
    return clusters


def alignment_gap(alignment: Alignment, labels: Labels, cell: ScoredCell, learnt: Embeddings, probes: Genders) -> float:
    """How much better voice clusters 0, 1 fit face clusters 0, 1 than 1, 0; negative = worse. OPEN in the paper.

    No rule looks at the listed pairs, since what happens to a pair must not depend on which others are listed.

    Args:
        alignment: ``centroids``: the sum of the cosines of tied centroids; ``scores``: the mean cosine of all pairs of
            a voice and a face, within tied clusters minus across; ``probe``: the sum, over tied clusters, of the
            probability that they have the same gender, by probes of training identities.
        labels: cluster, 0 or 1, of each voice and each face.
        cell: a scored cell, read by the probes.
        learnt: embeddings in which voices and faces can be compared.
        probes: of training identities; read by ``probe`` alone.

    Raises:
        DegenerateInput: ``probe`` without probes.
    """
    if alignment == "probe":
        p, q = ([male[labels[m] == g].mean() for g in GENDERS] for m, male in probes(cell).items())
        same = np.array([[a * b + (1 - a) * (1 - b) for b in q] for a in p])
        return _straight_minus_crossed(same)
    if alignment == "centroids":
        centres = {m: unit(means(learnt[m], labels[m], 2)) for m in MODALITIES}
        return _straight_minus_crossed(centres["voice"] @ centres["face"].T)
    averages = {m: means(unit(learnt[m]), labels[m], 2) for m in MODALITIES}
    cosine = averages["voice"] @ averages["face"].T  # mean cosine of all pairs of each block
    voices, faces = (np.bincount(labels[m], minlength=2) for m in MODALITIES)
    pairs = np.outer(voices, faces)
    within, across = (float((cosine * pairs * part).sum() / (pairs * part).sum()) for part in (_STRAIGHT, _CROSSED))
    return within - across


def tie(
    labels: Labels, cell: ScoredCell, initial: NDArray[np.float64], gap: float, straight: bool
) -> tuple[Labels, dict[str, Any]]:
    """Gender labels that both modalities share, and the trace of how they were tied.

    The mean listed distance within and across genders is traced as a check; it decides nothing.

    Args:
        labels: cluster, 0 or 1, of each voice and each face.
        cell: a scored cell.
        initial: (t,) distances of its trials.
        gap: :func:`alignment_gap`.
        straight: whether voice clusters 0, 1 belong to face clusters 0, 1 rather than 1, 0.
    """
    shared: Labels = {"voice": labels["voice"], "face": labels["face"] if straight else 1 - labels["face"]}
    same = shared["voice"][cell.voice_index] == shared["face"][cell.face_index]
    within, across = (_mean(initial[part]) if part.any() else None for part in (same, ~same))
    return shared, {
        "face_of_voice": [0, 1] if straight else [1, 0],
        "centroid_cosine_gap": abs(gap),
        "mean_distance_within": within,
        "mean_distance_across": across,
        "agrees_with_scores": None if within is None or across is None else within < across,
    }


def means(x: NDArray[np.float64], labels: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Mean (k, d) of each cluster's rows; every cluster has some."""
    return np.stack([x[labels == c].mean(axis=0) for c in range(k)])


_STRAIGHT, _CROSSED = np.eye(2), 1 - np.eye(2)


def _straight_minus_crossed(blocks: NDArray[np.float64]) -> float:
    return float(np.trace(blocks) - np.trace(blocks[:, ::-1]))


def _mean(x: NDArray[np.float64]) -> float:
    """The mean, without overflow on the way."""
    return float((x / len(x)).sum())
