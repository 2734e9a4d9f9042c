"""Draws who is who: Gibbs sampling of people from small clusters (atoms) of voices and faces. Not from the papers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postproc.steps.joint.plda import evidence

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Atoms:
    """The atoms of one modality, each of one person.

    Attributes:
        gram: (a, a) dot products of the atoms' sums of clips, and ``count``: (a,) their clips, ``ratio`` and ``width``:
            all as :func:`postproc.steps.joint.plda.evidence` takes them.
    """

    gram: Array
    count: Array
    ratio: float
    width: int


@dataclass(frozen=True)
class Prior:
    """What is thought of people before a clip is seen.

    Attributes:
        temperature: the mean similarity of a person's voices and faces over this is a log-likelihood ratio.
        person: log-price of a person.
        lone: log-price of a person with voices but no faces, or faces but no voices.
    """

    temperature: float
    person: float
    lone: float


class _Chains:
    """Partitions of all atoms into people, one per chain, and the sums that their weight needs.

    Arrays have axes (side, chain, person); side 0 is voices, side 1 faces. Unused people are empty.
    """

    def __init__(self, sides: tuple[Atoms, Atoms], similarity: Array, prior: Prior, chains: int, seed: int) -> None:
        self.sides, self.prior, self.rng = sides, prior, np.random.default_rng(seed)
        weight = sides[0].count[:, None] * similarity * sides[1].count
        self.weight = (weight, weight.T)
        self.chain = np.arange(chains)
        people = max(len(s.count) for s in sides) + 1
        self.slot = [self._order(len(s.count)) for s in sides]
        self.member = [np.eye(people)[slot] for slot in self.slot]
        self.count = np.stack([s.count @ m for s, m in zip(sides, self.member, strict=True)])
        self.square = np.stack(
            [np.einsum("cap,ab,cbp->cp", m, s.gram, m, optimize=True) for s, m in zip(sides, self.member, strict=True)]
        )
        self.own = np.stack([self._evidence(side, self.square[side], self.count[side]) for side in (0, 1)])
        self.cross = np.einsum("cpp->cp", self._blocks()).copy()

    def sweep(self, heat: float) -> None:
        """Draws the person of every atom once, then lets pairs of people exchange their faces."""
        for side in (0, 1):
            for a in self._order(len(self.sides[side].count)).T:
                self._move(side, a, heat)
        self._exchange_faces(heat)

    def occupied(self) -> NDArray[np.bool_]:
        return np.asarray((self.count > 0).any(axis=0))

    def _order(self, atoms: int) -> Index:
        """A random order (chains, atoms) for each chain."""
        return self.rng.permuted(np.tile(np.arange(atoms), (len(self.chain), 1)), axis=1)

    def _blocks(self) -> Array:
        """Sums of similarity (chain, p, q) of the voices of p and the faces of q."""
        return np.swapaxes(self.member[0], 1, 2) @ self.weight[0] @ self.member[1]

    def _match(self, voices: Array, faces: Array, cross: Array) -> Array:
        """Log-weight (chain, person) of people but for their evidence, by their clips; an empty one has 0."""
        both, some = (voices > 0) & (faces > 0), (voices > 0) | (faces > 0)
        mean = cross / np.where(both, voices * faces, np.inf)
        return mean / self.prior.temperature - self.prior.person * some - self.prior.lone * (some & ~both)

    def _evidence(self, side: int, square: Array, count: Array) -> Array:
        return evidence(square, count, self.sides[side].ratio, self.sides[side].width)

    def _move(self, side: int, a: Index, heat: float) -> None:
        """Gibbs step: draws the person of atom a[c] in chain c anew, given all other atoms."""
        atoms, c, old = self.sides[side], self.chain, self.slot[side][self.chain, a]
        member, count, square, own = self.member[side], self.count[side], self.square[side], self.own[side]
        joined = self._sums(self.weight[side][a], 1 - side)
        member[c, a, old] = 0
        near = self._sums(atoms.gram[a], side)
        near[c, old] -= atoms.gram[a, a]
        left = member[c, :, old].any(axis=1)  # an empty person has exact zeros, not what rounding left
        count[c, old] = (count[c, old] - atoms.count[a]) * left
        square[c, old] = (square[c, old] - 2 * near[c, old] - atoms.gram[a, a]) * left
        own[c, old] = self._evidence(side, square[c, old], count[c, old])
        self.cross[c, old] -= joined[c, old]
        then = count + atoms.count[a][:, None], square + 2 * near + atoms.gram[a, a][:, None], self.cross + joined
        gained = self._evidence(side, then[1], then[0])
        others = self.count[1 - side]
        gain = gained - own + self._match(then[0], others, then[2]) - self._match(count, others, self.cross)
        empty = (count == 0) & (others == 0)
        empty[c, empty.argmax(axis=1)] = False  # one empty person stands for all of them
        new = np.where(empty, -np.inf, gain / heat + self.rng.gumbel(size=gain.shape)).argmax(axis=1)
        self.slot[side][c, a] = new
        member[c, a, new] = 1
        for now, x in zip((count, square, self.cross, own), (*then, gained), strict=True):
            now[c, new] = x[c, new]

    def _sums(self, values: Array, side: int) -> Array:
        """Sums (chain, person) of values (chain, atom) of one side over the atoms of each person."""
        chains, people = self.cross.shape
        person = self.slot[side] + people * self.chain[:, None]
        sums = np.bincount(person.ravel(), values.ravel(), chains * people)
        return sums.astype(np.float64, copy=False).reshape(chains, people)

    def _exchange_faces(self, heat: float) -> None:
        """Metropolis steps: two people exchange all their faces, unless that leaves one of them empty."""
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
            for x in (faces, self.square[1], self.own[1]):
                x[d, i], x[d, j] = x[d, j], x[d, i]
            for y in (self.member[1], blocks):
                y[d, :, i], y[d, :, j] = y[d, :, j], y[d, :, i]
        self.slot[1] = self.member[1].argmax(axis=2)
        self.cross = np.einsum("cpp->cp", blocks).copy()


def sample_people(
    sides: tuple[Atoms, Atoms],
    similarity: Array,
    prior: Prior,
    *,
    chains: int,
    sweeps: int,
    burn: int,
    heat: float,
    seed: int,
) -> tuple[Array, Array]:
    """The posterior of a voice atom and a face atom being of one person.

    A partition of all atoms into people has the log-weight of the :func:`evidence` of each person's voices and of their
    faces, of the mean similarity between the two, and of the prior. Chains start with every atom on its own beside
    a random one of the other side, and are cooled from ``heat`` to 1 over four fifths of ``burn``. All chains advance
    together; a sweep costs O(chains * atoms^2) whatever the number of clips. There are at most max(a, b) + 1 people.

    Args:
        sides: atoms of voices (a,) and of faces (b,).
        similarity: (a, b) mean similarity of the clips of two atoms, 0 where nothing is known.
        prior: of people.
        chains: independent chains.
        sweeps: over all atoms, after the burn-in.
        burn: sweeps before, which are not counted.
        heat: temperature at the start.
        seed: of everything.

    Returns:
        Posterior (a, b) and the number of people (chains, sweeps).
    """
    state = _Chains(sides, similarity, prior, chains, seed)
    for sweep in range(burn):
        state.sweep(max(1.0, heat * (1 - sweep / (0.8 * burn))))
    posterior, people = np.zeros(similarity.shape), np.zeros((chains, sweeps))
    for sweep in range(sweeps):
        state.sweep(1.0)
        voices, faces = state.member
        posterior += np.tensordot(voices, faces, axes=((0, 2), (0, 2)))
        people[:, sweep] = state.occupied().sum(axis=1)
    return posterior / (chains * sweeps), people
