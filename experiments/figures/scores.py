"""Pictures of scores: DET curves, histograms, and which identities are accepted as which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from experiments.console.tables import percent
from experiments.figures.drawing import FILE_STYLE, DetCurve, draw_det
from experiments.runs.saved import SavedRun
from postproc.metrics.roc import det_points, eer

MOST_IDENTITIES = 40  # in a confusion matrix
MOST_COUNTS = 8  # identities of a confusion matrix whose counts are printed
BINS = 40
SAME, DIFFERENT = FILE_STYLE.colour(0), FILE_STYLE.colour(1)
Trace = Mapping[str, Any]


class CannotDraw(Exception):
    """A picture cannot be drawn; the message says why."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Labelled scores of a test condition.

    Attributes:
        labels: (t,) 1 = same person.
        scores: distances (t,): ``raw``, and ``refined`` if there are any.
        penalised: trials that a step has put at the largest distance.
    """

    labels: NDArray[np.int8]
    scores: dict[str, NDArray[np.float64]]
    penalised: int = 0


@dataclass(frozen=True, eq=False)
class Accepted:
    """Trials accepted at the EER threshold by identity of the voice (rows) and of the face.

    Attributes:
        identities: names in the order of rows and columns.
        women: number of the first of them that are female; None where a gender is unknown.
        count: (n, n) trials.
        accepted: (n, n) accepted trials, by ``raw`` and ``refined``.
    """

    identities: list[str]
    women: int | None
    count: NDArray[np.int64]
    accepted: dict[str, NDArray[np.int64]]


def scored(run: SavedRun, name: str, traces: Sequence[Trace]) -> Scored:
    """Labels and distances of a test condition.

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
    return Scored(labels, scores, sum(int(t.get("counts", {}).get("penalised", 0)) for t in traces))


def draw_scores_det(conditions: Mapping[str, Scored]) -> Figure:
    """DET curves by test condition, of raw (dashed) and refined distances; dots mark the EERs."""
    curves = []
    for i, (name, of) in enumerate(conditions.items()):
        for stage, distances in of.scores.items():
            points = det_points(distances, of.labels, direction="distance")
            rate = eer(distances, of.labels, direction="distance").eer
            label = f"{name} {stage}: EER {percent(rate)} %"
            dashed = stage == "raw" and "refined" in of.scores
            curves.append(DetCurve(points.fpr, points.fnr, FILE_STYLE.colour(i), dashed, label, rate))
    lowest = max(0.5 / max(len(of.labels) for of in conditions.values()), 1e-4)
    return draw_det(curves, lowest, "DET curves; dots are equal error rates", FILE_STYLE)


def draw_histograms(conditions: Mapping[str, Scored]) -> Figure:
    """Distances of same-person and different-person trials: raw ones upwards, refined ones downwards on one axis."""
    figure = Figure(figsize=(5.4 * len(conditions), 4.4), layout="constrained")
    for axes, (name, of) in zip(np.atleast_1d(figure.subplots(1, len(conditions))), conditions.items(), strict=True):
        _fill_histograms(axes, name, of)
    handles: list[Any] = [
        Patch(color=SAME, alpha=0.6, label="same person"),
        Patch(color=DIFFERENT, alpha=0.6, label="different persons"),
        Line2D([], [], color="black", lw=1.2, ls="--", label="EER threshold"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _fill_histograms(axes: Axes, name: str, of: Scored) -> None:
    edges = np.histogram_bin_edges(np.concatenate(list(of.scores.values())), bins=BINS)
    highest, rates = 0.0, []
    for stage, distances in of.scores.items():
        sign = 1 if stage == "raw" else -1
        for value, colour in ((0, DIFFERENT), (1, SAME)):
            part = distances[of.labels == value]
            height = 100 * np.histogram(part, edges)[0] / len(part)
            axes.stairs(sign * height, edges, fill=True, color=colour, alpha=0.6, lw=0)
            # the bar of penalised trials may be so high that nothing else could be seen beside it
            highest = max(highest, *height[: -1 if stage == "refined" and of.penalised else None])
        rate = eer(distances, of.labels, direction="distance")
        rates.append(f"{percent(rate.eer)} % {stage}")
        ends = sorted((0, sign))
        axes.axvline(rate.threshold, 0.5 + ends[0] / 2, 0.5 + ends[1] / 2, color="black", lw=1.2, ls="--")
    axes.axhline(0, color="black", lw=0.8)
    both = len(of.scores) > 1
    axes.set(title=f"{name}: EER {', '.join(rates)}", ylim=(-1.1 * highest, 1.1 * highest))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))
    axes.set_ylabel("refined  |  raw, % of the trials" if both else "% of the trials")
    text = "distance, lower = same person"
    if of.penalised:
        text += (
            f"\npenalty: {of.penalised} of {len(of.labels)} pairs are of different gender clusters:"
            "\nthey get the largest distance (bar at the lower right, may be cut)"
        )
    axes.set_xlabel(text)
    if not both:
        axes.set_ylim(0, None)


def accepted(run: SavedRun, name: str, traces: Sequence[Trace]) -> Accepted:
    """Accepted trials by identities, women first.

    Raises:
        CannotDraw: as :func:`scored`; identities are unknown, or there are more than 40.
    """
    of = scored(run, name, traces)
    cell, voices, faces = run.evaluation.cells[name], run.evaluation.voices, run.evaluation.faces
    voice, face = voices.identity[cell.voice_index], faces.identity[cell.face_index]
    if (voice == "").any() or (face == "").any():
        raise CannotDraw("some items have no identity")
    genders = dict(zip(voices.identity.tolist(), voices.gender.tolist(), strict=True))
    genders |= dict(zip(faces.identity.tolist(), faces.gender.tolist(), strict=True))
    identities = sorted({*voice.tolist(), *face.tolist()}, key=lambda identity: (genders[identity], identity))
    if len(identities) > MOST_IDENTITIES:
        raise CannotDraw(f"there are {len(identities)} identities, more than {MOST_IDENTITIES}")
    code = {identity: i for i, identity in enumerate(identities)}
    pair = np.array([code[v] * len(code) + code[f] for v, f in zip(voice.tolist(), face.tolist(), strict=True)])

    def table(weights: Any = None) -> NDArray[np.int64]:
        counts = np.bincount(pair, weights, minlength=len(code) ** 2)
        return counts.astype(np.int64).reshape(len(code), -1)

    known = all(genders[identity] for identity in identities)
    women = sum(genders[identity].upper().startswith("F") for identity in identities) if known else None
    thresholds = {s: eer(d, of.labels, direction="distance").threshold for s, d in of.scores.items()}
    return Accepted(identities, women, table(), {s: table(d <= thresholds[s]) for s, d in of.scores.items()})


def draw_confusion(conditions: Mapping[str, Accepted]) -> Figure:
    """Percentage of trials accepted at the EER threshold, by identity of the voice and identity of the face."""
    most = max(len(of.identities) for of in conditions.values())
    size = max(3.6, (0.52 if most <= MOST_COUNTS else 0.2) * most + 1.2)
    stages = list(dict.fromkeys(stage for of in conditions.values() for stage in of.accepted))
    figure = Figure(figsize=(size * len(conditions) + 1.2, size * len(stages) + 0.6), layout="constrained")
    panels = figure.subplots(len(stages), len(conditions), squeeze=False)
    for column, (name, of) in enumerate(conditions.items()):
        for row, stage in enumerate(stages):
            if stage not in of.accepted:
                panels[row, column].set_axis_off()
                continue
            _fill_confusion(panels[row, column], of, of.accepted[stage])
            panels[row, column].set_title(f"{name}, {stage}", fontsize=10)
    images = [image for axes in figure.axes for image in axes.images]
    figure.colorbar(images[0], ax=panels.ravel().tolist(), label="accepted, %", shrink=0.6)
    what = "accepted / all trials at the EER threshold" if most <= MOST_COUNTS else "trials accepted at the threshold"
    figure.suptitle(f"{what}; white: no trials", fontsize=10)
    return figure


def _fill_confusion(axes: Axes, of: Accepted, accepted: NDArray[np.int64]) -> None:
    with np.errstate(invalid="ignore"):  # pairs without trials stay blank
        rates = 100 * accepted / of.count
    axes.imshow(rates, cmap="cividis", vmin=0, vmax=100)
    names = [name if len(name) <= 12 else f"{name[:11]}…" for name in of.identities]
    if of.women is not None:
        names = [f"{name} {'F' if i < of.women else 'M'}" for i, name in enumerate(names)]
        if 0 < of.women < len(names):
            axes.axvline(of.women - 0.5, color="white", lw=2)
            axes.axhline(of.women - 0.5, color="white", lw=2)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(labelsize=8 if len(names) <= 20 else 6)
    axes.set(xlabel="identity of the face", ylabel="identity of the voice")
    if len(names) <= MOST_COUNTS:
        for (row, column), rate in np.ndenumerate(rates):
            if np.isfinite(rate):
                text = f"{accepted[row, column]}/{of.count[row, column]}"
                colour = "white" if rate < 50 else "black"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
