"""Adds the probability of the same gender, as estimated or by a probe of training identities. Not from the papers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from datamodules.schema import ATTRIBUTES, MODALITIES, Modality, ScoredCell
from postproc.cells import ESTIMATES, DegenerateInput, Embeddings, embeddings, unit
from postproc.memory import Memory
from postproc.reference import Reference
from postproc.steps.terms import PairTerm

_LEAST = 2  # identities of each gender that a probe needs
_FEMALE = ATTRIBUTES.index("female")

Probes = dict[Modality, NDArray[np.float64] | None]
"""By modality the weights of a logistic regression (d + 1,) for P(male), the offset last; None where that is given."""


@dataclass(frozen=True)
class SameGender:
    """Log(2 P(same gender)) of the pairs of a test condition."""

    genders: Genders
    floor: float

    def __call__(self, cell: ScoredCell) -> NDArray[np.float64]:
        """(t,) by trial, 0 where nothing is known."""
        p = self.genders(cell)
        return same_gender_ratio(p["voice"][cell.voice_index], p["face"][cell.face_index], self.floor)

    def trace(self, cell: ScoredCell) -> dict[str, Any]:
        """The ``space`` that probes read, modalities that are ``estimated``, and the ``confidence`` of each."""
        confidence = {m: float(np.maximum(p, 1 - p).mean()) for m, p in self.genders(cell).items()}
        estimated = [m for m in MODALITIES if self.genders.models[m] is None]
        return {"space": self.genders.space, "confidence": confidence} | ({"estimated": estimated} if estimated else {})


class GenderProbe(PairTerm):
    """Shifts a distance by how likely voice and face have the same gender.

    Where the index of a feature file has a column ``female``, as encoders of age and gender write it, that is the
    probability. Else a logistic regression learns M/F from the identities of the reference, with equal weights. With
    the probabilities p and q of one gender, ``P(same) = p q + (1 - p) (1 - q)`` and the distance becomes
    ``d - weight * log(2 P(same))``. See :class:`postproc.steps.terms.PairTerm` for the weight.

    Args:
        weight: of the shift; ``calibrate`` = chosen by cross-validation.
        space: embeddings the probe reads; ``input`` falls back to ``model`` where there are none.
        regularisation: inverse strength C of the L2 penalty, for embeddings of unit length.
        floor: smallest P(same), so that gender does not rule out a pair.
        seed: of folds and test sets.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        weight: float | Literal["calibrate"] = "calibrate",
        space: Literal["input", "model"] = "input",
        regularisation: float = 10.0,
        floor: float = 0.02,
        seed: int = 0,
    ) -> None:
        super().__init__(weight, seed)
        if space not in ("input", "model"):
            raise ValueError(f"space: {space!r} is neither 'input' nor 'model'")
        if not 0 < regularisation < np.inf:
            raise ValueError(f"regularisation: {regularisation} must be positive")
        if not 0 < floor < 0.5:
            raise ValueError(f"floor: {floor} is outside 0..0.5")
        self.space, self.regularisation, self.floor = space, regularisation, floor

    def known(self, reference: Reference) -> Reference:
        return reference if all(has_genders(reference).values()) else reference.rows(reference.gender != "")

    def learn(self, reference: Reference) -> SameGender:
        space = "input" if self.space == "input" and "input" in reference.voices else "model"
        return SameGender(fit_genders(reference, space, self.regularisation, memory=self.memory), self.floor)


@dataclass(frozen=True)
class Genders:
    """P(male) of voices and faces, estimated or by probes; no models where there were too few identities."""

    models: Probes = field(default_factory=dict)
    space: str = "model"

    def __call__(self, cell: ScoredCell) -> Embeddings:
        """P(male) of every voice (n,) and face (m,), one half where unknown.

        Raises:
            DegenerateInput: there are no models, or the test condition lacks what they read.
        """
        if not self.models:
            raise DegenerateInput("no reference genders to fit a probe; give data.genders")
        probed = [m for m in MODALITIES if self.models[m] is not None]
        points = embeddings(cell, self.space) if probed else {}
        male: Embeddings = {}
        for m, spaces in zip(MODALITIES, (cell.voices, cell.faces), strict=True):
            probe = self.models[m]
            if probe is not None:
                male[m] = expit((points[m] @ probe[:-1, None] + probe[-1]).ravel())
            elif ESTIMATES in spaces:
                female = np.asarray(spaces[ESTIMATES][:, _FEMALE], float)
                male[m] = np.where(np.isnan(female), 0.5, 1 - female)
            else:
                raise DegenerateInput(
                    f"{m}s of training identities have estimated genders, those of the test condition have not; embed "
                    "both alike"
                )
        return male

    def labels(self, cell: ScoredCell) -> dict[Modality, NDArray[np.int64]]:
        """1 = male, 0 = female of every voice (n,) and face (m,).

        Raises:
            DegenerateInput: as above, or all of a modality are of one gender.
        """
        by_modality = {m: (male > 0.5).astype(np.int64) for m, male in self(cell).items()}
        for m, labels in by_modality.items():
            if len(np.unique(labels)) < 2:
                raise DegenerateInput(f"{m} gender: the probe assigns all {len(labels)} to one gender")
        return by_modality


def learn_genders(reference: Reference, memory: Memory) -> Genders:
    """Genders as estimated, or by probes of ``input`` embeddings if the reference has them; else no models."""
    space = "input" if all("input" in spaces for spaces in (reference.voices, reference.faces)) else "model"
    try:
        return fit_genders(reference, space, memory=memory)
    except DegenerateInput:
        return Genders()


def fit_genders(reference: Reference, space: str, regularisation: float = 10.0, *, memory: Memory) -> Genders:
    """Genders as estimated, or by probes of M against F; identities of a gender weigh alike, and so do the genders.

    Args:
        reference: training identities; clips of unknown gender tell a probe nothing.
        space: of the embeddings that probes read.
        regularisation: inverse strength C of the L2 penalty.
        memory: keeps the probes.

    Raises:
        DegenerateInput: a modality without estimates, and too few identities of known gender.
    """
    estimated = has_genders(reference)
    known = reference.rows(reference.gender != "")
    models: Probes = dict.fromkeys(MODALITIES)
    if all(estimated.values()):
        return Genders(models, space)
    if why := too_few(known):
        raise DegenerateInput(why)
    _, code, count = np.unique(known.identity, return_inverse=True, return_counts=True)
    weights = 1 / count[code]
    male = known.gender == "M"
    weights = weights * np.where(male, 0.5 / weights[male].sum(), 0.5 / weights[~male].sum()) * len(count)

    def fit(x: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        model = LogisticRegression(C=regularisation, max_iter=1000).fit(x, male, sample_weight=weights)
        return [np.append(model.coef_[0], model.intercept_)]

    for m, spaces in zip(MODALITIES, (known.voices, known.faces), strict=True):
        if not estimated[m]:
            x = unit(np.asarray(spaces[space], dtype=np.float64))
            (models[m],) = memory.recall(f"gender probe {regularisation}", [x, male, weights], partial(fit, x))
    return Genders(models, space)


def has_genders(reference: Reference) -> dict[Modality, bool]:
    """Whether a modality has estimated genders."""
    sides = zip(MODALITIES, (reference.voices, reference.faces), strict=True)
    return {m: ESTIMATES in of and bool(np.isfinite(of[ESTIMATES][:, _FEMALE]).any()) for m, of in sides}


def same_gender_ratio(p: NDArray[np.float64], q: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Log(2 P(same gender)) of pairs, from P(male) of their voices and faces; 0 where nothing is known."""
    return np.log(2 * np.clip(p * q + (1 - p) * (1 - q), floor, 1 - floor))


def too_few(known: Reference) -> str:
    """Why no probe can be fitted, or "" if one can."""
    for gender, name in (("M", "male"), ("F", "female")):
        identities = len(np.unique(known.identity[known.gender == gender]))
        if identities < _LEAST:
            return f"{identities} {name} reference identities, a probe needs {_LEAST}; give data.genders"
    return ""
