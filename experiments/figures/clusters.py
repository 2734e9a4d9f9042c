"""Pictures of clusters: a map of the embeddings, elbows and prototypes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality
from experiments.figures.drawing import FILE_STYLE, Prototypes, cosine_range, fill_elbow, fill_prototypes
from experiments.figures.scores import CannotDraw
from experiments.runs.saved import SavedRun
from postproc.cells import ScoredCell, scored_cell, unit

Trace = Mapping[str, Any]
MARKS = "os^DvPX*"
MOST_ITEMS = 1000  # of each modality in a map; of more items a sample is drawn
MOST_NAMES = 16  # identities that a map tells apart
MOST_CENTRES = 24  # clusters of a map whose numbers are printed
NUMBER_AT = (17.0, 13.0)  # points from the mean of a cluster to the middle of its number, to a side and up
REWARDED = 1


class NotComputed(CannotDraw):
    """No step of the refinement computes what the picture shows, which is no reason to warn."""


@dataclass(frozen=True, eq=False)
class Points:
    """Items of one modality in a map.

    Attributes:
        place: (n, 2) coordinates.
        identity: (n,) names, empty where unknown.
        gender: (n,) genders, empty where unknown.
        cluster: (n, 2) number of the gender cluster and of the identity cluster in it; None = not clustered.
        outlier: (n,) whether the item is farther from its gender cluster than the threshold.
    """

    place: NDArray[np.float64]
    identity: NDArray[np.str_]
    gender: NDArray[np.str_]
    cluster: NDArray[np.int64] | None
    outlier: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Clustered:
    """Identity clusters of a test condition.

    Attributes:
        elbow: curves by modality and gender; empty where the number of clusters was given.
        prototypes: by gender cluster; empty where they are not compared.
    """

    elbow: Mapping[str, Any]
    prototypes: list[Prototypes]


def mapped(run: SavedRun, name: str, traces: Sequence[Trace]) -> dict[Modality, Points]:
    """Items of a test condition on the first two principal components of the embedding space.

    Each modality is centred by itself. Otherwise the first component would separate voices from faces.

    Raises:
        CannotDraw: voices and faces share no space.
    """
    cell = scored_cell(run.evaluation, name, run.scores[name], run.embeddings)
    points = {m: unit(np.asarray(x["model"], np.float64)) for m, x in (("voice", cell.voices), ("face", cell.faces))}
    if points["voice"].shape[1] != points["face"].shape[1] or points["voice"].shape[1] < 2:
        raise CannotDraw("voices and faces share no space of at least two dimensions")
    centred = {m: x - x.mean(axis=0) for m, x in points.items()}
    axes_of_space = np.linalg.eigh(sum(x.T @ x for x in centred.values()))[1][:, :-3:-1].T
    assignment = next((t["assignment"] for t in traces if "assignment" in t), None)
    found: dict[Modality, Points] = {}
    for m in MODALITIES:
        rows, items = _rows(run, name, m), run.evaluation.items(m)
        out = _outliers(cell, m, assignment, traces)
        cluster = None if assignment is None else np.asarray(assignment[m], dtype=np.int64)
        few = np.sort(np.random.default_rng(0).choice(len(rows), min(len(rows), MOST_ITEMS), replace=False))
        place = (centred[m] @ axes_of_space.T)[few]
        identity, gender = items.identity[rows][few], items.gender[rows][few]
        found[m] = Points(place, identity, gender, None if cluster is None else cluster[few], out[few])
    return found


def draw_map(conditions: Mapping[str, Mapping[Modality, Points]]) -> Figure:
    """A map per test condition (row) and modality (column), with a legend.

    Colour and mark are the true identity, or the gender of many identities. Each item is tied to the mean of its
    cluster (+), beside which its number stands. Crosses are outliers.
    """
    with mpl.rc_context({**FILE_STYLE.settings, "axes.grid": False}):
        figure = Figure(figsize=(11, 4.5 * len(conditions) + 0.3), layout="constrained")
        panels = figure.subplots(len(conditions), 2, squeeze=False)
        for row, (name, items) in zip(panels, conditions.items(), strict=True):
            names, what = _groups(items)
            for axes, (m, points) in zip(row, items.items(), strict=True):
                of = points.identity if what == "identity" else points.gender
                _fill_map(axes, points, of, names)
                numbers = f", {points.outlier.sum()} outliers (x)" if points.outlier.any() else ""
                axes.set_title(f"{name}: {len(points.place)} {m}s{numbers}", fontsize=10)
                axes.set(xlabel="component 1", ylabel="component 2")
            if names:
                row[1].legend(handles=_legend(names), title=f"true {what}", loc="center left",
                              bbox_to_anchor=(1.0, 0.5), fontsize=8, title_fontsize=8, frameon=False)  # fmt: skip
        clusters = any(p.cluster is not None for items in conditions.values() for p in items.values())
        lines = "; lines lead to the means of clusters (gender.identity)" if clusters else ""
        figure.suptitle(f"embeddings on two principal components{lines}", fontsize=10)
    return figure


def _groups(items: Mapping[Modality, Points]) -> tuple[list[str], str]:
    """Names that colours tell apart, and whether they are identities or genders; none where they are unknown."""
    names = sorted({name for points in items.values() for name in points.identity.tolist()})
    what = "identity"
    if len(names) > MOST_NAMES:
        names, what = sorted({name for points in items.values() for name in points.gender.tolist()}), "gender"
    return [name for name in names if name], what


def _look(number: int) -> tuple[str, str]:
    """Colour and mark of an identity; no two of 16 have both in common."""
    return FILE_STYLE.colour(number), MARKS[(number + number // len(FILE_STYLE.series)) % len(MARKS)]


def _legend(names: Sequence[str]) -> list[Line2D]:
    looks = [_look(i) for i in range(len(names))]
    return [
        Line2D([], [], ls="", marker=mark, color=colour, ms=6, label=name if len(name) <= 14 else f"{name[:13]}…")
        for name, (colour, mark) in zip(names, looks, strict=True)
    ]


def _fill_map(axes: Axes, points: Points, of: NDArray[np.str_], names: Sequence[str]) -> None:
    if points.cluster is not None:
        clusters, code = np.unique(points.cluster, axis=0, return_inverse=True)
        code = code.ravel()
        centres = np.stack([points.place[code == k].mean(axis=0) for k in range(len(clusters))])
        axes.add_collection(LineCollection(list(np.stack([points.place, centres[code]], axis=1)), colors="0.8", lw=0.5))
    for i, name in enumerate([*names, ""]):
        colour, mark = _look(i) if name else ("0.6", ".")
        shown = of == name
        axes.scatter(points.place[shown, 0], points.place[shown, 1], c=colour, s=18, marker=mark, lw=0, alpha=0.85)
    axes.scatter(points.place[points.outlier, 0], points.place[points.outlier, 1], c="black", s=14, marker="x", lw=0.7)
    if points.cluster is not None and len(centres) <= MOST_CENTRES:
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "black", "alpha": 0.85, "lw": 0.6}
        axes.margins(0.08)  # room for the outermost numbers
        for centre, offset, (gender, number) in zip(centres, _apart(centres), clusters.tolist(), strict=True):
            axes.annotate(f"{gender}.{number}", centre, offset, textcoords="offset points", fontsize=7, ha="center",
                          va="center", bbox=box)  # beside the mean, which may be an only item  # fmt: skip
        several = centres[np.bincount(code) > 1]
        axes.scatter(several[:, 0], several[:, 1], c="black", s=20, marker="+", lw=0.8)


def _apart(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where numbers stand beside the means of clusters (k, 2), in points: away from the nearest other mean."""
    if len(centres) == 1:
        return np.array([[0.0, NUMBER_AT[1]]])
    size = np.ptp(centres, axis=0)
    places = centres / np.where(size > 0, size, 1) + 1e-9 * np.arange(len(centres))[:, None]  # none in the same place
    apart = places[:, None] - places[None]
    length = np.linalg.norm(apart, axis=2)
    np.fill_diagonal(length, np.inf)
    nearest = (np.arange(len(centres)), length.argmin(axis=1))
    offsets: NDArray[np.float64] = apart[nearest] / length[nearest][:, None] * NUMBER_AT
    return offsets


def clustered(run: SavedRun, name: str, traces: Sequence[Trace]) -> Clustered:
    """Elbows and prototypes of the first step that clusters identities.

    Raises:
        NotComputed: no step does.
        CannotDraw: a step gave up; says why.
    """
    elbow: Mapping[str, Any] = next((t["elbow"] for t in traces if t.get("elbow")), {})
    trace = next((t for t in traces if len(t.get("similarity", ()))), None)
    if trace is None and not elbow:
        unchanged = [str(t["unchanged"]) for t in traces if "unchanged" in t]
        if unchanged:
            raise CannotDraw(f"no step computed clusters ({unchanged[0]})")
        raise NotComputed("no step computes clusters")
    return Clustered(elbow, [] if trace is None else prototypes_of(trace, run, name))


def prototypes_of(trace: Trace, run: SavedRun, name: str) -> list[Prototypes]:
    """Prototypes by gender cluster, with the rewarded pairs of clusters and the identity that most clips have."""
    cell, assignment = run.evaluation.cells[name], {m: np.asarray(trace["assignment"][m]) for m in MODALITIES}
    voice = assignment["voice"][np.searchsorted(_rows(run, name, "voice"), cell.voice_index)]
    face = assignment["face"][np.searchsorted(_rows(run, name, "face"), cell.face_index)]
    rewarded_trials = np.asarray(trace["action"]) == REWARDED
    found = []
    for gender, cosine in enumerate(np.asarray(matrix, dtype=np.float64) for matrix in trace["similarity"]):
        rewarded = np.zeros(cosine.shape, dtype=bool)
        here = rewarded_trials & (voice[:, 0] == gender) & (face[:, 0] == gender)
        rewarded[voice[here, 1], face[here, 1]] = True
        names = []
        for modality, count in zip(MODALITIES, cosine.shape, strict=True):
            identity = run.evaluation.items(modality).identity[_rows(run, name, modality)]
            of = assignment[modality]
            names.append([_majority(identity[(of == (gender, k)).all(axis=1)]) for k in range(count)])
        found.append(Prototypes(cosine, rewarded, *(names if all(map(all, names)) else ([], []))))
    return found


def _majority(identity: NDArray[np.str_]) -> str:
    """The identity that most clips of a cluster have; empty where it is unknown."""
    known = Counter(identity.tolist()).most_common(1)
    return str(known[0][0])[:12] if known else ""


def draw_clusters(conditions: Mapping[str, Clustered]) -> Figure:
    """Elbows and prototypes, a row per test condition."""
    first = int(any(of.elbow for of in conditions.values()))
    columns = first + max(len(of.prototypes) for of in conditions.values())
    with mpl.rc_context({**FILE_STYLE.settings, "axes.grid": False}):
        figure = Figure(figsize=(4.6 * columns, 4.2 * len(conditions) + 0.4), layout="constrained")
        panels = figure.subplots(len(conditions), columns, squeeze=False)
        for row, (name, of) in zip(panels, conditions.items(), strict=True):
            for axes in row[len(of.prototypes) + first :]:
                axes.set_axis_off()
            if of.elbow:
                fill_elbow(row[0], of.elbow, FILE_STYLE)
                row[0].set_title(f"{name}: elbow", fontsize=10)
                row[0].grid(alpha=0.3)
            elif first:
                row[0].set_axis_off()
            for gender, prototypes in enumerate(of.prototypes):
                axes = row[first + gender]
                fill_prototypes(axes, prototypes, cosine_range(of.prototypes), FILE_STYLE)
                axes.set_title(f"{name}: prototypes of gender cluster {gender}", fontsize=10)
                axes.tick_params(labelsize=8)
        figure.suptitle(
            "prototype cosine, darker is higher; frame: rewarded pair of clusters\n"
            "names: the true identity of most clips of a cluster; dot: both clusters have the same",
            fontsize=9,
        )
    return figure


def _rows(run: SavedRun, name: str, modality: Modality) -> NDArray[np.int64]:
    """Rows of the items of a test condition, in the order of its embeddings."""
    cell = run.evaluation.cells[name]
    return np.unique(cell.voice_index if modality == "voice" else cell.face_index)


def _outliers(cell: ScoredCell, modality: Modality, assignment: Any, traces: Sequence[Trace]) -> NDArray[np.bool_]:
    """Outliers (a mask of the items): farther from the mean of their gender cluster than the threshold of the trace.

    The trace does not name the clustered space. It is the space in which the number of outliers equals the trace's.
    """
    spaces = cell.voices if modality == "voice" else cell.faces
    nothing = np.zeros(len(spaces["model"]), dtype=bool)
    if assignment is None:
        return nothing
    gender = np.asarray(assignment[modality])[:, 0]
    entries = [e for t in traces for e in t.get("clusters", ()) if e["modality"] == modality and e["identity"] is None]
    for x in _candidates(spaces):
        out = nothing.copy()
        for entry in entries:
            members = gender == entry["gender"]
            radii = np.linalg.norm(x[members] - x[members].mean(axis=0), axis=1)
            out[members] = radii > entry["threshold"] + 1e-6
            if np.count_nonzero(~out[members]) != entry["kept"]:
                break
        else:
            return out
    return nothing


def _candidates(spaces: Mapping[str, Any]) -> Iterator[NDArray[np.float64]]:
    for x in spaces.values():
        yield unit(np.asarray(x, dtype=np.float64))
        yield np.asarray(x, dtype=np.float64)
