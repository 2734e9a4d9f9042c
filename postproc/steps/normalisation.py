"""Normalisation of scores by what an item has in common with all others: centring, AS-norm. Not from the papers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, ScoredCell
from postproc.cells import DegenerateInput, checked, cosine_distances, initial_distances, shared_space
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, unchanged

_CHUNK = 1 << 12  # items compared with the cohort at once


class Centring(Refinement):
    """Subtracts the mean over the test set from voices and from faces, and scores by cosine again.

    The mean of a test set differs from that of training (another language, other cameras). Transductive. It replaces
    the distances and hands the centred embeddings to the steps after it; put it first.

    Args:
        strength: share of the test set's mean that is subtracted, 0..1; 0 only scores by cosine again.

    Raises:
        ValueError: strength outside 0..1.
    """

    assumes_identities = False

    def __init__(self, strength: float = 0.5) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"strength: {strength} is outside 0..1")
        self.strength = strength

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition; the trace holds ``shift``, the length of each modality's mean."""
        try:
            initial_distances(cell)
            learnt = shared_space(cell)
            means = {m: learnt[m].mean(axis=0) for m in MODALITIES}
            for m in MODALITIES:
                learnt[m] = checked(learnt[m] - self.strength * means[m], m, "centred")
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))
        distances = cosine_distances(learnt, cell.voice_index, cell.face_index)
        shift = {m: float(np.linalg.norm(means[m])) for m in MODALITIES}
        return Refined(distances, {"strength": self.strength, "shift": shift}, learnt)


class ASNorm(Refinement):
    """Adaptive symmetric normalisation: distances relative to those to the most similar clips of a cohort.

    The cohort is the reference. A voice is compared with the cohort's faces and a face with its voices, by cosine in
    the learnt space; of the ``top`` smallest distances of each the mean and the standard deviation are taken, and
    ``d' = ((d - mean_v) / sd_v + (d - mean_f) / sd_f) / 2``. Inductive. The distances must be 1 - cosine: put it
    first.

    Args:
        top: number of nearest cohort clips used.

    Raises:
        ValueError: fewer than 2.
    """

    assumes_identities = False

    def __init__(self, top: int = 200) -> None:
        if top < 2:
            raise ValueError(f"top: {top} cohort clips have no spread; take 2 or more")
        self.top = top
        self._cohort: Reference | None = None

    @property
    def needs_reference(self) -> bool:
        return True

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self._cohort = reference

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition; the trace holds ``top`` and the size of the ``cohort``."""
        if self._cohort is None or len(self._cohort) < 2:
            return unchanged(cell, "AS-norm has no cohort: no reference identities were given")
        top = min(self.top, len(self._cohort))
        try:
            initial = initial_distances(cell)
            learnt = shared_space(cell)
            cohort = {
                "voice": checked(self._cohort.faces["model"], "cohort face", "model"),
                "face": checked(self._cohort.voices["model"], "cohort voice", "model"),
            }
            statistics = [_nearest(learnt[m], cohort[m], top) for m in MODALITIES]
            if min(float(sd.min()) for _, sd in statistics) <= 1e-9:
                raise DegenerateInput(f"an item is equally far from its {top} nearest cohort clips")
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))
        (mv, sv), (mf, sf) = statistics
        v, f = cell.voice_index, cell.face_index
        refined = ((initial - mv[v]) / sv[v] + (initial - mf[f]) / sf[f]) / 2
        return Refined(refined, {"top": top, "cohort": len(self._cohort)})


def _nearest(
    x: NDArray[np.float64], cohort: NDArray[np.float64], top: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (n,) of the ``top`` smallest cosine distances to the cohort."""
    means, sds = np.empty(len(x)), np.empty(len(x))
    for start in range(0, len(x), _CHUNK):
        rows = slice(start, start + _CHUNK)
        nearest = np.partition(1 - x[rows] @ cohort.T, top - 1, axis=1)[:, :top]
        means[rows], sds[rows] = nearest.mean(axis=1), nearest.std(axis=1)
    return means, sds
