"""Pictures of scores: DET curves, histograms, and which identities are accepted as which."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.console.tables import percent
from experiments.figures.drawing import FILE_STYLE, DetCurve, draw_det
from experiments.runs.saved import SavedRun
from postproc.metrics.roc import det_points, eer

MOST_IDENTITIES = 40  # in a confusion matrix
POSITIVE, NEGATIVE = "#1f77b4", "#d62728"
Scores = dict[str, NDArray[np.float64]]


class CannotDraw(Exception):
    """A picture cannot be drawn; the message says why."""


def labels_of(run: SavedRun, name: str) -> tuple[NDArray[np.int8], Scores]:
    """Labels (t,) of a test condition, and its distances (t,): ``raw``, and ``refined`` if there are any.

    Raises:
        CannotDraw: the labels are unknown, or all trials have the same label.
    """
    labels = run.evaluation.cells[name].trials.labels
    if labels is None:
        raise CannotDraw("the trial list has no labels")
    if not 0 < np.count_nonzero(labels) < len(labels):
        raise CannotDraw("all trials have the same label")
    scores = {"raw": run.scores[name]}
    if name in run.refined:
        scores["refined"] = run.refined[name]
    return labels, scores


def draw_scores_det(labels: NDArray[np.int8], scores: Scores, title: str) -> Figure:
    """DET curves of raw (dashed) and refined distances; dots mark the EERs."""
    lowest = max(0.5 / len(labels), 1e-4)
    curves = []
    for i, (stage, distances) in enumerate(scores.items()):
        points = det_points(distances, labels, direction="distance")
        rate = eer(distances, labels, direction="distance").eer
        label = f"{stage}: EER {percent(rate)} %"
        curves.append(DetCurve(points.fpr, points.fnr, FILE_STYLE.colour(i), stage == "raw", label, rate))
    return draw_det(curves, lowest, title, FILE_STYLE)


def draw_histograms(labels: NDArray[np.int8], scores: Scores, title: str) -> Figure:
    """Histograms of the distances of same-person and different-person trials, with the EER threshold."""
    figure = Figure(figsize=(5 * len(scores), 3.5), layout="constrained")
    for axes, (stage, distances) in zip(np.atleast_1d(figure.subplots(1, len(scores))), scores.items(), strict=True):
        bins = np.histogram_bin_edges(distances, bins=50)
        for value, colour, label in ((0, NEGATIVE, "different persons"), (1, POSITIVE, "same person")):
            axes.hist(distances[labels == value], bins=bins, density=True, color=colour, alpha=0.55, label=label)
        rate = eer(distances, labels, direction="distance")
        axes.axvline(rate.threshold, color="black", lw=1, ls="--", label=f"EER {percent(rate.eer)} %")
        axes.set(title=stage, xlabel="distance, lower = same person", ylabel="density")
        axes.legend(fontsize=8)
    figure.suptitle(title)
    return figure


def draw_confusion(run: SavedRun, name: str) -> Figure:
    """Percentage of trials accepted at the EER threshold, by identity of the voice and identity of the face.

    Raises:
        CannotDraw: as :func:`labels_of`; identities are unknown, or there are more than 40.
    """
    labels, scores = labels_of(run, name)
    cell, evaluation = run.evaluation.cells[name], run.evaluation
    voice, face = evaluation.voices.identity[cell.voice_index], evaluation.faces.identity[cell.face_index]
    if (voice == "").any() or (face == "").any():
        raise CannotDraw("some items have no identity")
    identities, codes = np.unique(np.concatenate([voice, face]), return_inverse=True)
    if len(identities) > MOST_IDENTITIES:
        raise CannotDraw(f"there are {len(identities)} identities, more than {MOST_IDENTITIES}")
    pair = np.ravel_multi_index(tuple(np.split(codes, 2)), (len(identities),) * 2)
    count = np.bincount(pair, minlength=len(identities) ** 2)
    size = max(3.4, 0.28 * len(identities))
    figure = Figure(figsize=(size * len(scores) + 1.2, size + 0.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(scores)))
    for axes, (what, distances) in zip(panels, scores.items(), strict=True):
        accepted = distances <= eer(distances, labels, direction="distance").threshold
        with np.errstate(invalid="ignore"):  # pairs without trials stay blank
            share = (np.bincount(pair, accepted, minlength=len(count)) / count).reshape(len(identities), -1)
        image = axes.imshow(100 * share, cmap="viridis", vmin=0, vmax=100)
        axes.set_xticks(range(len(identities)), identities, rotation=90)
        axes.set_yticks(range(len(identities)), identities)
        axes.tick_params(labelsize=8)
        axes.set(title=what, xlabel="identity of the face", ylabel="identity of the voice")
        if len(identities) <= 10:
            for (row, column), value in np.ndenumerate(100 * share):
                if np.isfinite(value):
                    colour = "white" if value < 60 else "black"
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=panels.tolist(), label="trials accepted at the EER threshold, %", shrink=0.85)
    figure.suptitle(f"{name} · accepted identity pairs")
    return figure
