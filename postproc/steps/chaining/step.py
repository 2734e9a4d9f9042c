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
here, unless ``reward: below`` asks for Eq. 4 as printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, Embeddings, comparable, embeddings, initial_distances, shared_space, unit
from postproc.clustering.kmeans import Backend, Clusters, resolve_backend
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, unchanged
from postproc.steps.chaining.genders import GENDERS, Alignment, Labels, alignment_gap, probed_clusters, tie
from postproc.steps.chaining.identities import Count, Identities, SecondChain, filled
from postproc.steps.chaining.thresholds import Threshold, Thresholds, check_thresholds
from postproc.steps.gender import Genders, learn_genders

UNTOUCHED, REWARDED, PENALISED = 0, 1, 2
KEEP_MOST, REWARD_BEST_QUARTER = Threshold(quantile=0.95), Threshold(quantile=0.75)


class ChainingCluster(Refinement):
    """Algorithm 1 of [SCC]: rewards pairs of similar identity clusters, penalises pairs of different gender clusters.

    Transductive: it needs all voices and faces of the test condition. Clusters, ties and prototypes depend only on the
    items, so what happens to a pair (rewarded, penalised, untouched) does not depend on which other pairs are listed.
    The bounds B_u and B_l are those of the listed pairs, as in the paper.

    It helps only if gender is the dominant direction of both embeddings. If the two face clusters are something else,
    the penalty does harm. The paper publishes no thresholds: all defaults are OPEN, to be tuned on training identities.

    Args:
        n_identities: identity clusters in each (modality, gender) set, or the rule that chooses the number per set:
            ``elbow``, the largest drop of the total distance, as published; it takes 2 nearly always. ``knee``, the
            point of the same curve farthest below the line through its ends; ``silhouette``. These two are not from
            the paper.
        elbow_range: smallest and largest number these may choose; the paper looks near the expected count, without
            saying how near. With e expected identities per gender, ``[2, 2 e]`` suits ``knee``.
        t_m: T_m, largest L2 distance of a confident sample to its gender centre; a quantile is per gender cluster.
            Several values by modality (``voice``, ``face``) or, with ``genders: probe``, by gender (``female``,
            ``male``) or both (``voice_female`` ...). None = quantile 0.95.
        t_g: T_g, largest L2 distance of a kept sample to its identity centre; a quantile is per identity cluster.
            Several values as for ``t_m``. None = quantile 0.95.
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
        pairs: which pairs are rewarded and penalised. OPEN: ``all`` (the text of the paper), or ``confident``: those
            whose voice and face are both within T_m (the authors' system description of the FAME challenge).
        reward: prototype cosines that are rewarded: ``above`` T_alpha (line 22 of Algorithm 1), or ``below`` it (Eq. 4
            as printed).
        alignment: how voice clusters 0 and 1 of k-means are tied to face clusters 0 and 1. OPEN: ``centroids``,
            ``scores`` or ``probe`` (:func:`postproc.steps.chaining.genders.alignment_gap`).

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
        n_identities: Count = "knee",
        elbow_range: tuple[int, int] = (2, 32),
        t_m: Thresholds | None = None,
        t_g: Thresholds | None = None,
        t_alpha: Threshold | None = None,
        alpha: float = 0.5,
        penalty: bool = True,
        genders: Literal["kmeans", "probe"] = "kmeans",
        normalise: bool = True,
        space: Literal["model", "input"] = "model",
        seed: int = 0,
        backend: Backend = "auto",
        n_init: int = 10,
        pairs: Literal["all", "confident"] = "all",
        reward: Literal["above", "below"] = "above",
        alignment: Alignment = "centroids",
    ) -> None:
        rules = get_args(get_args(Count)[1])
        if n_identities not in rules and (isinstance(n_identities, str) or n_identities < 1):
            raise ValueError(f"n_identities: {n_identities} clusters; take 1 or more, or one of {', '.join(rules)}")
        low, high = elbow_range
        if not 2 <= low <= high:
            raise ValueError(f"elbow_range: {low}..{high} must lie at 2 or above and not decrease")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha: {alpha} is outside 0..1; a reward may not push a distance below the best one")
        for name, value, allowed in (
            ("space", space, ("model", "input")),
            ("genders", genders, ("kmeans", "probe")),
            ("pairs", pairs, ("all", "confident")),
            ("reward", reward, ("above", "below")),
            ("alignment", alignment, get_args(Alignment)),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: {value!r} is none of {', '.join(allowed)}")
        self.n_identities, self.elbow_range = n_identities, (low, high)
        # None in the signature: a config that sets `absolute` would be merged with a default quantile, and give both
        self.t_m = KEEP_MOST if t_m is None else t_m
        self.t_g = KEEP_MOST if t_g is None else t_g
        for name, thresholds in (("t_m", self.t_m), ("t_g", self.t_g)):
            check_thresholds(name, thresholds, named=genders == "probe")
        self.t_alpha = t_alpha or REWARD_BEST_QUARTER
        self.alpha, self.penalty, self.normalise, self.space = alpha, penalty, normalise, space
        self.genders, self.pairs, self.reward, self.alignment = genders, pairs, reward, alignment
        self._probes = Genders()
        resolve_backend(backend)  # report a missing GPU before the run, not after it
        self.kmeans_options: dict[str, Any] = {"seed": seed, "backend": backend, "n_init": n_init}

    @property
    def needs_reference(self) -> bool:
        return "probe" in (self.genders, self.alignment)

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self._probes = learn_genders(reference, self.memory)  # also with k-means gender clusters, for reliability

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition; the result lies within [min, max] of the initial distances.

        The trace holds ``action`` (t,) int8 (0 untouched, 1 rewarded, 2 penalised) and its ``counts``; ``bounds``
        [B_l, B_u]; ``t_alpha``; ``tie`` of voice to face gender clusters; ``clusters``, one entry per gender and per
        identity cluster with its size, radius, threshold and kept samples; ``elbow`` (also of ``knee``) or
        ``silhouette`` curves; cosines of prototypes by gender, ``similarity``; ``assignment``, the (gender, identity)
        cluster of each voice and face.
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
        clusters = self._gender_clusters(cell, points)
        label, tied = self._tie(cell, initial, clusters, learnt)
        # steps 2-4: confident sets, identity clusters, prototypes of both modalities
        trace: dict[str, Any] = {"tie": tied, "clusters": [], "elbow": {}, "silhouette": {}}
        chain = SecondChain(self.n_identities, self.elbow_range, self.t_m, self.t_g, self.kmeans_options, self.memory)
        identities = {m: chain(m, points[m], learnt[m], label[m], clusters[m].distances, trace) for m in MODALITIES}
        # step 4: cosines of voice and face prototypes of the same gender
        prototypes = [[unit(identities[m].prototypes[g]) for m in MODALITIES] for g in GENDERS]
        similarity = [voices @ faces.T for voices, faces in prototypes]
        t_alpha = self.t_alpha.of(np.concatenate([s.ravel() for s in similarity]))
        # steps 5 and 6
        action = self._actions(cell, label, identities, similarity, t_alpha)
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
            "assignment": {m: np.stack([label[m], identities[m].label], axis=1) for m in MODALITIES},
        }
        return Refined(refined, trace)

    def _gender_clusters(self, cell: ScoredCell, points: Embeddings) -> dict[Modality, Clusters]:
        if self.genders == "probe":
            return probed_clusters(cell, points, self._probes)
        return {m: filled(points[m], 2, f"{m} gender", self.kmeans_options, self.memory) for m in MODALITIES}

    def _tie(
        self, cell: ScoredCell, initial: NDArray[np.float64], clusters: dict[Modality, Clusters], learnt: Embeddings
    ) -> tuple[Labels, dict[str, Any]]:
        """Gender labels shared by both modalities, and how they were tied."""
        labels: Labels = {m: clusters[m].labels for m in MODALITIES}
        named = self.genders == "probe"
        gap = alignment_gap("centroids" if named else self.alignment, labels, cell, learnt, self._probes)
        if not named and abs(gap) < 1e-9:
            raise DegenerateInput(
                "voice and face gender clusters cannot be tied: both assignments fit equally well by "
                f"alignment: {self.alignment}"
            )
        return tie(labels, cell, initial, gap, straight=named or gap > 0)

    def _actions(
        self,
        cell: ScoredCell,
        label: Labels,
        identities: dict[Modality, Identities],
        similarity: list[NDArray[np.float64]],
        t_alpha: float,
    ) -> NDArray[np.int8]:
        """What happens to each pair (t,): step 5, which are rewarded, and step 6, which are penalised."""
        voice, face = cell.voice_index, cell.face_index
        voice_gender, face_gender = label["voice"][voice], label["face"][face]
        action = np.full(len(voice), UNTOUCHED, dtype=np.int8)
        for g in GENDERS:
            both = np.flatnonzero((voice_gender == g) & (face_gender == g))
            cosine = similarity[g][identities["voice"].label[voice[both]], identities["face"].label[face[both]]]
            # line 22: similarity above T_alpha; Eq. 4 as printed: below
            action[both[cosine > t_alpha if self.reward == "above" else cosine < t_alpha]] = REWARDED
        if self.penalty:
            action[voice_gender != face_gender] = PENALISED
        if self.pairs == "confident":
            action[~(identities["voice"].confident[voice] & identities["face"].confident[face])] = UNTOUCHED
        return action
