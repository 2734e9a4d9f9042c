"""Clusters of the voices and of the faces of a cell, for several numbers of clusters."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, Embeddings, embeddings
from postproc.clustering.kmeans import Backend, kmeans, resolve_backend
from postproc.clustering.number import estimate_identities

LARGEST_TREE = 20_000  # items Ward's tree takes: it needs all n^2 / 2 distances, 1.6 GB here
_SETS, _ITEMS = 128, 5_000  # partitions of so many sets of embeddings of at most so many items are remembered: 250 MB
_SHARES = (5 / 6, 1, 7 / 6, 4 / 3, 5 / 3, 2)  # of the number of people: numbers of clusters that are averaged
Labels = dict[Modality, NDArray[np.int64]]
_remembered: OrderedDict[tuple[str, str], list[NDArray[np.int64]]] = OrderedDict()


@dataclass(frozen=True)
class Clustering:
    """How voices and faces are clustered. Not from the papers.

    Attributes:
        space: ``input`` (of the encoders, which tell people of one modality apart best) or ``model`` (learnt). Cells
            without input embeddings are clustered in ``model``, and the trace says so.
        algorithm: ``kmeans``, or ``ward``: one tree, cut for every k, up to 20,000 items.
        ks: numbers of clusters; results are averaged over them. ``silhouette`` counts the people of the cell
            (:func:`postproc.clustering.number.estimate_identities`) and takes numbers around theirs, rather too many than too few:
            5, 6, 7, 8, 10 and 12 for six people. Of given ones, one above the number of distinct items is left out.
        repeats: k-means partitions for each k, from different seeds; results are averaged over them, too. One k-means
            of several starts moves an EER by 1.6 points with its seed; as many partitions averaged cost the same.
        seed: of k-means.
        backend: of k-means.
        n_init: k-means starts.

    Raises:
        ValueError: an option out of range.
    """

    space: Literal["input", "model"] = "input"
    algorithm: Literal["kmeans", "ward"] = "kmeans"
    ks: tuple[int, ...] | Literal["silhouette"] = "silhouette"
    repeats: int = 8
    seed: int = 0
    backend: Backend = "auto"
    n_init: int = 1

    def __post_init__(self) -> None:
        if self.space not in ("input", "model"):
            raise ValueError(f"clustering.space: {self.space!r} is neither 'input' nor 'model'")
        if self.algorithm not in ("ward", "kmeans"):
            raise ValueError(f"clustering.algorithm: {self.algorithm!r} is neither 'ward' nor 'kmeans'")
        if self.ks != "silhouette" and (isinstance(self.ks, str) or not self.ks or min(self.ks) < 2):
            raise ValueError(
                f"clustering.ks: {self.ks!r} must be silhouette, or name numbers of clusters, each 2 or more"
            )
        if self.repeats < 1:
            raise ValueError(f"clustering.repeats: {self.repeats} partitions for each k; take 1 or more")
        if self.algorithm == "kmeans":
            resolve_backend(self.backend)  # a GPU that is not there shows before the run, not after it

    def __call__(self, cell: ScoredCell) -> tuple[list[Labels], dict[str, Any]]:
        """Clusters both modalities of a cell.

        Returns:
            For each usable k (and repeat) the labels of voices (n,) and of faces (m,), 0..clusters-1, no cluster empty;
            and a trace.

        Raises:
            DegenerateInput: embeddings that cannot be clustered, or no usable k.
        """
        space = self.space
        if space == "input" and not all("input" in spaces for spaces in (cell.voices, cell.faces)):
            space = "model"
        points = embeddings(cell, space)
        smallest = min(len(points[m]) for m in MODALITIES)
        trace: dict[str, Any] = {"space": space}
        wanted = self.ks
        if wanted == "silhouette":
            trace["estimated_identities"] = estimate_identities(points, self.seed)
            wanted = tuple(sorted({max(2, round(trace["estimated_identities"] * share)) for share in _SHARES}))
        ks = [k for k in wanted if k < smallest]
        if not ks:
            raise DegenerateInput(f"{smallest} voices or faces for {min(wanted)} clusters and more")
        labels = list(self._both(points, ks))
        trace["ks"] = ks
        if space != self.space:
            trace["space_fallback"] = "the cell has no input embeddings of both modalities; clustered in model"
        if len(ks) < len(wanted):
            trace["ks_left_out"] = [k for k in wanted if k >= smallest]
        return labels, trace

    def _both(self, points: Embeddings, ks: list[int]) -> Iterator[Labels]:
        cuts = {m: self._cut(points[m], ks, m) for m in MODALITIES}
        for at in range(len(cuts["voice"])):
            yield {m: cuts[m][at] for m in MODALITIES}

    def _cut(self, x: NDArray[np.float64], ks: list[int], modality: Modality) -> list[NDArray[np.int64]]:
        if np.ptp(x, axis=0).max() <= 1e-12:
            raise DegenerateInput(f"all {len(x)} {modality}s have the same embedding")
        if len(x) > _ITEMS:
            return self._cut_anew(x, ks, modality)
        # encoder embeddings of the same lists come again: for other steps, other fits, other train languages
        key = f"{self} {ks} {x.shape}", hashlib.sha256(x.tobytes()).hexdigest()
        found = _remembered[key] = _remembered.pop(key, []) or self._cut_anew(x, ks, modality)
        if len(_remembered) > _SETS:
            _remembered.popitem(last=False)
        return found

    def _cut_anew(self, x: NDArray[np.float64], ks: list[int], modality: Modality) -> list[NDArray[np.int64]]:
        if self.algorithm == "kmeans":
            options: dict[str, Any] = {"backend": self.backend, "n_init": self.n_init}
            seeds = [self.seed + repeat for repeat in range(self.repeats)]
            found = [kmeans(x, k, seed=seed, **options).labels for seed in seeds for k in ks]
        else:
            if len(x) > LARGEST_TREE:
                raise DegenerateInput(
                    f"{len(x)} {modality}s are too many for Ward's tree ({LARGEST_TREE}); set algorithm: kmeans"
                )
            from scipy.cluster.hierarchy import fcluster, linkage

            tree = linkage(x, "ward")
            found = [fcluster(tree, k, "maxclust") for k in ks]
        # repeated points leave clusters empty: number the others without gaps
        return [np.unique(labels, return_inverse=True)[1].astype(np.int64) for labels in found]


def cluster_means(x: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean (k, d) of each cluster's rows; every cluster has some."""
    sums = np.zeros((int(labels.max()) + 1, x.shape[1]))
    np.add.at(sums, labels, x)
    return sums / np.bincount(labels)[:, None]
