"""Clusters voices and faces jointly into identities. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, Embeddings, checked, embeddings, initial_distances, shared_space
from postproc.clustering.kmeans import cluster_means
from postproc.clustering.linkage import cut
from postproc.clustering.number import estimate_identities
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, unchanged
from postproc.steps.blocks import comparable
from postproc.steps.joint.gibbs import Prior, SubClusters, sample_identities
from postproc.steps.joint.plda import Plda, fit_plda

_FLOOR = 0.01  # added to the posterior, so that no pair is ruled out
_HEAT = 3.0  # temperature of the chains at the start
_SUB_CLUSTERS_PER_IDENTITY = 8 / 3  # in each modality: 16 for six identities
_MOST_IDENTITIES, _MOST_SUB_CLUSTERS = 96, 256  # a sweep costs sub_clusters^2


class JointIdentities(Refinement):
    """Scores a pair by the posterior probability that its voice and its face have the same identity.

    1. Voices and faces are cut into small, pure ``sub_clusters`` by average linkage of cosines.
    2. Partitions of all sub-clusters into identities are sampled
       (:func:`postproc.steps.joint.gibbs.sample_identities`). The weight of a partition is how well one identity
       explains the voices and the faces assigned to it (a spherical PLDA per modality, fitted on the reference), and
       how similar its voices are to its faces in the learnt space.
    3. The distance is ``-log(P + 0.01) + initial_weight * d``, with P the posterior and d the distance before.

    The faces can join two voice clusters into one identity. Matching finished clusters
    (:class:`postproc.Transport`) cannot use that.

    Transductive. It assumes the same identities on both sides, less strictly than :class:`postproc.Transport`: an
    identity may lack voices or faces at a cost. A distance depends on the voices and faces of the test condition, not
    on which pairs are listed, on their order or names. Cost: O(n^2) for the sub-clusters of up to 4,096 items; above,
    O(n): 512 k-means clusters are linked (and k-means depends on the order of the items). Then
    O(chains * sub_clusters^2) per sweep, whatever n is.

    Args:
        sub_clusters: of each modality at most. Take two or three times the expected number of identities: two
            identities in one sub-cluster cannot be separated. ``silhouette`` estimates the number of identities
            (:func:`postproc.clustering.number.estimate_identities`) and takes 8/3 of it. Above 96 identities the test
            condition is left unchanged. Above 256 sub-clusters of a modality the test
            condition is left unchanged.
        space: embeddings that are clustered and scored by PLDA; ``input`` falls back to ``model`` where there are none.
        clip_weight: weight of a clip in PLDA; below 1, since clips of one recording resemble each other.
        session: variance that the clips of a sub-cluster share, in units of the variance within an identity. However
            many clips there are, they count no more than 1 / session clips.
        temperature: of the similarity; the mean similarity of an identity's voices and faces, divided by this, is a
            log-likelihood ratio.
        identity_cost: subtracted from the log-weight for every identity.
        unpaired_cost: subtracted for every identity without voices or without faces.
        initial_weight: weight of the distances before. Small for cosine distances, which then only order the pairs
            within sub-clusters; 0.5 after :class:`postproc.Transport`, whose distances are log-likelihood ratios, too.
        chains: number of independent chains.
        sweeps: over all sub-clusters, after ``burn_in`` more.
        burn_in: sweeps before, which are not counted.
        seed: of the chains.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        sub_clusters: int | Literal["silhouette"] = "silhouette",
        space: Literal["input", "model"] = "input",
        clip_weight: float = 0.3,
        session: float = 0.3,
        temperature: float = 0.15,
        identity_cost: float = 2.0,
        unpaired_cost: float = 4.0,
        initial_weight: float = 0.05,
        chains: int = 64,
        sweeps: int = 20,
        burn_in: int = 20,
        seed: int = 0,
    ) -> None:
        if space not in ("input", "model"):
            raise ValueError(f"space: {space!r} is neither 'input' nor 'model'")
        if sub_clusters != "silhouette" and (isinstance(sub_clusters, str) or sub_clusters < 2):
            raise ValueError(f"sub_clusters: {sub_clusters}; take 2 or more, or silhouette")
        for name, least, value in (("chains", 1, chains), ("sweeps", 1, sweeps), ("burn_in", 0, burn_in)):
            if value < least:
                raise ValueError(f"{name}: {value} must be {least} or more")
        if not 0 < clip_weight <= 1:
            raise ValueError(f"clip_weight: {clip_weight} is outside 0..1")
        if not 0 < temperature < np.inf:
            raise ValueError(f"temperature: {temperature} must be positive and finite")
        numbers = {
            "session": session,
            "identity_cost": identity_cost,
            "unpaired_cost": unpaired_cost,
            "initial_weight": initial_weight,
        }
        for name, number in numbers.items():
            if not 0 <= number < np.inf:
                raise ValueError(f"{name}: {number} must be 0 or more and finite")
        self.sub_clusters, self.space, self.clip_weight, self.session = sub_clusters, space, clip_weight, session
        self.prior, self.initial_weight = Prior(temperature, identity_cost, unpaired_cost), initial_weight
        self.chains, self.sweeps, self.burn_in, self.seed = chains, sweeps, burn_in, seed
        self._plda: dict[Modality, Plda] = {}
        self._space, self._why = space, "PLDA was not fitted: no reference identities were given"

    @property
    def needs_reference(self) -> bool:
        return True

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self._plda, self._why = {}, ""
        sides = {"voice": reference.voices, "face": reference.faces}
        has_input = all("input" in spaces for spaces in sides.values())
        self._space = "input" if self.space == "input" and has_input else "model"
        try:
            if not len(reference):
                raise DegenerateInput("no reference identities were given")
            self._plda = {
                m: fit_plda(checked(sides[m][self._space], m, self._space), reference.identity, m) for m in MODALITIES
            }
        except DegenerateInput as reason:
            self._why = str(reason)

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition.

        The trace holds ``space``; ``sub_clusters`` by modality; ``identities`` and ``identities_sd``, the mean number
        of sampled identities and its standard deviation; ``estimated_identities`` with ``sub_clusters: silhouette``.
        """
        try:
            return self._refine(cell)
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))

    def _refine(self, cell: ScoredCell) -> Refined:
        initial = initial_distances(cell)
        if not self._plda:
            raise DegenerateInput(self._why)
        learnt, points = comparable(shared_space(cell)), embeddings(cell, self._space)
        labels: dict[Modality, NDArray[np.int64]] = {}
        sides: dict[Modality, SubClusters] = {}
        trace: dict[str, Any] = {"space": self._space}
        most = self._most(points, trace)
        for m in MODALITIES:
            centred = self._plda[m](points[m], m)
            labels[m] = cut(centred, most, self.seed)
            if labels[m].max() >= _MOST_SUB_CLUSTERS:
                raise DegenerateInput(
                    f"{labels[m].max() + 1} sub-clusters of {m}s are too many to sample ({_MOST_SUB_CLUSTERS}); "
                    "set sub_clusters"
                )
            sides[m] = describe(centred, labels[m], self._plda[m], self.clip_weight, self.session)
        posterior, identities = self._sampled((sides["voice"], sides["face"]), centred_similarity(learnt, labels))
        p = posterior[labels["voice"][cell.voice_index], labels["face"][cell.face_index]]
        trace["sub_clusters"] = {m: len(sides[m].count) for m in MODALITIES}
        trace |= {"identities": float(identities.mean()), "identities_sd": float(identities.std())}
        return Refined(-np.log(p + _FLOOR) + self.initial_weight * initial, trace)

    def _sampled(
        self, sides: tuple[SubClusters, SubClusters], similarity: NDArray[np.float64]
    ) -> list[NDArray[np.float64]]:
        """Posterior and numbers of identities, as :func:`sample_identities`; the same for other pairs of the items."""
        options = {"chains": self.chains, "sweeps": self.sweeps, "burn_in": self.burn_in, "seed": self.seed}
        ratios = [of.ratio for of in sides]
        return self.memory.recall(
            f"identities {self.prior} {ratios} {sides[0].width, sides[1].width} {options}",
            [similarity, *(of.gram for of in sides), *(of.count for of in sides)],
            lambda: [*sample_identities(sides, similarity, self.prior, heat=_HEAT, **options)],
        )

    def _most(self, points: Embeddings, trace: dict[str, Any]) -> int:
        """The number of sub-clusters of each modality at most."""
        if not isinstance(self.sub_clusters, str):
            return self.sub_clusters
        estimate = trace["estimated_identities"] = estimate_identities(points, self.seed, self.memory)
        if estimate > _MOST_IDENTITIES:
            raise DegenerateInput(
                f"about {estimate} identities are too many to sample ({_MOST_IDENTITIES}); set sub_clusters"
            )
        return round(_SUB_CLUSTERS_PER_IDENTITY * estimate)


def describe(
    x: NDArray[np.float64], labels: NDArray[np.int64], plda: Plda, clip_weight: float, session: float
) -> SubClusters:
    """Sub-clusters of one modality from centred unit embeddings (n, d) and labels (n,).

    n clips count as ``w n / (1 + session w n)`` independent ones, with w the clip weight.
    """
    clips = clip_weight * np.bincount(labels)
    count = clips / (1 + session * clips)
    width = x.shape[1]
    total = cluster_means(x, labels) * (count * np.sqrt(width / plda.within))[:, None]
    return SubClusters(total @ total.T, count, plda.ratio, width)


def centred_similarity(learnt: Embeddings, labels: dict[Modality, NDArray[np.int64]]) -> NDArray[np.float64]:
    """Mean similarity (voice sub-clusters, face sub-clusters), centred by row and by column.

    Centring removes what a sub-cluster has in common with everything. Means over rows and columns weigh a sub-cluster
    by the square root of its size: a large one is known better, but it is no more identities.
    """
    blocks = cluster_means(learnt["voice"], labels["voice"]) @ cluster_means(learnt["face"], labels["face"]).T
    a, b = (np.sqrt(np.bincount(labels[m])) for m in MODALITIES)
    a, b = a / a.sum(), b / b.sum()
    centred: NDArray[np.float64] = blocks - (blocks @ b)[:, None] - a @ blocks + a @ blocks @ b
    return centred
