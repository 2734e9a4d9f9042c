"""Draws pictures of a tested run, at most six files: ``pictures/<picture>.png`` in the run folder; W&B shows the same.

Each shows the main test conditions side by side: those without ``/`` in their name, the first three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from lightning_utilities.core.rank_zero import rank_zero_warn
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from datamodules.io.writing import draft_of, together
from experiments.figures.clusters import NotComputed, clustered, draw_clusters, draw_map, mapped
from experiments.figures.drawing import FILE_STYLE
from experiments.figures.scores import CannotDraw, accepted, draw_confusion, draw_histograms, draw_scores_det, scored
from experiments.runs.saved import SavedRun

MOST_CONDITIONS = 3
DPI = 110
Trace = Mapping[str, Any]
Collect = Callable[[SavedRun, str, Sequence[Trace]], Any]
Draw = Callable[[Any], Figure]

PICTURES: dict[str, tuple[Collect, Draw]] = {
    "det": (scored, draw_scores_det),
    "histograms": (scored, draw_histograms),
    "confusion": (accepted, draw_confusion),
    "map": (mapped, draw_map),
    "clusters": (clustered, draw_clusters),
}
"""What a picture shows of a test condition, and how it is drawn for all of them."""


def draw_run(run: SavedRun, traces: Mapping[str, Sequence[Trace]]) -> list[Path]:
    """Draws every picture into ``pictures`` of the run folder; warns of what cannot be drawn.

    Args:
        run: a tested run.
        traces: traces of the refinement steps by test condition, as in ``refinement.json``.

    Returns:
        The files drawn.
    """
    names = ([name for name in run.scores if "/" not in name] or list(run.scores))[:MOST_CONDITIONS]
    files = []
    for picture, (collect, draw) in PICTURES.items():
        shown = {}
        for name in names:
            try:
                shown[name] = collect(run, name, traces.get(name, ()))
            except NotComputed:
                continue
            except CannotDraw as reason:
                rank_zero_warn(f"picture {picture} of test condition {name!r} is left out: {reason}")
            except Exception as error:  # a picture must not fail a run
                rank_zero_warn(f"picture {picture} of test condition {name!r} failed: {type(error).__name__}: {error}")
        if shown:
            files += _saved(run.folder, picture, lambda draw=draw, shown=shown: draw(shown))  # type: ignore[misc]
    return files + _saved(run.folder, "training", lambda: draw_training(run.folder))


def _saved(folder: Path, picture: str, draw: Callable[[], Figure | None]) -> list[Path]:
    """The file of a picture, in a list; none where there is nothing to draw."""
    path = folder / "pictures" / f"{picture}.png"
    try:
        figure = draw()
        if figure is None:
            return []
        with together(path.parent), draft_of(path) as draft:
            _arrange(figure)
            figure.savefig(draft, format="png", dpi=DPI)
    except Exception as error:  # a picture must not fail a run
        rank_zero_warn(f"picture {picture} failed: {type(error).__name__}: {error}")
        return []
    return [path]


def _arrange(figure: Figure) -> None:
    """Places what is in a figure, which then has no layout engine: for one, ``savefig`` would draw everything twice."""
    figure.set_dpi(DPI)
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def draw_training(folder: Path) -> Figure | None:
    """Training loss and validation EER by epoch, of history.csv; None for a run that was not trained by epochs."""
    path = folder / "history.csv"
    history = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    curves = {}
    for metric, label in (("train/loss", "training loss"), ("val/eer", "validation EER, %")):
        if metric in history and history[metric].notna().sum() > 1:
            known = history.dropna(subset=[metric])
            curves[label] = known["epoch"], known[metric] * (100 if metric == "val/eer" else 1)
    if not curves:
        return None
    with mpl.rc_context(FILE_STYLE.settings):
        figure = FILE_STYLE.figure(3.6 * len(curves), 2.7)
        for i, (label, (epochs, values)) in enumerate(curves.items()):
            axes = figure.add_subplot(1, len(curves), i + 1)
            axes.plot(epochs, values, color=FILE_STYLE.colour(i), lw=1.5, marker="." if len(epochs) < 40 else "")
            axes.set(xlabel="epoch", ylabel=label)
            if label.startswith("validation"):
                best = values.idxmin()
                axes.plot(epochs[best], values[best], "o", ms=9, mfc="none", color="black")
                axes.set_title(f"lowest (ring): {values[best]:.1f} % in epoch {epochs[best]:.0f}", fontsize=9)
                axes.set_ylim(0, None)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
