"""Adds how close the estimated ages of voice and face are. Not from the papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ATTRIBUTES, MODALITIES, Modality, ScoredCell
from postproc.cells import ESTIMATES, DegenerateInput, Embeddings
from postproc.reference import Reference
from postproc.steps.terms import PairTerm

_AGE = ATTRIBUTES.index("age")
_LEAST = 4  # identities whose ages tell how a modality's estimates vary


@dataclass(frozen=True)
class Ages:
    """How estimated ages of a modality vary over training identities: voices and faces may be off in other ways.

    Attributes:
        scale: by modality, mean and standard deviation in years over the means of identities.
        apart: mean distance of the ages of a voice and a face of two identities, in standard deviations.
    """

    scale: dict[Modality, tuple[float, float]]
    apart: float

    def __call__(self, cell: ScoredCell) -> Embeddings:
        """Ages of voices (n,) and faces (m,) in standard deviations from the mean; NaN where unknown.

        Raises:
            DegenerateInput: a modality has no estimated ages.
        """
        ages = _ages(cell.voices, cell.faces, "the test condition")
        return {m: (ages[m] - mean) / deviation for m, (mean, deviation) in self.scale.items()}


def learn_ages(reference: Reference) -> Ages:
    """The scales of both modalities.

    Raises:
        DegenerateInput: no ages, or ages of fewer than four identities, or all alike.
    """
    names, means = np.unique(reference.identity), {}
    scale: dict[Modality, tuple[float, float]] = {}
    for m, ages in _ages(reference.voices, reference.faces, "the training identities").items():
        known = np.isfinite(ages)
        code = np.searchsorted(names, reference.identity[known])
        count = np.bincount(code, minlength=len(names))
        with np.errstate(invalid="ignore"):
            means[m] = np.bincount(code, weights=ages[known], minlength=len(names)) / count  # NaN where unknown
        of = means[m][count > 0]
        if len(of) < _LEAST or not of.std() > 0:
            raise DegenerateInput(f"{len(of)} training identities have estimated {m} ages that differ, {_LEAST} needed")
        scale[m] = float(of.mean()), float(of.std())
    z = {m: (means[m] - mean) / deviation for m, (mean, deviation) in scale.items()}
    gaps = np.abs(z["voice"][:, None] - z["face"])
    apart = np.nanmean(gaps[~np.eye(len(names), dtype=bool)])
    return Ages(scale, float(apart))


@dataclass(frozen=True)
class SimilarAge:
    """How much closer in age voice and face are than those of two people: ``apart - |z_voice - z_face|``."""

    ages: Ages

    def __call__(self, cell: ScoredCell) -> NDArray[np.float64]:
        """(t,) by trial, 0 where an age is unknown."""
        z = self.ages(cell)
        gap = np.abs(z["voice"][cell.voice_index] - z["face"][cell.face_index])
        return np.where(np.isfinite(gap), self.ages.apart - gap, 0.0)

    def trace(self, cell: ScoredCell) -> dict[str, Any]:
        """``known``: fraction of each modality whose age was estimated."""
        return {"known": {m: float(np.isfinite(z).mean()) for m, z in self.ages(cell).items()}}


class AgeMatch(PairTerm):
    """Shifts a distance by how close the estimated ages of voice and face are.

    The ages are columns ``age`` of the indexes of both feature files, as encoders of age and gender write them. Each
    modality's are scaled by their mean and standard deviation over training identities. With z of voice and face, the
    distance becomes ``d - weight * (apart - |z_voice - z_face|)``, where ``apart`` is the mean gap of two people. See
    :class:`postproc.steps.terms.PairTerm` for the weight.

    Args:
        weight: of the term; ``calibrate`` = chosen by cross-validation.
        seed: of folds and test sets.

    Raises:
        ValueError: an option out of range.
    """

    def learn(self, reference: Reference) -> SimilarAge:
        return SimilarAge(learn_ages(reference))


def has_ages(voices: dict[str, NDArray[np.floating]], faces: dict[str, NDArray[np.floating]]) -> bool:
    """Whether some voice and some face have an estimated age."""
    return all(ESTIMATES in of and np.isfinite(of[ESTIMATES][:, _AGE]).any() for of in (voices, faces))


def _ages(voices: dict[str, NDArray[np.floating]], faces: dict[str, NDArray[np.floating]], whose: str) -> Embeddings:
    if not has_ages(voices, faces):
        raise DegenerateInput(
            f"{whose} have no estimated ages of both voices and faces; embed both with an encoder of age and gender"
        )
    return {m: np.asarray(of[ESTIMATES][:, _AGE], float) for m, of in zip(MODALITIES, (voices, faces), strict=True)}
