"""Draws pictures of a tested run: ``pictures/<test condition>_<picture>.png`` in the run folder; W&B shows them too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_warn
from matplotlib.figure import Figure

from datamodules.io.writing import draft_of, together
from experiments.figures.drawing import FILE_STYLE, draw_elbow, draw_prototypes
from experiments.figures.scores import CannotDraw, draw_confusion, draw_histograms, draw_scores_det, labels_of
from experiments.runs.saved import SavedRun
from postproc.cells import scored_cell, unit

Trace = Mapping[str, Any]
MARKS = {"voice": "o", "face": "^"}
MOST_ITEMS = 3000  # of each modality in a map; of more items a sample is drawn


class NotComputed(CannotDraw):
    """No step of the refinement computes what the picture shows, which is no reason to warn."""


def draw_run(run: SavedRun, traces: Mapping[str, Sequence[Trace]]) -> list[Path]:
    """Draws every picture of every test condition into ``pictures`` of the run folder; warns if one cannot be drawn.

    Args:
        run: a tested run.
        traces: traces of the refinement steps by test condition, as in ``refinement.json``.

    Returns:
        The files drawn.
    """
    folder = run.folder / "pictures"
    files = []
    for name in run.scores:
        for picture, draw in PICTURES.items():
            try:
                figure = draw(run, name, traces.get(name, ()))
                path = folder / f"{name.replace('/', '_')}_{picture}.png"
                with together(folder), draft_of(path) as draft:
                    figure.savefig(draft, format="png", dpi=130)
                files.append(path)
            except NotComputed:
                continue
            except CannotDraw as reason:
                rank_zero_warn(f"picture {picture} of test condition {name!r} is left out: {reason}")
            except Exception as error:  # a picture must not fail a run
                rank_zero_warn(f"picture {picture} of test condition {name!r} failed: {type(error).__name__}: {error}")
    return files


def draw_map(run: SavedRun, name: str, traces: Sequence[Trace]) -> Figure:
    """The first two principal components of the embedding space; colours are identity clusters, crosses are outliers.

    Each modality is centred by itself. Otherwise the first component would separate voices from faces.
    """
    cell = scored_cell(run.evaluation, name, run.scores[name], run.embeddings)
    points = {m: unit(np.asarray(x["model"], np.float64)) for m, x in (("voice", cell.voices), ("face", cell.faces))}
    if points["voice"].shape[1] != points["face"].shape[1] or points["voice"].shape[1] < 2:
        raise CannotDraw("voices and faces share no space of at least two dimensions")
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
    figure.suptitle(f"{name} · embeddings, {what}")
    return figure


def _traced(traces: Sequence[Trace], key: str, otherwise: str) -> Any:
    """The entry of the first step that has it."""
    for trace in traces:
        if key in trace and len(trace[key]):
            return trace[key]
    unchanged = [str(trace["unchanged"]) for trace in traces if "unchanged" in trace]
    if not unchanged:
        raise NotComputed(otherwise)
    raise CannotDraw(f"{otherwise} ({unchanged[0]})")


def _colours(run: SavedRun, name: str, modality: str, assignment: Any) -> tuple[np.ndarray, str]:
    """A number per item of the test condition: its identity cluster, or else its identity; and what colours mean."""
    if assignment is not None:
        return np.unique(np.asarray(assignment[modality]), axis=0, return_inverse=True)[
            1
        ].ravel(), "coloured by identity cluster"
    cell = run.evaluation.cells[name]
    rows = np.unique(cell.voice_index if modality == "voice" else cell.face_index)
    items = run.evaluation.voices if modality == "voice" else run.evaluation.faces
    identities, codes = np.unique(items.identity, return_inverse=True)
    return codes[rows], "coloured by identity" if len(identities) > 1 else "identities unknown"


def _outliers(cell: Any, modality: str, assignment: Any, traces: Sequence[Trace]) -> np.ndarray:
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


def _candidates(spaces: Mapping[str, Any]) -> Iterator[np.ndarray]:
    for x in spaces.values():
        yield unit(np.asarray(x, dtype=np.float64))
        yield np.asarray(x, dtype=np.float64)


PICTURES = {
    "elbow": lambda run, name, traces: draw_elbow(
        _traced(traces, "elbow", "no step computed an elbow"), f"{name} · elbow", FILE_STYLE
    ),
    "prototypes": lambda run, name, traces: draw_prototypes(
        _traced(traces, "similarity", "no step computed prototypes"), f"{name} · prototypes", FILE_STYLE
    ),
    "det": lambda run, name, traces: draw_scores_det(*labels_of(run, name), f"{name} · DET"),
    "histograms": lambda run, name, traces: draw_histograms(*labels_of(run, name), f"{name} · distances"),
    "confusion": lambda run, name, traces: draw_confusion(run, name),
    "map": draw_map,
}
