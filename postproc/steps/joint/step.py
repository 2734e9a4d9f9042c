"""Clusters voices and faces jointly into people. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, Embeddings, checked, embeddings, initial_distances, shared_space
from postproc.clustering.counting import count_people
from postproc.clustering.kmeans import kmeans
from postproc.clustering.partitions import cluster_means
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, unchanged
from postproc.steps.blocks import comparable
from postproc.steps.joint.gibbs import Atoms, Prior, sample_people
from postproc.steps.joint.plda import Plda, fit_plda

LARGEST_TREE = 4096  # items whose average-linkage tree is built, of n^2 / 2 distances
_MICRO = 512  # k-means clusters of more items, which are then linked instead
_FLOOR = 0.01  # of the posterior: no pair is ruled out
_HEAT = 3.0  # of the chains at their start
_ATOMS_PER_PERSON = 8 / 3  # of each modality: 16 for six people
_MOST_PEOPLE = 96  # a sweep costs atoms^2


class JointPeople(Refinement):
    """Scores a pair by the posterior probability that its voice and its face are of one person.

    Voices and faces are first cut into ``atoms``, small clusters that are pure, by average linkage of cosines. Then
    partitions of all atoms into people are sampled (:func:`postproc.steps.joint.gibbs.sample_people`). Their weight is how
    well one person explains the voices and the faces given to him, by a spherical PLDA per modality that is fitted on
    the reference's people, and how similar his voices are to his faces in the learnt space. So a person whose voices
    fall into two clusters stays one person if the faces say so, which matching finished clusters
    (:class:`postproc.Transport`) cannot do. The distance is
    ``-log(P + 0.01) + initial * d``, d the distance before.

    Transductive, and like :class:`Transport` it presumes the same people on both sides, less strictly: a person may
    lack either at a price. A distance depends on the voices and faces of the cell, not on which pairs are listed, their
    order or their names. Cost: O(n^2) for the atoms of up to 4,096 items and O(n) above, where 512 clusters of
    k-means are linked (its starts know the order of the items); then O(chains * atoms^2) per sweep whatever n is.

    Args:
        atoms: clusters of each modality at most. Take two or three times the people expected: two people in one atom
            cannot be told apart. ``silhouette`` counts the people (:func:`postproc.clustering.counting.count_people`) and takes
            16 for six of them; of more than 96 people the cell is left alone.
        space: embeddings that are cut and that PLDA sees; ``input`` falls back to ``model`` where there are none.
        clip_weight: what a clip counts in PLDA; below 1, since clips of one recording resemble each other.
        session: variance that the clips of an atom share, in units of the variance within a person: however many
            they are, they count no more than 1 / session clips.
        temperature: of the similarity, whose mean over a person divided by this is a log-likelihood ratio.
        person: log-price of a person.
        lone: log-price of a person without voices or without faces.
        initial: weight of the distances before: little for cosines, which then only order the pairs of an atom; 0.5
            after :class:`Transport`, whose distances are log-likelihood ratios, too.
        chains: independent chains.
        sweeps: over all atoms, after ``burn`` more.
        burn: sweeps before, which are not counted.
        seed: of the chains.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        atoms: int | Literal["silhouette"] = "silhouette",
        space: Literal["input", "model"] = "input",
        clip_weight: float = 0.3,
        session: float = 0.3,
        temperature: float = 0.15,
        person: float = 2.0,
        lone: float = 4.0,
        initial: float = 0.05,
        chains: int = 64,
        sweeps: int = 20,
        burn: int = 20,
        seed: int = 0,
    ) -> None:
        if space not in ("input", "model"):
            raise ValueError(f"space: {space!r} is neither 'input' nor 'model'")
        if atoms != "silhouette" and (isinstance(atoms, str) or atoms < 2):
            raise ValueError(f"atoms: {atoms}; take 2 or more, or silhouette")
        for name, least, value in (
            ("chains", 1, chains),
            ("sweeps", 1, sweeps),
            ("burn", 0, burn),
        ):
            if value < least:
                raise ValueError(f"{name}: {value} must be {least} or more")
        if not 0 < clip_weight <= 1:
            raise ValueError(f"clip_weight: {clip_weight} is outside 0..1")
        if not 0 < temperature < np.inf:
            raise ValueError(f"temperature: {temperature} must be positive and finite")
        for name, number in (("session", session), ("person", person), ("lone", lone), ("initial", initial)):
            if not 0 <= number < np.inf:
                raise ValueError(f"{name}: {number} must be 0 or more and finite")
        self.atoms, self.space, self.clip_weight, self.session = atoms, space, clip_weight, session
        self.prior, self.initial = Prior(temperature, person, lone), initial
        self.chains, self.sweeps, self.burn, self.seed = chains, sweeps, burn, seed
        self._plda: dict[Modality, Plda] = {}
        self._used, self._why = space, "people were not calibrated: no reference people were given"

    @property
    def needs_reference(self) -> bool:
        return True

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self._plda, self._why = {}, ""
        sides = {"voice": reference.voices, "face": reference.faces}
        given = all("input" in spaces for spaces in sides.values())
        self._used = "input" if self.space == "input" and given else "model"
        try:
            if not len(reference):
                raise DegenerateInput("no reference people were given")
            self._plda = {
                m: fit_plda(checked(sides[m][self._used], m, self._used), reference.identity, m) for m in MODALITIES
            }
        except DegenerateInput as reason:
            self._why = str(reason)

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one cell.

        The trace holds ``space``; ``atoms`` by modality; ``people`` and ``people_sd``, the mean number drawn and its
        standard deviation; where they were ``counted`` beforehand, that number, too.
        """
        try:
            return self._refine(cell)
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))

    def _refine(self, cell: ScoredCell) -> Refined:
        initial = initial_distances(cell)
        if not self._plda:
            raise DegenerateInput(self._why)
        learnt, points = comparable(shared_space(cell), "cosine"), embeddings(cell, self._used)
        labels: dict[Modality, NDArray[np.int64]] = {}
        sides: dict[Modality, Atoms] = {}
        trace: dict[str, Any] = {"space": self._used}
        if isinstance(self.atoms, str):
            counted = trace["counted"] = count_people(points, self.seed)
            if counted > _MOST_PEOPLE:
                raise DegenerateInput(f"some {counted} people are too many to sample ({_MOST_PEOPLE}); set atoms")
            atoms = round(_ATOMS_PER_PERSON * counted)
        else:
            atoms = self.atoms
        for m in MODALITIES:
            centred = self._plda[m](points[m], m)
            labels[m] = cut(centred, atoms, self.seed)
            sides[m] = describe(centred, labels[m], self._plda[m], self.clip_weight, self.session)
        posterior, people = sample_people(
            (sides["voice"], sides["face"]), centred_similarity(learnt, labels), self.prior,
            chains=self.chains, sweeps=self.sweeps, burn=self.burn, heat=_HEAT, seed=self.seed,
        )  # fmt: skip
        p = posterior[labels["voice"][cell.voice_index], labels["face"][cell.face_index]]
        trace["atoms"] = {m: len(sides[m].count) for m in MODALITIES}
        trace |= {"people": float(people.mean()), "people_sd": float(people.std())}
        return Refined(-np.log(p + _FLOOR) + self.initial * initial, trace)


def cut(x: NDArray[np.float64], atoms: int, seed: int) -> NDArray[np.int64]:
    """Labels (n,) of pure clusters of unit embeddings, numbered by what is in them and not by the order of the rows."""
    if len(x) <= atoms:
        labels = np.arange(len(x))
    elif len(x) <= LARGEST_TREE:
        from scipy.cluster.hierarchy import fcluster, linkage

        labels = fcluster(linkage(x, "average", metric="cosine"), atoms, "maxclust") - 1
    else:
        _, micro = np.unique(kmeans(x, _MICRO, seed=seed, n_init=1, n_iter=5).labels, return_inverse=True)
        labels = link(cluster_means(x, micro), np.bincount(micro), atoms)[micro]
    _, labels = np.unique(labels, return_inverse=True)
    rank = np.argsort(np.lexsort(cluster_means(x, labels).T[::-1]))
    return rank[labels]


def link(means: NDArray[np.float64], sizes: NDArray[np.int64], clusters: int) -> NDArray[np.int64]:
    """Average linkage of clusters of unit embeddings, as if all their items had been linked; labels (n,), with gaps.

    The mean cosine of the items of two clusters is the product of their means (not scaled to unit length).

    Args:
        means: (n, d).
        sizes: (n,) items of each.
        clusters: how many to leave, at most.
    """
    weight, labels = sizes.astype(np.float64), np.arange(len(means))
    similarity = means @ means.T
    np.fill_diagonal(similarity, -np.inf)
    for _ in range(len(means) - clusters):
        i, j = np.unravel_index(similarity.argmax(), similarity.shape)
        joined = (weight[i] * similarity[i] + weight[j] * similarity[j]) / (weight[i] + weight[j])
        similarity[i] = similarity[:, i] = joined  # -inf with itself and with all that were joined before
        similarity[j] = similarity[:, j] = -np.inf
        weight[i] += weight[j]
        labels[labels == j] = i
    return labels


def describe(
    x: NDArray[np.float64], labels: NDArray[np.int64], plda: Plda, clip_weight: float, session: float
) -> Atoms:
    """Atoms of one modality from centred unit embeddings; n clips count w n / (1 + session w n), w the clip weight."""
    clips = clip_weight * np.bincount(labels)
    count = clips / (1 + session * clips)
    width = x.shape[1]
    total = cluster_means(x, labels) * (count * np.sqrt(width / plda.within))[:, None]
    return Atoms(total @ total.T, count, plda.ratio, width)


def centred_similarity(learnt: Embeddings, labels: dict[Modality, NDArray[np.int64]]) -> NDArray[np.float64]:
    """Mean similarity (voice atoms, face atoms), freed of atoms that resemble everything.

    Means over rows and columns weigh an atom by the root of its size: a large one is known better, but is no more
    people.
    """
    blocks = cluster_means(learnt["voice"], labels["voice"]) @ cluster_means(learnt["face"], labels["face"]).T
    a, b = (np.sqrt(np.bincount(labels[m])) for m in MODALITIES)
    a, b = a / a.sum(), b / b.sum()
    return blocks - (blocks @ b)[:, None] - a @ blocks + a @ blocks @ b
