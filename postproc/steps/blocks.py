"""Block averaging: a pair is as similar as its voice cluster is to its face cluster. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import Modality, ScoredCell
from postproc.cells import DegenerateInput, Embeddings, initial_distances, shared_space
from postproc.clustering.kmeans import cluster_means
from postproc.clustering.partitions import Clustering, Labels
from postproc.clustering.threshold import Thresholds, calibrated_thresholds
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, unchanged


class Clustered(Refinement):
    """A step on clusters of voices and of faces, whose distance thresholds may come from training identities.

    Args:
        clustering: of voices and faces; None = :class:`Clustering` with its defaults.
    """

    def __init__(self, clustering: Clustering | None = None) -> None:
        self.clustering = clustering or Clustering()
        self._thresholds: dict[Modality, Thresholds] | str = "no reference identities were given"

    @property
    def needs_reference(self) -> bool:
        return self.clustering.algorithm == "threshold"

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        if not self.needs_reference:
            return
        try:
            self._thresholds = calibrated_thresholds(reference, self.clustering.seed, self.memory)
        except DegenerateInput as reason:
            self._thresholds = str(reason)

    def clusters(self, cell: ScoredCell) -> tuple[list[Labels], dict[str, Any]]:
        """Partitions and trace of a test condition, as :meth:`Clustering.__call__`."""
        return self.clustering(cell, self.memory, self._thresholds)


class BlockAverage(Clustered):
    """Replaces a distance by minus the mean centred similarity of its voice cluster x face cluster block.

    Averaging over a cluster removes what differs between the clips of one identity. Transductive. The mean over a block
    is the dot product of the two cluster means, so the cost is linear in items and trials. A distance depends on the
    voices and faces of the test condition, not on which pairs are listed.

    Args:
        clustering: of voices and faces; None = :class:`Clustering` with its defaults.

    Example:
        Four identities, and initial distances that are random.

        >>> import numpy as np
        >>> from postproc import BlockAverage, Clustering, ScoredCell
        >>> rng, identity = np.random.default_rng(0), np.repeat(np.arange(4), 10)
        >>> clips = np.eye(4)[identity]
        >>> voices, faces = (clips + 0.1 * rng.normal(size=clips.shape) for _ in range(2))
        >>> voice, face = (index.ravel() for index in np.mgrid[:40, :40])
        >>> cell = ScoredCell(rng.uniform(size=1600), voice, face, voices, faces)
        >>> refined = BlockAverage(Clustering(ks=(4,), space="model", backend="cpu"))(cell)
        >>> same = identity[voice] == identity[face]
        >>> bool(refined.distances[same].max() < refined.distances[~same].min())
        True
    """

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition; the trace holds ``ks``, ``space`` and ``spread`` of the similarities by k."""
        try:
            initial_distances(cell)
            learnt = comparable(shared_space(cell))
            partitions, trace = self.clusters(cell)
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))
        total = np.zeros(len(cell.distances))
        spreads = []
        for labels in partitions:
            blocks = block_similarity(learnt, labels)
            spreads.append(float(blocks.std()))
            total -= blocks[labels["voice"][cell.voice_index], labels["face"][cell.face_index]]
        return Refined(total / len(partitions), trace | {"spread": spreads})


def block_similarity(learnt: Embeddings, labels: Labels) -> NDArray[np.float64]:
    """Mean similarity (voice clusters, face clusters) of the pairs of each block, centred by row and by column.

    Centring removes what a cluster has in common with everything. Each cluster has the same weight, whatever its size.
    """
    blocks = cluster_means(learnt["voice"], labels["voice"]) @ cluster_means(learnt["face"], labels["face"]).T
    centred: NDArray[np.float64] = blocks - blocks.mean(axis=0) - blocks.mean(axis=1, keepdims=True) + blocks.mean()
    return centred


def comparable(learnt: Embeddings) -> Embeddings:
    """The same unit embeddings, checked.

    Raises:
        DegenerateInput: all pairs are equally similar.
    """
    if not similarity_spread(learnt) > 1e-9:
        raise DegenerateInput("all voice-face pairs are equally similar")
    return learnt


def similarity_spread(x: Embeddings) -> float:
    """Standard deviation of the dot products of all pairs, without forming them."""
    voices, faces = x["voice"], x["face"]
    mean = voices.mean(axis=0) @ faces.mean(axis=0)
    square = np.sum((voices.T @ voices / len(voices)) * (faces.T @ faces / len(faces)))
    return float(np.sqrt(max(square - mean**2, 0.0)))
