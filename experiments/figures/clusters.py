"""Pictures of a test, from what it leaves: ``pictures/<cell>_<picture>.png`` in the run folder, and W&B images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from matplotlib.figure import Figure

from experiments.figures.scores import CannotDraw, draw_confusion, draw_det, draw_histograms, labels_of
from experiments.runs.saved import SavedRun
from postproc.cells import scored_cell, unit

Trace = Mapping[str, Any]
MARKS = {"voice": "o", "face": "^"}
MOST_ITEMS = 3000  # of a modality in a map; more are sampled


def draw_run(run: SavedRun, traces: Mapping[str, Sequence[Trace]]) -> list[Path]:
    """Draws every picture of every cell into ``pictures`` of the run folder; warns of those that cannot be drawn.

    Args:
        run: a tested run.
        traces: of the refinement steps by cell, as in ``refinement.json``.

    Returns:
        The files drawn.
    """
    folder = run.folder / "pictures"
    files = []
    for name in run.scores:
        for picture, draw in PICTURES.items():
            try:
                folder.mkdir(exist_ok=True)
                figure = draw(run, name, traces.get(name, ()))
                figure.suptitle(f"{name} · {figure.get_suptitle()}", fontsize=11)
                path = folder / f"{name.replace('/', '_')}_{picture}.png"
                figure.savefig(path, dpi=130)
                files.append(path)
            except CannotDraw as reason:
                rank_zero_warn(f"picture {picture} of cell {name!r} is left out: {reason}")
            except Exception as error:  # a picture is never worth a run
                rank_zero_warn(f"picture {picture} of cell {name!r} failed: {type(error).__name__}: {error}")
    return files


def draw_elbow(run: SavedRun, name: str, traces: Sequence[Trace]) -> Figure:
    """Total distance over the number of clusters, a line per (modality, gender) set ([SCC] Fig. 2)."""
    curves = _traced(traces, "elbow", "no step looked for an elbow")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for what, curve in curves.items():
        ks = np.array([int(k) for k in curve["total_distance"]])
        totals = np.array(list(curve["total_distance"].values()), dtype=np.float64)
        line = axes.plot(ks, totals, "-", marker=".", label=f"{what}: {curve['chosen']}")[0]
        axes.plot(curve["chosen"], totals[ks == curve["chosen"]], "o", ms=9, mfc="none", color=line.get_color())
    axes.set(xlabel="identity clusters", ylabel="total L2 distance to centres", ylim=(0, None))
    axes.legend(title="set: chosen (circled)", fontsize=8, title_fontsize=8)
    figure.suptitle("elbow")
    return figure


def draw_prototypes(run: SavedRun, name: str, traces: Sequence[Trace]) -> Figure:
    """Cosine of voice and face prototypes in each gender cluster ([SCC] Fig. 3)."""
    matrices = [np.asarray(m, dtype=np.float64) for m in _traced(traces, "similarity", "no step made prototypes")]
    low, high = min(m.min() for m in matrices), max(m.max() for m in matrices)
    figure = Figure(figsize=(3.6 * len(matrices) + 1, 3.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(matrices)))
    for gender, (axes, matrix) in enumerate(zip(panels, matrices, strict=True)):
        image = axes.imshow(matrix, cmap="viridis", vmin=low, vmax=high)
        axes.set(title=f"gender cluster {gender}", xlabel="face prototype", ylabel="voice prototype")
        axes.set_xticks(range(matrix.shape[1]))
        axes.set_yticks(range(matrix.shape[0]))
        axes.tick_params(labelsize=8 if max(matrix.shape) <= 16 else 4)
        if max(matrix.shape) <= 10:
            for (row, column), value in np.ndenumerate(matrix):
                color = "white" if value < low + 0.6 * (high - low) else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=panels.tolist(), label="cosine", shrink=0.8)
    figure.suptitle("prototypes")
    return figure


def draw_map(run: SavedRun, name: str, traces: Sequence[Trace]) -> Figure:
    """The two largest principal components of the learnt space, colours by identity cluster, outliers crossed out.

    Each modality is centred on its own: what parts voices from faces would be the first component otherwise.
    """
    cell = scored_cell(run.evaluation, name, run.scores[name], run.embeddings)
    points = {m: unit(np.asarray(x["model"], np.float64)) for m, x in (("voice", cell.voices), ("face", cell.faces))}
    if points["voice"].shape[1] != points["face"].shape[1] or points["voice"].shape[1] < 2:
        raise CannotDraw("voices and faces share no space of two dimensions or more")
    centred = {m: x - x.mean(axis=0) for m, x in points.items()}
    axes_of_space = np.linalg.eigh(sum(x.T @ x for x in centred.values()))[1][:, :-3:-1].T
    assignment = next((t["assignment"] for t in traces if "assignment" in t), None)
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    for axes, (m, x) in zip(figure.subplots(1, 2, sharex=True, sharey=True), centred.items(), strict=True):
        x_y = x @ axes_of_space.T
        colours, what = _colours(run, name, m, assignment)
        rng = np.random.default_rng(0)
        shown = np.sort(rng.choice(len(x), min(len(x), MOST_ITEMS), replace=False))
        axes.scatter(*x_y[shown].T, c=colours[shown] % 20, cmap="tab20", vmin=0, vmax=19, s=16, marker=MARKS[m], lw=0)
        out = shown[_outliers(cell, m, assignment, traces)[shown]]
        axes.scatter(*x_y[out].T, c="black", s=14, marker="x", lw=0.7)
        axes.set_title(f"{len(x)} {m}s" + (f", {len(out)} outliers (x)" if len(out) else ""), fontsize=10)
        axes.set(xlabel="component 1", ylabel="component 2")
    figure.suptitle(f"learnt space, colours: {what}")
    return figure


def _traced(traces: Sequence[Trace], key: str, otherwise: str) -> Any:
    """The first step's entry that is there and not empty."""
    for trace in traces:
        if key in trace and len(trace[key]):
            return trace[key]
    unchanged = [str(trace["unchanged"]) for trace in traces if "unchanged" in trace]
    raise CannotDraw(f"{otherwise}{f' ({unchanged[0]})' if unchanged else ''}")


def _colours(run: SavedRun, name: str, modality: str, assignment: Any) -> tuple[np.ndarray, str]:
    """A number per item of the cell: its identity cluster, else its person."""
    if assignment is not None:
        return np.unique(np.asarray(assignment[modality]), axis=0, return_inverse=True)[1].ravel(), "identity cluster"
    cell = run.evaluation.cells[name]
    rows = np.unique(cell.voice_index if modality == "voice" else cell.face_index)
    items = run.evaluation.voices if modality == "voice" else run.evaluation.faces
    people, codes = np.unique(items.identity, return_inverse=True)
    return codes[rows], "person" if len(people) > 1 else "none, nobody is known"


def _outliers(cell: Any, modality: str, assignment: Any, traces: Sequence[Trace]) -> np.ndarray:
    """Items outside the confident set: farther from the mean of their gender cluster than its traced threshold.

    The trace does not name the space that was clustered: it is the one in which the traced sizes come out.
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
            mine = gender == entry["gender"]
            radii = np.linalg.norm(x[mine] - x[mine].mean(axis=0), axis=1)
            out[mine] = radii > entry["threshold"] + 1e-6
            if np.count_nonzero(~out[mine]) != entry["kept"]:
                break
        else:
            return out
    return nothing


def _candidates(spaces: Mapping[str, Any]) -> Iterator[np.ndarray]:
    for x in spaces.values():
        yield unit(np.asarray(x, dtype=np.float64))
        yield np.asarray(x, dtype=np.float64)


PICTURES = {
    "elbow": draw_elbow,
    "prototypes": draw_prototypes,
    "det": lambda run, name, traces: draw_det(*labels_of(run, name)),
    "histograms": lambda run, name, traces: draw_histograms(*labels_of(run, name)),
    "confusion": lambda run, name, traces: draw_confusion(run, name),
    "map": draw_map,
}
