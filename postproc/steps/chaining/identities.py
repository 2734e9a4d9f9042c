"""Second chain of [SCC] Algorithm 1: confident sets, identity clusters and prototypes of one modality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import Modality
from postproc.cells import DegenerateInput
from postproc.clustering.kmeans import Clusters, elbow, kmeans
from postproc.clustering.number import silhouette
from postproc.memory import Memory
from postproc.steps.chaining.genders import GENDERS, means
from postproc.steps.chaining.thresholds import Thresholds, threshold_of

Count = int | Literal["knee", "silhouette", "elbow"]


@dataclass(frozen=True, eq=False)
class Identities:
    """Identity clusters of one modality.

    Attributes:
        label: (n,) cluster of every sample within its gender.
        confident: (n,) whether a sample is within T_m of the centre of its gender cluster.
        prototypes: (k, d) by gender, means of the samples within T_g of their identity centre.
    """

    label: NDArray[np.int64]
    confident: NDArray[np.bool_]
    prototypes: list[NDArray[np.float64]]


@dataclass(frozen=True)
class SecondChain:
    """How identity clusters are found.

    Attributes:
        count: number of identity clusters in each (modality, gender) set, or the rule that chooses it.
        count_range: smallest and largest number a rule may choose.
        t_m: T_m.
        t_g: T_g.
        kmeans_options: seed, backend and starts.
        memory: keeps clusters of equal embeddings.
    """

    count: Count
    count_range: tuple[int, int]
    t_m: Thresholds
    t_g: Thresholds
    kmeans_options: dict[str, Any]
    memory: Memory

    def __call__(
        self,
        modality: Modality,
        points: NDArray[np.float64],
        learnt: NDArray[np.float64],
        gender: NDArray[np.int64],
        radii: NDArray[np.float64],
        trace: dict[str, Any],
    ) -> Identities:
        """Finds the identity clusters of one modality.

        Args:
            modality: voice or face.
            points: (n, d) embeddings to cluster.
            learnt: (n, e) embeddings to average into prototypes.
            gender: (n,) gender cluster.
            radii: (n,) L2 distance to the centre of the gender cluster.
            trace: takes an entry per cluster, and curves by number of clusters.

        Raises:
            DegenerateInput: too few samples, or a threshold that leaves none.
        """
        label = np.empty(len(points), dtype=np.int64)
        sure = np.zeros(len(points), dtype=bool)
        prototypes = []
        for g in GENDERS:
            what, members = f"{modality} gender {g}", np.flatnonzero(gender == g)
            # step 2: the confident set, within T_m of the gender centre
            t_m = threshold_of(self.t_m, modality, g).of(radii[members])
            confident = members[radii[members] <= t_m]
            sure[confident] = True
            trace["clusters"].append(_entry(modality, g, None, radii[members], t_m))
            # step 3: identity clusters of the confident set; their number by a rule, unless it is given
            number = self._number(points[confident], what, trace)
            clusters = filled(points[confident], number, f"{what} identities", self.kmeans_options, self.memory)
            # step 4: a prototype is the mean of the samples within T_g of the identity centre
            kept = self._kept(clusters, modality, g, what, trace)
            prototypes.append(means(learnt[confident[kept]], clusters.labels[kept], len(clusters.centres)))
            # step 5 needs a cluster for every sample: those outside the confident set take the nearest centre
            squared = (clusters.centres**2).sum(axis=1) - 2 * points[members] @ clusters.centres.T
            label[members] = squared.argmin(axis=1)
            label[confident] = clusters.labels
        return Identities(label, sure, prototypes)

    def _kept(
        self, clusters: Clusters, modality: Modality, gender: int, what: str, trace: dict[str, Any]
    ) -> NDArray[np.bool_]:
        """Which samples of the identity clusters are within T_g of their centre."""
        kept = np.zeros(len(clusters.labels), dtype=bool)
        threshold = threshold_of(self.t_g, modality, gender)
        for k in range(len(clusters.centres)):
            inside = clusters.labels == k
            t_g = threshold.of(clusters.distances[inside])
            kept |= inside & (clusters.distances <= t_g)
            trace["clusters"].append(_entry(modality, gender, k, clusters.distances[inside], t_g))
            if not kept[inside].any():
                raise DegenerateInput(f"{what}: T_g = {t_g:g} leaves no sample of identity cluster {k}; raise t_g")
        return kept

    def _number(self, confident: NDArray[np.float64], what: str, trace: dict[str, Any]) -> int:
        """How many identity clusters to look for in a confident set (Fig. 2)."""
        rule, (low, high) = self.count, self.count_range
        if isinstance(rule, int):
            return rule
        if len(confident) < low + (rule == "silhouette"):
            raise DegenerateInput(f"{what}: {len(confident)} confident samples for {low} clusters")
        options = self.kmeans_options
        if rule == "silhouette":
            ks = range(low, min(high, len(confident) - 1) + 1)
            chosen, curve = self._chosen(confident, f"{rule} {ks}", lambda: silhouette(confident, ks, **options))
            trace["silhouette"][what] = {"chosen": chosen, "mean": curve}
            return chosen
        # the curve of a knee must not end where every sample is a cluster of its own
        most = len(confident) if rule == "elbow" else max(low, len(confident) // 2)
        ks = range(low - 1, min(high, most) + 1)
        way: Literal["drop", "knee"] = "drop" if rule == "elbow" else "knee"
        chosen, curve = self._chosen(confident, f"{rule} {ks}", lambda: elbow(confident, ks, rule=way, **options))
        trace["elbow"][what] = {"chosen": chosen, "total_distance": curve}
        return chosen

    def _chosen(
        self, x: NDArray[np.float64], rule: str, compute: Callable[[], tuple[int, dict[int, float]]]
    ) -> tuple[int, dict[int, float]]:
        """A number of clusters and its curve, from the memory where there is one for equal samples."""

        def arrays() -> list[NDArray[Any]]:
            chosen, curve = compute()
            return [np.array(chosen), np.array(list(curve)), np.array(list(curve.values()))]

        chosen, ks, values = self.memory.recall(f"{rule} {self.kmeans_options}", [x], arrays)
        return int(chosen), dict(zip(ks.tolist(), values.tolist(), strict=True))


def filled(x: NDArray[np.float64], k: int, what: str, options: dict[str, Any], memory: Memory) -> Clusters:
    """K-means, from the memory where there is one of equal samples, or the reason why there are no k clusters.

    Raises:
        DegenerateInput: fewer samples, or fewer distinct ones, than clusters.
    """
    if len(x) < k:
        raise DegenerateInput(f"{what}: {len(x)} samples for {k} clusters")

    def arrays() -> list[NDArray[Any]]:
        found = kmeans(x, k, **options)
        return [found.centres, found.labels, found.distances, np.array(found.inertia)]

    centres, labels, distances, inertia = memory.recall(f"k-means {k} {options}", [x], arrays)
    clusters = Clusters(centres, labels, distances, float(inertia))
    if not clusters.sizes.all():
        raise DegenerateInput(f"{what}: only {np.count_nonzero(clusters.sizes)} distinct samples for {k} clusters")
    return clusters


def _entry(
    modality: Modality, gender: int, identity: int | None, radii: NDArray[np.float64], t: float
) -> dict[str, Any]:
    return {
        "modality": modality,
        "gender": gender,
        "identity": identity,
        "size": len(radii),
        "radius": float(radii.max()),
        "threshold": t,
        "kept": int(np.count_nonzero(radii <= t)),
    }
