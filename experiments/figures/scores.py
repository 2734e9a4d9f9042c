"""Pictures of scores: DET curves, histograms, and who is taken for whom."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import ndtri

from experiments.runs.saved import SavedRun
from postproc.metrics.roc import det_points, eer

MOST_PEOPLE = 40  # of a confusion matrix
TICKS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9)
POSITIVE, NEGATIVE = "#1f77b4", "#d62728"
Scores = dict[str, NDArray[np.float64]]


class CannotDraw(Exception):
    """Why a picture cannot be drawn."""


def labels_of(run: SavedRun, name: str) -> tuple[NDArray[np.int8], Scores]:
    """Labels (t,) of a cell, and its distances (t,), ``raw`` and ``refined`` where there are any.

    Raises:
        CannotDraw: labels are unknown, or of one class.
    """
    labels = run.evaluation.cells[name].trials.labels
    if labels is None:
        raise CannotDraw("the list has no labels")
    if not 0 < np.count_nonzero(labels) < len(labels):
        raise CannotDraw("the list has one class only")
    scores = {"raw": run.scores[name]}
    if name in run.refined:
        scores["refined"] = run.refined[name]
    return labels, scores


def draw_det(labels: NDArray[np.int8], scores: Scores) -> Figure:
    """False rejections over false acceptances on normal-deviate axes, EERs marked."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    low = max(0.5 / len(labels), 1e-4)
    limits = float(ndtri(low)), float(ndtri(0.95))
    for what, distances in scores.items():
        points, rate = (
            det_points(distances, labels, direction="distance"),
            eer(distances, labels, direction="distance").eer,
        )
        fpr, fnr = (ndtri(np.clip(x, low, 1 - low)) for x in (points.fpr, points.fnr))
        line = axes.plot(fpr, fnr, lw=1.5, label=f"{what}: EER {100 * rate:.1f} %")[0]
        mark = ndtri(np.clip(rate, low, 1 - low))
        axes.plot(mark, mark, "o", color=line.get_color())
    axes.plot(limits, limits, ":", color="grey", lw=0.8)
    shown = [tick for tick in TICKS if low <= tick]
    for which in (axes.xaxis, axes.yaxis):
        which.set_ticks(ndtri(shown), [f"{100 * tick:g}" for tick in shown])
    axes.set(xlabel="false acceptance, %", ylabel="false rejection, %", xlim=limits, ylim=limits, aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    figure.suptitle("DET")
    return figure


def draw_histograms(labels: NDArray[np.int8], scores: Scores) -> Figure:
    """Distances of same-person and different-person trials, with the threshold of the EER."""
    figure = Figure(figsize=(5 * len(scores), 3.5), layout="constrained")
    for axes, (what, distances) in zip(np.atleast_1d(figure.subplots(1, len(scores))), scores.items(), strict=True):
        bins = np.histogram_bin_edges(distances, bins=50)
        for value, colour, who in ((0, NEGATIVE, "different people"), (1, POSITIVE, "same person")):
            axes.hist(distances[labels == value], bins=bins, density=True, color=colour, alpha=0.55, label=who)
        found = eer(distances, labels, direction="distance")
        axes.axvline(found.threshold, color="black", lw=1, ls="--", label=f"EER {100 * found.eer:.1f} %")
        axes.set(title=what, xlabel="distance, lower = same person", ylabel="density")
        axes.legend(fontsize=8)
    figure.suptitle("scores")
    return figure


def draw_confusion(run: SavedRun, name: str) -> Figure:
    """Share of a voice's person x face's person trials accepted at the threshold of the EER.

    Raises:
        CannotDraw: as :func:`labels_of`; people are unknown, or more than 40.
    """
    labels, scores = labels_of(run, name)
    cell, evaluation = run.evaluation.cells[name], run.evaluation
    voice, face = evaluation.voices.identity[cell.voice_index], evaluation.faces.identity[cell.face_index]
    if (voice == "").any() or (face == "").any():
        raise CannotDraw("some items have no identity")
    people, codes = np.unique(np.concatenate([voice, face]), return_inverse=True)
    if len(people) > MOST_PEOPLE:
        raise CannotDraw(f"{len(people)} people, it shows at most {MOST_PEOPLE}")
    pair = np.ravel_multi_index(tuple(np.split(codes, 2)), (len(people),) * 2)
    count = np.bincount(pair, minlength=len(people) ** 2)
    size = max(3.4, 0.28 * len(people))
    figure = Figure(figsize=(size * len(scores) + 1.2, size + 0.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(scores)))
    for axes, (what, distances) in zip(panels, scores.items(), strict=True):
        accepted = distances <= eer(distances, labels, direction="distance").threshold
        with np.errstate(invalid="ignore"):  # pairs that are not listed stay blank
            share = (np.bincount(pair, accepted, minlength=len(count)) / count).reshape(len(people), -1)
        image = axes.imshow(100 * share, cmap="viridis", vmin=0, vmax=100)
        axes.set_xticks(range(len(people)), people, rotation=90)
        axes.set_yticks(range(len(people)), people)
        axes.tick_params(labelsize=8)
        axes.set(title=what, xlabel="face of", ylabel="voice of")
        if len(people) <= 10:
            for (row, column), value in np.ndenumerate(100 * share):
                if np.isfinite(value):
                    colour = "white" if value < 60 else "black"
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=panels.tolist(), label="accepted at the EER threshold, %", shrink=0.85)
    figure.suptitle("confusion")
    return figure
