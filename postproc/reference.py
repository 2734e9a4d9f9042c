"""What training people may tell a refinement, and practice test sets made of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Reference:
    """Clips of people that are not in the test set. Row i of all arrays is the same clip.

    Attributes:
        voices: embeddings (n, d) by space: ``model``, and ``input`` where there are encoder embeddings.
        faces: the same for faces.
        identity: (n,) person.
        language: (n,) language spoken, "" where unknown.
        gender: (n,) "M"/"F", "" where unknown.
        seen: (n,) whether the model learnt from the person; it has not seen those it was validated on.
    """

    voices: dict[str, NDArray[np.floating]]
    faces: dict[str, NDArray[np.floating]]
    identity: NDArray[np.str_]
    language: NDArray[np.str_]
    gender: NDArray[np.str_]
    seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.identity)

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Reference:
        """Some of the clips."""
        voices, faces = ({s: x[keep] for s, x in spaces.items()} for spaces in (self.voices, self.faces))
        return Reference(voices, faces, self.identity[keep], self.language[keep], self.gender[keep], self.seen[keep])

    def finite(self) -> Reference:
        """The clips without NaN or infinity, with a warning where some are left out."""
        arrays = [*self.voices.values(), *self.faces.values()]
        keep = np.logical_and.reduce([np.isfinite(x).all(axis=1) for x in arrays])
        if keep.all():
            return self
        warnings.warn(f"{(~keep).sum()} of {len(self)} clips of training people are not finite: left out", stacklevel=2)
        return self.rows(keep)

    def folds(self, count: int, seed: int) -> list[NDArray[np.str_]]:
        """The people in ``count`` disjoint groups, as many of each gender in each as possible."""
        rng = np.random.default_rng(seed)
        people, first = np.unique(self.identity, return_index=True)
        gender = self.gender[first]
        order = rng.permutation(len(people))
        order = order[np.argsort(gender[order], kind="stable")]
        return [np.sort(people[order[fold::count]]) for fold in range(count)]


def join(parts: Sequence[Reference]) -> Reference:
    """Clips of several, one after the other."""
    sides = [[getattr(part, side) for part in parts] for side in ("voices", "faces")]
    voices, faces = ({space: np.concatenate([x[space] for x in side]) for space in side[0]} for side in sides)
    names = ("identity", "language", "gender", "seen")
    return Reference(voices, faces, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))
