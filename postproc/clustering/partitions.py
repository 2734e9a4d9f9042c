"""Clusters of the voices and of the faces of a test condition, for several numbers of clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, embeddings
from postproc.clustering.kmeans import Backend, kmeans, resolve_backend
from postproc.clustering.linkage import cut_at
from postproc.clustering.number import estimate_identities
from postproc.clustering.threshold import Thresholds
from postproc.memory import Memory

_SHARES = (5 / 6, 1, 7 / 6, 4 / 3, 5 / 3, 2)  # times the number of identities: numbers of clusters to average over
Labels = dict[Modality, NDArray[np.int64]]


@dataclass(frozen=True)
class Clustering:
    """How voices and faces are clustered. Not from the papers.

    Attributes:
        space: ``input`` (encoder embeddings, which separate the identities of one modality best) or ``model`` (learnt).
            Without input embeddings, ``model`` is used and the trace says so.
        algorithm: ``kmeans``; ``threshold``: average linkage, cut at distances that training identities calibrate
            (:func:`postproc.clustering.threshold.calibrated_thresholds`), whatever the number of identities is; only in
            ``input``. Where nothing could be calibrated, k-means is used and the trace says why.
        ks: numbers of clusters; results are averaged over them. ``silhouette`` estimates the number of identities
            (:func:`postproc.clustering.number.estimate_identities`) and takes numbers around it, rather too many than
            too few: 5, 6, 7, 8, 10 and 12 for six identities. A k not below the number of items is left out.
        repeats: k-means partitions for each k, from different seeds; results are averaged over them, too. A single
            k-means depends on its seed; as many partitions averaged cost the same as the best of several starts.
        seed: of k-means.
        backend: of k-means.
        n_init: k-means starts.

    Raises:
        ValueError: an option out of range.
    """

    space: Literal["input", "model"] = "input"
    algorithm: Literal["kmeans", "threshold"] = "kmeans"
    ks: tuple[int, ...] | Literal["silhouette"] = "silhouette"
    repeats: int = 8
    seed: int = 0
    backend: Backend = "auto"
    n_init: int = 1

    def __post_init__(self) -> None:
        if self.space not in ("input", "model"):
            raise ValueError(f"clustering.space: {self.space!r} is neither 'input' nor 'model'")
        if self.algorithm not in ("kmeans", "threshold"):
            raise ValueError(f"clustering.algorithm: {self.algorithm!r} is neither 'kmeans' nor 'threshold'")
        if self.algorithm == "threshold" and self.space != "input":
            raise ValueError("clustering.space: 'model' has no thresholds: training identities lie too far apart in it")
        if self.ks != "silhouette" and (isinstance(self.ks, str) or not self.ks or min(self.ks) < 2):
            raise ValueError(
                f"clustering.ks: {self.ks!r} must be silhouette, or name numbers of clusters, each 2 or more"
            )
        if self.repeats < 1:
            raise ValueError(f"clustering.repeats: {self.repeats} partitions for each k; take 1 or more")
        if self.algorithm == "kmeans":
            resolve_backend(self.backend)  # report a missing GPU before the run, not after it

    def __call__(
        self,
        cell: ScoredCell,
        memory: Memory | None = None,
        thresholds: Mapping[Modality, Thresholds] | str = "not calibrated",
    ) -> tuple[list[Labels], dict[str, Any]]:
        """Clusters both modalities of a test condition.

        Args:
            cell: a scored cell.
            memory: keeps the partitions of equal embeddings; None = they are computed.
            thresholds: of ``algorithm: threshold``, or why there are none.

        Returns:
            For each usable k (and repeat), or threshold, the labels of voices (n,) and of faces (m,), 0..clusters-1,
            without gaps; and a trace.

        Raises:
            DegenerateInput: embeddings that cannot be clustered, or no usable k.
        """
        memory = Memory() if memory is None else memory
        if self.algorithm == "threshold":
            if all("input" in spaces for spaces in (cell.voices, cell.faces)) and not isinstance(thresholds, str):
                return self._at_thresholds(cell, memory, thresholds)
            why = thresholds if isinstance(thresholds, str) else "no input embeddings of both modalities"
            partitions, record = replace(self, algorithm="kmeans")(cell, memory)
            return partitions, record | {"threshold_fallback": f"k-means: {why}"}
        space = self.space
        if space == "input" and not all("input" in spaces for spaces in (cell.voices, cell.faces)):
            space = "model"
        points = embeddings(cell, space)
        smallest = min(len(points[m]) for m in MODALITIES)
        trace: dict[str, Any] = {"space": space}
        candidates = self.ks
        if candidates == "silhouette":
            estimate = trace["estimated_identities"] = estimate_identities(points, self.seed, memory)
            candidates = tuple(sorted({max(2, round(estimate * share)) for share in _SHARES}))
        ks = [k for k in candidates if k < smallest]
        if not ks:
            raise DegenerateInput(f"{smallest} voices or faces are too few for {min(candidates)} clusters or more")
        cuts = {m: self._cut(points[m], ks, m, memory) for m in MODALITIES}
        trace["ks"] = ks
        if space != self.space:
            trace["space_fallback"] = "no input embeddings of both modalities; clustered in model"
        if len(ks) < len(candidates):
            trace["ks_left_out"] = [k for k in candidates if k >= smallest]
        both = zip(cuts["voice"], cuts["face"], strict=True)
        return [{"voice": voice, "face": face} for voice, face in both], trace

    def _at_thresholds(
        self, cell: ScoredCell, memory: Memory, thresholds: Mapping[Modality, Thresholds]
    ) -> tuple[list[Labels], dict[str, Any]]:
        """The partitions at each threshold that leaves two clusters or more of both modalities."""
        points = embeddings(cell, "input")
        distances = {m: thresholds[m].distances for m in MODALITIES}
        cuts = {m: cut_centred(points[m], thresholds[m], distances[m], m, memory, self.seed) for m in MODALITIES}
        both: list[Labels] = [
            {"voice": voice, "face": face} for voice, face in zip(cuts["voice"], cuts["face"], strict=True)
        ]
        kept = [labels for labels in both if min(int(x.max()) for x in labels.values()) > 0]
        if not kept:
            raise DegenerateInput("all voices, or all faces, are one cluster at the calibrated threshold")
        counts = {m: [int(labels[m].max()) + 1 for labels in both] for m in MODALITIES}
        return kept, {
            "space": "input",
            "thresholds": {m: list(of) for m, of in distances.items()},
            "clusters": counts,
        }

    def _cut(
        self, x: NDArray[np.float64], ks: list[int], modality: Modality, memory: Memory
    ) -> list[NDArray[np.int64]]:
        """Labels (n,) of each partition of one modality."""
        if np.ptp(x, axis=0).max() <= 1e-12:
            raise DegenerateInput(f"all {len(x)} {modality}s have the same embedding")
        return memory.recall(f"{self} {ks}", [x], lambda: self._partitions(x, ks))

    def _partitions(self, x: NDArray[np.float64], ks: list[int]) -> list[NDArray[np.int64]]:
        options: dict[str, Any] = {"backend": self.backend, "n_init": self.n_init}
        seeds = [self.seed + repeat for repeat in range(self.repeats)]
        partitions = [kmeans(x, k, seed=seed, **options).labels for seed in seeds for k in ks]
        # repeated points leave clusters empty: number the others without gaps
        return [np.unique(labels, return_inverse=True)[1].astype(np.int64) for labels in partitions]


def cut_centred(
    x: NDArray[np.float64],
    thresholds: Thresholds,
    distances: Sequence[float],
    modality: Modality,
    memory: Memory,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Labels (n,) of the clusters of unit embeddings (n, d) at each distance, centred by the training identities.

    Raises:
        DegenerateInput: an embedding equals the mean of the training identities.
    """
    centred = thresholds.centred(x, modality)
    return memory.recall(f"cut at {distances} {seed}", [centred], lambda: cut_at(centred, distances, seed))
