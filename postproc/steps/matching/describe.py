"""What is known of the fine clusters of a test condition before they are matched. Not from the papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality, ScoredCell
from postproc.cells import DegenerateInput, Embeddings, embeddings
from postproc.clustering.kmeans import cluster_means
from postproc.clustering.partitions import cut_centred
from postproc.clustering.threshold import FINE, Thresholds
from postproc.memory import Memory
from postproc.steps.age import Ages
from postproc.steps.blocks import similarity_spread
from postproc.steps.gender import Genders, same_gender_ratio

_PRIOR = 0.15  # odds that two clusters are of one identity, before their embeddings are seen
_NONE = 1e-9  # spread of similarities that are all equal
_FLOOR = 0.02  # smallest probability of a gender
Array = NDArray[np.float64]


class Attributes(NamedTuple):
    """What is known of items beside their embeddings; the names of the features they make."""

    genders: Genders = Genders()
    ages: Ages | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features of a pair of clusters, in order."""
        known = {"similarity": True, "gender": bool(self.genders.models), "age": self.ages is not None}
        return tuple(name for name, there in known.items() if there)


@dataclass(frozen=True, eq=False)
class Side:
    """The clusters of one modality at one level.

    Attributes:
        labels: (n,) cluster of each item.
        same: (a, a) probability that two clusters are of one identity; 1 on the diagonal.
        share: (a,) ``1 / sum(same)``: clusters of one identity share its mass. The sum estimates the number of
            identities.
    """

    labels: NDArray[np.int64]
    same: Array
    share: Array

    def pooled(self, x: Array) -> Array:
        """Means (a, d) over the clips of each cluster and, by their probability, of the others of its identity.

        A cluster weighs by the square root of its size: the clips of one recording resemble each other.
        """
        weights = self.same * np.sqrt(np.bincount(self.labels))
        pooled: Array = (weights / weights.sum(axis=1, keepdims=True)) @ cluster_means(x, self.labels)
        return pooled


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of voice and face clusters at one level: ``features`` (a, b, f), and both sides."""

    features: Array
    voices: Side
    faces: Side

    @property
    def averaged(self) -> float:
        """How far clusters are averages: ``1 - clusters / items`` of the side where it is less; 0 = single clips."""
        return min(1 - len(of.share) / len(of.labels) for of in (self.voices, self.faces))

    def of_trials(self, values: Array, cell: ScoredCell) -> Array:
        """The value (t,) of the clusters of each trial, from values (a, b)."""
        return values[self.voices.labels[cell.voice_index], self.faces.labels[cell.face_index]]


def side(x: Array, thresholds: Thresholds, level: int, modality: Modality, memory: Memory, seed: int) -> Side:
    """Clusters of unit ``input`` embeddings (n, d) at a level of :data:`postproc.clustering.threshold.FINE`."""
    distances = [fine.distance for fine in thresholds.same]
    labels = cut_centred(x, thresholds, distances, modality, memory, seed)[level]
    means, sizes = cluster_means(thresholds.centred(x, modality), labels), np.bincount(labels)
    odds = thresholds.same[level].log_odds(means, sizes) + np.log(_PRIOR)
    same = _chance(odds)
    np.fill_diagonal(same, 1)
    return Side(labels, same, 1 / same.sum(axis=1))


def describe(
    cell: ScoredCell,
    learnt: Embeddings,
    thresholds: Mapping[Modality, Thresholds],
    attributes: Attributes,
    memory: Memory,
    seed: int,
) -> list[Pairs]:
    """The pairs of clusters at each level.

    Features: the centred similarity of the pooled clusters, in standard deviations of that of all items; where genders
    are known, the centred log-ratio of one gender against two; where ages are, the centred similarity of ages.

    Args:
        cell: a scored cell with ``input`` embeddings.
        learnt: unit embeddings of the learnt space.
        thresholds: by modality, with levels.
        attributes: what else is known of an item.
        memory: keeps clusters of equal embeddings.
        seed: of clusters of very many items.

    Raises:
        DegenerateInput: embeddings that cannot be clustered, or one identity only.
    """
    points = embeddings(cell, "input")
    spread = similarity_spread(learnt)
    if not spread > _NONE:
        raise DegenerateInput("all voice-face pairs are equally similar")
    genders, ages = attributes
    odds = {m: np.log(p / (1 - p))[:, None] for m, p in _clipped(genders(cell)).items()} if genders.models else {}
    years = {m: np.nan_to_num(z)[:, None] for m, z in ages(cell).items()} if ages else {}  # unknown: as the mean
    found = []
    for level in range(len(FINE)):
        voices, faces = (side(points[m], thresholds[m], level, m, memory, seed) for m in MODALITIES)
        if min(len(voices.share), len(faces.share)) < 2:
            raise DegenerateInput("all voices, or all faces, are one cluster")
        centre = _centring(voices.share, faces.share)
        similarity = centre(voices.pooled(learnt["voice"]) @ faces.pooled(learnt["face"]).T) / spread
        features = [similarity]
        if odds:
            male = [_chance(of.pooled(odds[m])[:, 0]) for m, of in zip(MODALITIES, (voices, faces), strict=True)]
            features.append(centre(same_gender_ratio(male[0][:, None], male[1], _FLOOR)))
        if years:
            old = [of.pooled(years[m])[:, 0] for m, of in zip(MODALITIES, (voices, faces), strict=True)]
            features.append(centre(-np.abs(old[0][:, None] - old[1])))
        found.append(Pairs(np.stack(features, axis=-1), voices, faces))
    return found


def _centring(voices: Array, faces: Array) -> Callable[[Array], Array]:
    """Subtracts the means of rows and columns (a, b), weighted by shares: what a cluster has in common with all."""
    a, b = voices / voices.sum(), faces / faces.sum()

    def centre(x: Array) -> Array:
        centred: Array = x - a @ x - (x @ b)[:, None] + a @ x @ b
        return centred

    return centre


def _chance(odds: Array) -> Array:
    """Probability of log-odds."""
    chance: Array = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
    return chance


def _clipped(male: Embeddings) -> Embeddings:
    return {m: np.clip(p, _FLOOR, 1 - _FLOOR) for m, p in male.items()}
