"""From a distance to the chance that a voice and a face are of the same person."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datamodules.schema import DataError

CALIBRATION = "calibration"
"""Its key in checkpoints and in the config of exports."""


@dataclass(frozen=True)
class Curve:
    """A logistic curve over distances that never rises.

    Attributes:
        slope: by how much the log-odds of the same person fall with each unit of distance, at least 0.
        centre: the distance at which the chance is a half.
    """

    slope: float
    centre: float


@dataclass(frozen=True)
class Calibration:
    """What distances meant on validation identities, for pairs of which half are of one person.

    Attributes:
        curve: against pairs of any two people.
        same_gender: against pairs of two people of one gender; None where there were none, or genders are unknown.
        nearest: the smallest distance there. One below it means no more than this.
        farthest: the largest.
        identities: number of validation identities.
    """

    curve: Curve
    same_gender: Curve | None
    nearest: float
    farthest: float
    identities: int

    def chances(self, distances: ArrayLike, same_gender: bool = False) -> NDArray[np.float64] | None:
        """Chance that each pair is of the same person, before anything else is known of it: half of the pairs are.

        Args:
            distances: (...) distances, lower = same person.
            same_gender: whether the two are known to be of one gender.

        Returns:
            (...) from 0 to 1; None where nothing is known of pairs of one gender.
        """
        curve = self.same_gender if same_gender else self.curve
        if curve is None:
            return None
        within = np.clip(np.asarray(distances, dtype=np.float64), self.nearest, self.farthest)
        return np.asarray(1 / (1 + np.exp(np.clip(curve.slope * (within - curve.centre), -500, 500))))

    def plain(self) -> dict[str, Any]:
        """As plain values, for checkpoints and YAML."""
        return asdict(self)


def read_calibration(record: Any, path: str) -> Calibration | None:
    """Reads back :meth:`Calibration.plain`; None where there is none.

    Args:
        record: of a checkpoint or an export.
        path: of the file, for the error.

    Raises:
        DataError: damaged.
    """
    if record is None:
        return None
    try:
        curves = [None if record[key] is None else Curve(**record[key]) for key in ("curve", "same_gender")]
        values = [record["nearest"], record["farthest"], *(x for c in curves if c for x in (c.slope, c.centre))]
        right = all(isinstance(x, float) and np.isfinite(x) for x in values) and set(record) == set(
            Calibration.__dataclass_fields__
        )
        right &= type(record["identities"]) is int and all(c.slope >= 0 for c in curves if c)
    except (TypeError, KeyError, AttributeError):
        right, curves = False, [None, None]
    if not right or curves[0] is None:
        raise DataError(f"{path}: calibration holds what no training writes; get the file again")
    return Calibration(curves[0], curves[1], record["nearest"], record["farthest"], record["identities"])


def fit_calibration(
    distances: NDArray[np.float64],
    labels: NDArray[np.integer],
    genders: tuple[NDArray[np.str_], NDArray[np.str_]],
    identities: int,
) -> Calibration | None:
    """Fits logistic curves to labelled trials, both kinds of pairs weighing the same (not from the papers).

    The targets are those of Platt (1999), (k + 1) / (k + 2) and 1 / (k + 2), where k is the number of identities and
    not of trials: trials of the same few people say little about others.

    Args:
        distances: (t,) distances, lower = same person.
        labels: (t,) 1 for pairs of one person.
        genders: (t,) of the voices and of the faces, "" where unknown.
        identities: number of people in the trials.

    Returns:
        None without pairs of both kinds.
    """
    same = labels == 1
    if not 0 < np.count_nonzero(same) < len(same):
        return None
    voice, face = genders
    one_gender = (voice == face) & (voice != "")
    alike, hard = distances[same & one_gender], distances[~same & one_gender]
    return Calibration(
        _fit(distances[same], distances[~same], identities),
        _fit(alike, hard, identities) if len(alike) and len(hard) else None,
        float(distances.min()),
        float(distances.max()),
        identities,
    )


def _fit(same: NDArray[np.float64], other: NDArray[np.float64], identities: int) -> Curve:
    """The curve for distances of pairs of one person and of two, by Newton's method; flat where it would rise."""
    values = np.concatenate([same, other])
    middle, scale = float(values.mean()), float(values.std()) or 1.0
    x = np.stack([np.ones(len(values)), (values - middle) / scale])
    weight = np.concatenate([np.full(len(same), 0.5 / len(same)), np.full(len(other), 0.5 / len(other))])
    sure = (identities + 1) / (identities + 2)
    target = np.concatenate([np.full(len(same), sure), np.full(len(other), 1 - sure)])
    beta = np.zeros(2)
    for _ in range(100):
        chance = 1 / (1 + np.exp(-(beta @ x)))
        step = np.linalg.solve(
            (x * (weight * chance * (1 - chance))) @ x.T + 1e-9 * np.eye(2), x @ (weight * (target - chance))
        )
        beta = beta + step * min(1.0, 2.0 / float(np.abs(step).max() + 1e-12))  # bounded: the start is far away
        if np.abs(step).max() < 1e-9:
            break
    slope = -float(beta[1]) / scale
    return Curve(slope, middle + float(beta[0]) / slope) if slope > 1e-9 else Curve(0.0, middle)
