"""The identities of each side of a test condition, estimated without labels. Not from the papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, embeddings, shared_space
from postproc.clustering.partitions import Labels
from postproc.clustering.threshold import FINE, Thresholds
from postproc.memory import Memory
from postproc.steps.blocks import block_similarity
from postproc.steps.matching.describe import side

APART = 0.3  # doubted where the numbers of identities differ by more; of equal sides they often differ by 0.2
FEW = 3.0  # items of an identity, below which a cluster averages next to nothing
_LIKE = 0.2  # fraction of the items by which clusters of the same sizes may differ
_UNLIKE = 0.2  # standard deviation of cluster sizes over their mean, below which sizes cannot tell identities apart


@dataclass(frozen=True, eq=False)
class Sides:
    """Voices and faces of a test condition.

    Attributes:
        identities: estimated number, by modality; not a whole number, since clusters are joined by probability.
        clusters: (n,) cluster of each item, by modality: those that are more probably of one identity than not.
        similarity: (a, b) centred mean similarity of voice and face clusters in the learnt space.
    """

    identities: dict[Modality, float]
    clusters: Labels
    similarity: NDArray[np.float64]

    @property
    def sizes(self) -> dict[Modality, NDArray[np.int64]]:
        """Items (a,) of each cluster, by modality."""
        return {m: np.bincount(labels) for m, labels in self.clusters.items()}

    def pairs(self) -> list[tuple[int, int]]:
        """Voice and face clusters of which each is the most similar to the other."""
        face, voice = self.similarity.argmax(axis=1), self.similarity.argmax(axis=0)
        return [(a, int(b)) for a, b in enumerate(face) if voice[b] == a]

    def matched(self) -> float:
        """Fraction of the items that are in clusters of such pairs."""
        rows = zip(*self.pairs(), strict=True)
        found = sum(int(self.sizes[m][list(of)].sum()) for m, of in zip(MODALITIES, rows, strict=True))
        return found / sum(len(labels) for labels in self.clusters.values())

    def doubts(self) -> dict[str, str]:
        """Why the assumption of the same identities on both sides, with several clips each, looks wrong, by kind."""
        voices, faces = (self.identities[m] for m in MODALITIES)
        items = {m: len(labels) for m, labels in self.clusters.items()}
        found = {}
        if min(voices, faces) < (1 - APART) * max(voices, faces):
            found["identities"] = f"about {voices:.0f} identities among the voices, {faces:.0f} among the faces"
        if (fewest := min(items[m] / self.identities[m] for m in MODALITIES)) < FEW:
            found["clips"] = f"about {fewest:.1f} clips of an identity on one side"
        if self._same_sizes():
            found["sizes"] = "as many voices as faces, in clusters of like sizes, which may tell who is who"
        return found

    def _same_sizes(self) -> bool:
        """Whether both sides have clusters of the same sizes, which differ from each other."""
        voices, faces = (np.sort(self.sizes[m])[::-1] for m in MODALITIES)
        if voices.sum() != faces.sum() or voices.std() < _UNLIKE * voices.mean():
            return False
        longest = max(len(voices), len(faces))
        voices, faces = (np.pad(sizes, (0, longest - len(sizes))) for sizes in (voices, faces))
        return bool(np.abs(voices - faces).sum() <= _LIKE * voices.sum())


def estimate_sides(cell: ScoredCell, thresholds: Mapping[Modality, Thresholds], memory: Memory, seed: int) -> Sides:
    """Clusters each modality at the coarsest calibrated distance and joins clusters that are probably of one identity.

    Args:
        cell: a scored cell with ``input`` embeddings.
        thresholds: by modality, with levels.
        memory: keeps clusters of equal embeddings.
        seed: of clusters of very many items.

    Raises:
        DegenerateInput: embeddings that cannot be clustered.
    """
    from scipy.sparse.csgraph import connected_components  # slow to import

    points, learnt = embeddings(cell, "input"), shared_space(cell)
    if not all(thresholds[m].same for m in MODALITIES):
        raise DegenerateInput("too few training identities have several clips")
    found = {m: side(points[m], thresholds[m], len(FINE) - 1, m, memory, seed) for m in MODALITIES}
    clusters: Labels = {
        m: connected_components(of.same > 0.5)[1].astype(np.int64)[of.labels] for m, of in found.items()
    }
    identities = {m: float(of.share.sum()) for m, of in found.items()}
    return Sides(identities, clusters, block_similarity(learnt, clusters))
