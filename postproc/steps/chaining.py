"""Chaining-cluster, Algorithm 1 of [SCC] (arXiv 2408.02025, 3.2): gender clusters, identity clusters, refined scores.

The comments name these steps. Their numbers count the steps here, they are not line numbers of Algorithm 1:

1. First chain: gender clusters of voices and of faces, k-means with k = 2. Voice clusters are tied to face clusters.
2. Second chain: confident set of each gender cluster, the samples within T_m of its centre.
3. Identity clusters of each confident set: k-means, the number by the elbow (Fig. 2).
4. Prototype of each identity cluster: the mean of its samples within T_g. Cosines of voice and face prototypes.
5. Reward (Eq. 4, line 22): ``s <- B_l + (s - B_l) * alpha`` where the cosine of the pair's prototypes is above T_alpha.
6. Penalty: ``s <- B_u`` where the gender clusters of the pair differ.

B_l and B_u are the smallest and largest initial distance. What the paper leaves open is an option of
:class:`ChainingCluster`, marked OPEN. One conflict is in the paper itself: Eq. 4 rewards a prototype similarity *below*
the threshold, line 22 of Algorithm 1 one *above*. The text says twice that high similarity is rewarded, and so it is
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, Embeddings, comparable, embeddings, initial_distances, shared_space, unit
from postproc.clustering.kmeans import Backend, Clusters, elbow, kmeans, resolve_backend
from postproc.clustering.number import silhouette
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, unchanged
from postproc.steps.gender import Genders, learn_genders


@dataclass(frozen=True)
class Threshold:
    """A cut-off, as a value or as a quantile of the values it cuts; exactly one of the two.

    Attributes:
        absolute: the value.
        quantile: the share (0..1) of values at or below the cut-off.

    Raises:
        ValueError: none or both given, not finite, or a quantile outside 0..1.
    """

    absolute: float | None = None
    quantile: float | None = None

    def __post_init__(self) -> None:
        if (self.absolute is None) == (self.quantile is None):
            raise ValueError(
                f"threshold: absolute is {self.absolute}, quantile is {self.quantile}; give one, and null for the other"
            )
        if self.absolute is not None and not np.isfinite(self.absolute):
            raise ValueError(f"threshold: absolute {self.absolute} is not a number to compare with")
        if self.quantile is not None and not 0 <= self.quantile <= 1:
            raise ValueError(f"threshold: quantile {self.quantile} is outside 0..1")

    def of(self, values: NDArray[np.float64]) -> float:
        """The cut-off for these values."""
        if self.quantile is None:
            return float(self.absolute)  # type: ignore[arg-type]  # exactly one is set
        return float(np.quantile(values, self.quantile))


UNTOUCHED, REWARDED, PENALISED = 0, 1, 2
KEEP_MOST, REWARD_BEST_QUARTER = Threshold(quantile=0.95), Threshold(quantile=0.75)
GENDERS = (0, 1)  # which of the two is male is neither known nor needed


class ChainingCluster(Refinement):
    """Algorithm 1 of [SCC]: rewards pairs of similar identity clusters, penalises pairs of different gender clusters.

    Transductive: it needs all voices and faces of the test condition. Clusters, ties and prototypes depend only on the
    items, so what happens to a pair (rewarded, penalised, untouched) does not depend on which other pairs are listed.
    The bounds B_u and B_l are those of the listed pairs, as in the paper.

    It helps only if gender is the dominant direction of both embeddings. If the two face clusters are something else,
    the penalty does harm. The paper publishes no thresholds: all defaults are OPEN, to be tuned on training identities.

    Args:
        n_identities: identity clusters in each (modality, gender) set, or ``elbow`` (as published) or ``silhouette``
            to choose the number per set.
        elbow_range: smallest and largest number these may choose; the paper looks near the expected count.
        t_m: T_m, largest L2 distance of a confident sample to its gender centre; a quantile is per gender cluster.
            None = quantile 0.95.
        t_g: T_g, largest L2 distance of a kept sample to its identity centre; a quantile is per identity cluster.
            None = quantile 0.95.
        t_alpha: T_alpha, prototype cosine above which a pair is rewarded; a quantile is taken over the cosines of both
            genders' prototype pairs. One in n pairs matches, with n identities per gender. None = quantile 0.75.
        alpha: 0..1, how far a rewarded distance stays from the best one: ``B_l + (s - B_l) * alpha``; 1 = no reward.
        penalty: whether pairs of different gender clusters get the worst distance B_u.
        genders: how gender clusters are found: ``kmeans`` (k = 2, as published), or ``probe``: by probes fitted on
            training identities of known gender. Not from the paper.
        normalise: scale embeddings to unit length first. OPEN in the paper.
        space: embeddings to cluster: ``model`` (learnt) or ``input`` (of the encoders). Voices and faces are compared
            in ``model`` in either case, since the spaces of two encoders cannot be compared. OPEN in the paper.
        seed: of all k-means starts.
        backend: of k-means: ``auto``, ``gpu``, ``cpu`` or ``sklearn``.
        n_init: k-means starts.

    Raises:
        ValueError: an option out of range.

    Example:
        Six identities; the first coordinate is gender. Every pair of different gender gets the worst distance.

        >>> import numpy as np
        >>> from postproc import ChainingCluster, ScoredCell
        >>> rng, identity = np.random.default_rng(0), np.repeat(np.arange(6), 10)
        >>> centres = np.c_[[3, 3, 3, -3, -3, -3], rng.normal(size=(6, 4))]
        >>> voices, faces = (centres[identity] + 0.1 * rng.normal(size=(60, 5)) for _ in range(2))
        >>> voice, face = (index.ravel() for index in np.mgrid[:60, :60])
        >>> cell = ScoredCell(rng.uniform(size=3600), voice, face, voices, faces)
        >>> refined = ChainingCluster(n_identities=3, backend="cpu")(cell)
        >>> refined.trace["counts"]["penalised"], len(voice) // 2
        (1800, 1800)
        >>> across = (identity[voice] < 3) != (identity[face] < 3)
        >>> bool((refined.distances[across] == cell.distances.max()).all())
        True
    """

    def __init__(
        self,
        n_identities: int | Literal["elbow", "silhouette"] = "elbow",
        elbow_range: tuple[int, int] = (2, 8),
        t_m: Threshold | None = None,
        t_g: Threshold | None = None,
        t_alpha: Threshold | None = None,
        alpha: float = 0.5,
        penalty: bool = True,
        genders: Literal["kmeans", "probe"] = "kmeans",
        normalise: bool = True,
        space: Literal["model", "input"] = "model",
        seed: int = 0,
        backend: Backend = "auto",
        n_init: int = 10,
    ) -> None:
        if n_identities not in ("elbow", "silhouette") and (isinstance(n_identities, str) or n_identities < 1):
            raise ValueError(f"n_identities: {n_identities} clusters; take 1 or more, elbow or silhouette")
        low, high = elbow_range
        if not 2 <= low <= high:
            raise ValueError(f"elbow_range: {low}..{high} must lie at 2 or above and not decrease")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha: {alpha} is outside 0..1; a reward may not push a distance below the best one")
        if space not in ("model", "input"):
            raise ValueError(f"space: {space!r} is neither 'model' nor 'input'")
        if genders not in ("kmeans", "probe"):
            raise ValueError(f"genders: {genders!r} is neither 'kmeans' nor 'probe'")
        self.n_identities, self.elbow_range = n_identities, (low, high)
        # None in the signature: a config that sets `absolute` would be merged with a default quantile, and give both
        self.t_m, self.t_g = t_m or KEEP_MOST, t_g or KEEP_MOST
        self.t_alpha = t_alpha or REWARD_BEST_QUARTER
        self.alpha, self.penalty, self.normalise, self.space = alpha, penalty, normalise, space
        self.genders, self._probes = genders, Genders()
        resolve_backend(backend)  # report a missing GPU before the run, not after it
        self.kmeans_options: dict[str, Any] = {"seed": seed, "backend": backend, "n_init": n_init}

    @property
    def needs_reference(self) -> bool:
        return self.genders == "probe"

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self._probes = learn_genders(reference)  # also with k-means gender clusters, for reliability

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition; the result lies within [min, max] of the initial distances.

        The trace holds ``action`` (t,) int8 (0 untouched, 1 rewarded, 2 penalised) and its ``counts``; ``bounds``
        [B_l, B_u]; ``t_alpha``; ``tie`` of voice to face gender clusters; ``clusters``, one entry per gender and per
        identity cluster with its size, radius, threshold and kept samples; ``elbow`` or ``silhouette`` curves; cosines
        of prototypes by gender, ``similarity``; ``assignment``, the (gender, identity) cluster of each voice and face.
        """
        try:
            return self._refine(cell)
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))

    def reliability(self, cell: ScoredCell, refined: Refined) -> dict[str, float]:
        """``gender``: whether the gender clusters are genders, by the probes of training identities.

        With P(same gender) of the probes, the mean of P(same) within tied gender clusters and of 1 - P(same) across
        them: 1 = the clusters are genders, 0.5 = they have nothing to do with gender. With ``genders: probe`` it says
        how confident the probes are.
        """
        male, assignment = self._probes(cell), refined.trace["assignment"]
        p, q = ([male[m][assignment[m][:, 0] == g].mean() for g in GENDERS] for m in MODALITIES)
        same = np.array([[a * b + (1 - a) * (1 - b) for b in q] for a in p])  # mean P(same) of each block
        return {"gender": float((same[0, 0] + same[1, 1] + 2 - same[0, 1] - same[1, 0]) / 4)}

    def _refine(self, cell: ScoredCell) -> Refined:
        initial = initial_distances(cell)
        points = embeddings(cell, self.space, normalise=self.normalise)
        # no second copy of the same arrays: 100,000 items take a gigabyte
        learnt = comparable(points) if self.space == "model" else shared_space(cell, normalise=self.normalise)

        # step 1: gender clusters of both modalities, k-means with k = 2, tied to each other
        if self.genders == "probe":
            genders = self._probed(cell, points)
        else:
            genders = {m: self._cluster(points[m], 2, f"{m} gender") for m in MODALITIES}
        label, tie = self._tie(cell, initial, genders, learnt)

        # steps 2-4: confident sets, identity clusters, prototypes of both modalities
        trace: dict[str, Any] = {"tie": tie, "clusters": [], "elbow": {}, "silhouette": {}}
        identity: dict[Modality, NDArray[np.int64]] = {}
        prototypes: dict[Modality, list[NDArray[np.float64]]] = {}
        for m in MODALITIES:
            identity[m], prototypes[m] = self._identities(m, points[m], learnt[m], label[m], genders[m], trace)
        # step 4: cosines of voice and face prototypes of the same gender
        similarity = [unit(prototypes["voice"][g]) @ unit(prototypes["face"][g]).T for g in GENDERS]
        t_alpha = self.t_alpha.of(np.concatenate([s.ravel() for s in similarity]))

        # step 5: which pairs are rewarded (line 22: similarity above T_alpha; both in the same gender cluster)
        voice, face = cell.voice_index, cell.face_index
        voice_gender, face_gender = label["voice"][voice], label["face"][face]
        pair_similarity = np.full(len(initial), -np.inf)
        for g in GENDERS:
            both = (voice_gender == g) & (face_gender == g)
            pair_similarity[both] = similarity[g][identity["voice"][voice[both]], identity["face"][face[both]]]
        action = np.full(len(initial), UNTOUCHED, dtype=np.int8)
        action[pair_similarity > t_alpha] = REWARDED
        if self.penalty:  # step 6: which pairs are penalised
            action[voice_gender != face_gender] = PENALISED
        best, worst = float(initial.min()), float(initial.max())  # B_l and B_u
        # Eq. 4: s <- B_l + (s - B_l) * alpha, written so that it cannot overflow, and not past s by rounding
        rewarded = np.clip((1 - self.alpha) * best + self.alpha * initial, best, initial)
        refined = np.select(  # penalised: s <- B_u
            [action == REWARDED, action == PENALISED], [rewarded, np.full_like(initial, worst)], initial
        )

        counts = np.bincount(action, minlength=3)
        trace |= {
            "action": action,
            "counts": dict(zip(("untouched", "rewarded", "penalised"), counts.tolist(), strict=True)),
            "bounds": [best, worst],
            "t_alpha": t_alpha,
            "similarity": similarity,
            "assignment": {m: np.stack([label[m], identity[m]], axis=1) for m in MODALITIES},
        }
        return Refined(refined, trace)

    def _cluster(self, x: NDArray[np.float64], k: int, what: str) -> Clusters:
        """K-means, or the reason why there are no k clusters."""
        if len(x) < k:
            raise DegenerateInput(f"{what}: {len(x)} samples for {k} clusters")
        clusters = kmeans(x, k, **self.kmeans_options)
        if not clusters.sizes.all():
            raise DegenerateInput(f"{what}: only {np.count_nonzero(clusters.sizes)} distinct samples for {k} clusters")
        return clusters

    def _probed(self, cell: ScoredCell, points: Embeddings) -> dict[Modality, Clusters]:
        """Gender clusters by the probes; cluster 1 is male in both modalities."""
        clusters: dict[Modality, Clusters] = {}
        for m, labels in self._probes.labels(cell).items():
            centres = _means(points[m], labels, 2)
            distances = np.linalg.norm(points[m] - centres[labels], axis=1)
            clusters[m] = Clusters(centres, labels, distances, float((distances**2).sum()))
        return clusters

    def _tie(
        self,
        cell: ScoredCell,
        initial: NDArray[np.float64],
        genders: dict[Modality, Clusters],
        learnt: dict[Modality, NDArray[np.float64]],
    ) -> tuple[dict[Modality, NDArray[np.int64]], dict[str, Any]]:
        """Gender labels shared by both modalities. OPEN in the paper: here the assignment of larger centroid cosine.

        The mean listed distance within and across genders is traced as a check. It decides nothing, since what happens
        to a pair must not depend on the other listed pairs.
        """
        centres = {m: unit(_means(learnt[m], genders[m].labels, 2)) for m in MODALITIES}
        cosine = centres["voice"] @ centres["face"].T
        gap = float(np.trace(cosine) - np.trace(cosine[:, ::-1]))
        if self.genders == "kmeans" and abs(gap) < 1e-9:
            raise DegenerateInput(
                "voice and face gender clusters cannot be tied: both assignments have the same centroid cosine"
            )
        straight = self.genders == "probe" or gap > 0  # the clusters of probes are named
        face_label = genders["face"].labels if straight else 1 - genders["face"].labels
        label: dict[Modality, NDArray[np.int64]] = {"voice": genders["voice"].labels, "face": face_label}
        same = label["voice"][cell.voice_index] == label["face"][cell.face_index]
        within, across = (_mean(initial[part]) if part.any() else None for part in (same, ~same))
        agrees = None if within is None or across is None else within < across
        return label, {
            "face_of_voice": [0, 1] if straight else [1, 0],
            "centroid_cosine_gap": abs(gap),
            "mean_distance_within": within,
            "mean_distance_across": across,
            "agrees_with_scores": agrees,
        }

    def _identities(
        self,
        modality: Modality,
        points: NDArray[np.float64],
        learnt: NDArray[np.float64],
        label: NDArray[np.int64],
        genders: Clusters,
        trace: dict[str, Any],
    ) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
        """Steps 2-4 for one modality: (n,) identity cluster of every sample within its gender, prototypes by gender."""
        identity = np.empty(len(points), dtype=np.int64)
        prototypes = []
        for g in GENDERS:
            what, members = f"{modality} gender {g}", np.flatnonzero(label == g)
            # step 2: the confident set, within T_m of the gender centre
            t_m = self.t_m.of(genders.distances[members])
            confident = members[genders.distances[members] <= t_m]
            trace["clusters"].append(_entry(modality, g, None, genders.distances[members], t_m))
            # step 3: identity clusters of the confident set; their number by the elbow, unless it is given
            clusters = self._cluster(
                points[confident], self._count(points[confident], what, trace), f"{what} identities"
            )
            # step 4: a prototype is the mean of the samples within T_g of the identity centre
            kept = np.zeros(len(confident), dtype=bool)
            for k in range(len(clusters.centres)):
                inside = clusters.labels == k
                t_g = self.t_g.of(clusters.distances[inside])
                kept |= inside & (clusters.distances <= t_g)
                trace["clusters"].append(_entry(modality, g, k, clusters.distances[inside], t_g))
                if not kept[inside].any():
                    raise DegenerateInput(f"{what}: T_g = {t_g:g} leaves no sample of identity cluster {k}; raise t_g")
            prototypes.append(_means(learnt[confident[kept]], clusters.labels[kept], len(clusters.centres)))
            # step 5 needs a cluster for every sample: those outside the confident set take the nearest centre
            squared = (clusters.centres**2).sum(axis=1) - 2 * points[members] @ clusters.centres.T
            identity[members] = squared.argmin(axis=1)
            identity[confident] = clusters.labels
        return identity, prototypes

    def _count(self, confident: NDArray[np.float64], what: str, trace: dict[str, Any]) -> int:
        """How many identity clusters to look for in a confident set (Fig. 2)."""
        if isinstance(self.n_identities, int):
            return self.n_identities
        low, high = self.elbow_range
        if len(confident) < low + (self.n_identities == "silhouette"):
            raise DegenerateInput(f"{what}: {len(confident)} confident samples for {low} clusters")
        if self.n_identities == "silhouette":
            chosen, curve = silhouette(confident, range(low, min(high, len(confident) - 1) + 1), **self.kmeans_options)
            trace["silhouette"][what] = {"chosen": chosen, "mean": curve}
            return chosen
        chosen, curve = elbow(confident, range(low - 1, min(high, len(confident)) + 1), **self.kmeans_options)
        trace["elbow"][what] = {"chosen": chosen, "total_distance": curve}
        return chosen


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


def _mean(x: NDArray[np.float64]) -> float:
    """The mean, without overflow on the way."""
    return float((x / len(x)).sum())


def _means(x: NDArray[np.float64], labels: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Mean of each cluster's rows; every cluster has some."""
    return np.stack([x[labels == c].mean(axis=0) for c in range(k)])
