"""The straightforward way, for ``bench``: the same numbers by scikit-learn and SciPy, written as one would at first."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.cluster import KMeans
from sklearn.metrics import roc_curve
from sklearn.preprocessing import normalize

from datamodules.schema import ScoredCell

KEEP, REWARD, ALPHA = 0.95, 0.5, 0.5
"""Quantiles and alpha of both ways; half of the prototype pairs of the synthetic trials are of one group."""


def roc_eer(distances: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """The organisers' EER: ``brentq`` on ``interp1d`` of ``roc_curve``."""
    fpr, tpr, _ = roc_curve(labels, -distances, drop_intermediate=False)
    return float(brentq(lambda x: 1.0 - x - interp1d(fpr, tpr)(x), 0.0, 1.0))


def chaining(cell: ScoredCell, ks: Sequence[int], sets: int) -> tuple[NDArray[np.float64], float]:
    """Algorithm 1 with scikit-learn's k-means and its defaults.

    Args:
        cell: what is refined.
        ks: numbers of clusters to try; the elbow needs each neighbour, gaps are interpolated.
        sets: of the four (modality, gender) sets, how many search the elbow; the others take the number found.

    Returns:
        Refined distances (t,), and the seconds left out by gaps in ``ks`` and by ``sets``: measured seconds of the k
        that were tried, interpolated linearly over the others.
    """
    points = [normalize(spaces["model"]) for spaces in (cell.voices, cell.faces)]
    genders = [KMeans(2, random_state=0).fit(x) for x in points]
    cosine = normalize(genders[0].cluster_centers_) @ normalize(genders[1].cluster_centers_).T
    swap = np.trace(cosine) < np.trace(cosine[:, ::-1])
    labels = [genders[0].labels_, 1 - genders[1].labels_ if swap else genders[1].labels_]
    identity = [np.empty(len(x), dtype=np.int64) for x in points]
    prototypes: list[list[NDArray[np.float64]]] = [[], []]
    left_out, chosen, searched = 0.0, 0, 0.0
    for number, (m, g) in enumerate((m, g) for m in (0, 1) for g in (0, 1)):
        members = np.flatnonzero(labels[m] == g)
        x = points[m][members]
        radii = genders[m].transform(x).min(axis=1)
        confident = x[radii <= np.quantile(radii, KEEP)]
        if number < sets:
            chosen, spent, searched = _elbow(confident, ks)
            left_out += searched - spent
        else:
            left_out += searched
        model = KMeans(chosen, random_state=0).fit(confident)
        radii = model.transform(confident).min(axis=1)
        means = []
        for k in range(chosen):
            inside = model.labels_ == k
            means.append(confident[inside & (radii <= np.quantile(radii[inside], KEEP))].mean(axis=0))
        prototypes[m].append(normalize(np.stack(means)))
        identity[m][members] = model.predict(x)
    similarity = [prototypes[0][g] @ prototypes[1][g].T for g in (0, 1)]
    threshold = np.quantile(np.concatenate([s.ravel() for s in similarity]), REWARD)
    refined = cell.distances.copy()
    voice, face = labels[0][cell.voice_index], labels[1][cell.face_index]
    for g in (0, 1):
        both = np.flatnonzero((voice == g) & (face == g))
        pair = similarity[g][identity[0][cell.voice_index[both]], identity[1][cell.face_index[both]]]
        rewarded = both[pair > threshold]
        refined[rewarded] = refined.min() + (refined[rewarded] - refined.min()) * ALPHA
    refined[voice != face] = cell.distances.max()
    return refined, left_out


def _elbow(x: NDArray[np.floating], ks: Sequence[int]) -> tuple[int, float, float]:
    """The k after the largest drop per step of k; seconds spent; seconds of all k between the first and the last."""
    seconds, totals = [], []
    for k in ks:
        start = time.perf_counter()
        model = KMeans(k, random_state=0).fit(x)
        totals.append(float(model.transform(x).min(axis=1).sum()))
        seconds.append(time.perf_counter() - start)
    drops = -np.diff(totals) / np.diff(ks)
    every = np.interp(np.arange(ks[0], ks[-1] + 1), ks, seconds)
    return int(ks[int(np.argmax(drops)) + 1]), sum(seconds), float(every.sum())
