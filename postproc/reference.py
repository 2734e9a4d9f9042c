"""Embedded clips of training and validation identities, from which a refinement may learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postproc.cells import ESTIMATES


@dataclass(frozen=True, eq=False)
class Reference:
    """Clips of identities that are not in the test set. Row i of all arrays is the same clip.

    Attributes:
        voices: embeddings (n, d) by space: ``model``, and ``input`` where there are encoder embeddings; estimated
            attributes (n, 2) as in :class:`datamodules.schema.ScoredCell`.
        faces: the same for faces.
        identity: (n,) identity.
        language: (n,) language spoken, "" where unknown.
        gender: (n,) "M"/"F", "" where unknown.
        seen: (n,) whether the model was trained on the identity; False for validation identities.
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
        """The clips of some rows."""
        voices, faces = ({s: x[keep] for s, x in spaces.items()} for spaces in (self.voices, self.faces))
        return Reference(voices, faces, self.identity[keep], self.language[keep], self.gender[keep], self.seen[keep])

    def finite(self) -> Reference:
        """The clips without NaN or inf; warns if some are left out."""
        arrays = [x for spaces in (self.voices, self.faces) for space, x in spaces.items() if space != ESTIMATES]
        keep = np.logical_and.reduce([np.isfinite(x).all(axis=1) for x in arrays])
        if keep.all():
            return self
        warnings.warn(
            f"{(~keep).sum()} of {len(self)} clips of training identities have NaN or inf: left out", stacklevel=2
        )
        return self.rows(keep)

    def folds(self, count: int, seed: int) -> list[NDArray[np.str_]]:
        """The identities in ``count`` disjoint groups, with the genders spread as evenly as possible."""
        rng = np.random.default_rng(seed)
        identities, first = np.unique(self.identity, return_index=True)
        gender = self.gender[first]
        order = rng.permutation(len(identities))
        order = order[np.argsort(gender[order], kind="stable")]
        return [np.sort(identities[order[fold::count]]) for fold in range(count)]


def join(parts: Sequence[Reference]) -> Reference:
    """The clips of several references, one after the other."""
    sides = [[getattr(part, side) for part in parts] for side in ("voices", "faces")]
    voices, faces = ({space: np.concatenate([x[space] for x in side]) for space in side[0]} for side in sides)
    names = ("identity", "language", "gender", "seen")
    return Reference(voices, faces, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))
