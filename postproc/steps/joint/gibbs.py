"""Gibbs sampling of partitions of sub-clusters of voices and faces into identities. Not from the papers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postproc.steps.joint.plda import log_evidence

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SubClusters:
    """The sub-clusters of one modality. All clips of a sub-cluster have the same identity.

    Attributes:
        gram: (a, a) dot products of the sub-clusters' sums of clips, scaled as ``square`` of :func:`log_evidence`.
        count: (a,) effective number of clips of each.
        ratio: as :func:`log_evidence`.
        width: as :func:`log_evidence`.
    """

    gram: Array
    count: Array
    ratio: float
    width: int


@dataclass(frozen=True)
class Prior:
    """Prior over partitions into identities, and the scale of the similarity between modalities.

    Attributes:
        temperature: mean similarity of an identity's voices and faces, divided by this, is a log-likelihood ratio.
        identity_cost: subtracted from the log-weight for every identity.
        unpaired_cost: subtracted for every identity with voices but no faces, or faces but no voices.
    """

    temperature: float
    identity_cost: float
    unpaired_cost: float


class _Chains:
    """One partition of all sub-clusters into identities per chain, and the sums that its weight needs.

    Arrays have axes (side, chain, identity); side 0 is voices, side 1 faces. Unused identities are empty.
    """

    def __init__(
        self, sides: tuple[SubClusters, SubClusters], similarity: Array, prior: Prior, chains: int, seed: int
    ) -> None:
        self.sides, self.prior, self.rng = sides, prior, np.random.default_rng(seed)
        weight = sides[0].count[:, None] * similarity * sides[1].count
        self.weight = (weight, weight.T)
        self.chain = np.arange(chains)
        identities = max(len(s.count) for s in sides) + 1
        self.identity = [self._order(len(s.count)) for s in sides]
        self.member = [np.eye(identities)[identity] for identity in self.identity]
        self.count = np.stack([s.count @ m for s, m in zip(sides, self.member, strict=True)])
        self.square = np.stack(
            [np.einsum("cap,ab,cbp->cp", m, s.gram, m, optimize=True) for s, m in zip(sides, self.member, strict=True)]
        )
        self.evidence = np.stack([self._evidence(side, self.square[side], self.count[side]) for side in (0, 1)])
        self.cross = np.einsum("cpp->cp", self._blocks()).copy()

    def sweep(self, heat: float) -> None:
        """Draws the identity of every sub-cluster once, then lets pairs of identities exchange their faces."""
        for side in (0, 1):
            for a in self._order(len(self.sides[side].count)).T:
                self._move(side, a, heat)
        self._exchange_faces(heat)

    def occupied(self) -> NDArray[np.bool_]:
        """(chain, identity) whether an identity has any sub-cluster."""
        return np.asarray((self.count > 0).any(axis=0))

    def _order(self, size: int) -> Index:
        """A random order (chains, size) for each chain."""
        return self.rng.permuted(np.tile(np.arange(size), (len(self.chain), 1)), axis=1)

    def _blocks(self) -> Array:
        """Sums of similarity (chain, p, q) of the voices of p and the faces of q."""
        return np.swapaxes(self.member[0], 1, 2) @ self.weight[0] @ self.member[1]

    def _match(self, voices: Array, faces: Array, cross: Array) -> Array:
        """Log-weight (chain, identity) without the evidence, from effective numbers of clips; 0 for an empty one."""
        both, some = (voices > 0) & (faces > 0), (voices > 0) | (faces > 0)
        mean = cross / np.where(both, voices * faces, np.inf)
        prior = self.prior
        weight: Array = mean / prior.temperature - prior.identity_cost * some - prior.unpaired_cost * (some & ~both)
        return weight

    def _evidence(self, side: int, square: Array, count: Array) -> Array:
        return log_evidence(square, count, self.sides[side].ratio, self.sides[side].width)

    def _move(self, side: int, a: Index, heat: float) -> None:
        """Gibbs step: draws the identity of sub-cluster a[c] in chain c, given those of all others."""
        clusters, c, old = self.sides[side], self.chain, self.identity[side][self.chain, a]
        member, count, square, evidence = self.member[side], self.count[side], self.square[side], self.evidence[side]
        # take it out of its identity
        joined = self._sums(self.weight[side][a], 1 - side)
        member[c, a, old] = 0
        near = self._sums(clusters.gram[a], side)
        near[c, old] -= clusters.gram[a, a]
        left = member[c, :, old].any(axis=1)  # an empty identity has exact zeros, not what rounding left
        count[c, old] = (count[c, old] - clusters.count[a]) * left
        square[c, old] = (square[c, old] - 2 * near[c, old] - clusters.gram[a, a]) * left
        evidence[c, old] = self._evidence(side, square[c, old], count[c, old])
        self.cross[c, old] -= joined[c, old]
        # the log-weight of putting it into each identity
        then = count + clusters.count[a][:, None], square + 2 * near + clusters.gram[a, a][:, None], self.cross + joined
        evidence_then = self._evidence(side, then[1], then[0])
        others = self.count[1 - side]
        gain = evidence_then - evidence + self._match(then[0], others, then[2]) - self._match(count, others, self.cross)
        empty = (count == 0) & (others == 0)
        empty[c, empty.argmax(axis=1)] = False  # one empty identity stands for all of them
        new = np.where(empty, -np.inf, gain / heat + self.rng.gumbel(size=gain.shape)).argmax(axis=1)
        self.identity[side][c, a] = new
        member[c, a, new] = 1
        for current, x in zip((count, square, self.cross, evidence), (*then, evidence_then), strict=True):
            current[c, new] = x[c, new]

    def _sums(self, values: Array, side: int) -> Array:
        """Sums (chain, identity) of values (chain, sub-cluster) of one side."""
        chains, identities = self.cross.shape
        index = self.identity[side] + identities * self.chain[:, None]
        sums = np.bincount(index.ravel(), values.ravel(), chains * identities)
        return sums.astype(np.float64, copy=False).reshape(chains, identities)

    def _exchange_faces(self, heat: float) -> None:
        """Metropolis steps: two identities exchange all their faces, unless that leaves one of them empty."""
        c, blocks, some = self.chain, self._blocks(), self.occupied()
        (voices, faces), row = self.count, self.chain[:, None]
        for _ in range(2 * int(some.sum(axis=1).max())):
            pair = np.argsort(np.where(some, self.rng.random(some.shape), -1.0), axis=1)[:, -2:]
            turned = pair[:, ::-1]
            v, f, g = voices[row, pair], faces[row, pair], faces[row, turned]
            gain = self._match(v, g, blocks[row, pair, turned]) - self._match(v, f, blocks[row, pair, pair])
            swap = np.log(self.rng.random(len(c))) < gain.sum(axis=1) / heat
            swap &= ((v + f > 0) & (v + g > 0)).all(axis=1)
            d, (i, j) = c[swap], pair[swap].T
            for x in (faces, self.square[1], self.evidence[1]):
                x[d, i], x[d, j] = x[d, j], x[d, i]
            for y in (self.member[1], blocks):
                y[d, :, i], y[d, :, j] = y[d, :, j], y[d, :, i]
        self.identity[1] = self.member[1].argmax(axis=2)
        self.cross = np.einsum("cpp->cp", blocks).copy()


def sample_identities(
    sides: tuple[SubClusters, SubClusters],
    similarity: Array,
    prior: Prior,
    *,
    chains: int,
    sweeps: int,
    burn_in: int,
    heat: float,
    seed: int,
) -> tuple[Array, Array]:
    """The posterior probability that a voice sub-cluster and a face sub-cluster have the same identity.

    The log-weight of a partition is the sum over identities of: the :func:`log_evidence` of its voices and of its
    faces, the mean similarity between the two divided by the temperature, and the prior. At the start each sub-cluster
    is an identity by itself, joined with a random one of the other modality. The chains are cooled from ``heat`` to 1
    during the first four fifths of ``burn_in``. All chains advance together. A sweep costs O(chains * (a^2 + b^2)),
    whatever the number of clips. There are at most max(a, b) + 1 identities.

    Args:
        sides: sub-clusters of voices (a,) and of faces (b,).
        similarity: (a, b) mean similarity of the clips of two sub-clusters, 0 where nothing is known.
        prior: over partitions.
        chains: number of independent chains.
        sweeps: over all sub-clusters, after the burn-in.
        burn_in: sweeps before, which are not counted.
        heat: temperature at the start.
        seed: of everything.

    Returns:
        Posterior (a, b), and the number of identities (chains, sweeps).
    """
    state = _Chains(sides, similarity, prior, chains, seed)
    for sweep in range(burn_in):
        state.sweep(max(1.0, heat * (1 - sweep / (0.8 * burn_in))))
    posterior, identities = np.zeros(similarity.shape), np.zeros((chains, sweeps))
    for sweep in range(sweeps):
        state.sweep(1.0)
        voices, faces = state.member
        posterior += np.tensordot(voices, faces, axes=((0, 2), (0, 2)))
        identities[:, sweep] = state.occupied().sum(axis=1)
    return posterior / (chains * sweeps), identities
