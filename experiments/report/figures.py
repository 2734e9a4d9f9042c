"""Figures of the report: SVG whose colours are CSS variables of the page, so that they follow light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri

from experiments.report.digest import GRID
from experiments.report.numbers import Verdict, scope_of, spread
from experiments.report.runs import ReportRun

# stand-ins that matplotlib draws with and the page's variables replace: ink, muted, rule, then series by method
INK, MUTED, RULE = "#010203", "#040506", "#070809"
SERIES = tuple(f"#0a0b{i:02x}" for i in range(8))
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {c: f"--s{i}" for i, c in enumerate(SERIES)}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def series(number: int) -> str:
    """Stand-in colour of a method; more than eight share."""
    return SERIES[number % len(SERIES)]


def to_svg(figure: Figure, salt: str) -> str:
    """The ``<svg>`` element alone: no prolog, no metadata, no fixed size, ids only where something refers to them.

    ``salt`` keeps the ids of one figure apart from those of the others.
    """
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg") :]
    used = set(re.findall(r"#([\w.-]+)[\"')]", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda found: found.group() if found.group(1) in used else "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', r'\1 width="\2" aria-hidden="true"', svg, count=1)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", svg)  # the page's own font
    svg = re.sub(r"font: ([\d.]+)px inherit", r"font-size: \1px", svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def draw_bars(table: pd.DataFrame, condition: str) -> str:
    """Bars of a condition per method: refined solid, raw pale, sd over folds as whiskers, each fold a dot."""
    mine = scope_of(table, condition)
    methods = list(table["method"].unique())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 0.72 * len(methods) + 0.75), layout="constrained")
        axes = figure.add_subplot()
        for i, method in enumerate(methods):
            part = mine[mine["method"] == method]
            for stage, y, alpha in (("raw", i - 0.02, 0.3), ("refined", i + 0.24, 1.0)):
                found = spread(part, stage)
                if found is None:
                    continue
                axes.barh(y, 100 * found.mean, 0.22, color=series(i), alpha=alpha)
                if found.sd is not None:
                    axes.errorbar(100 * found.mean, y, xerr=100 * found.sd, color=INK, lw=0.8, capsize=1.5)
            axes.text(0, i - 0.18, method, va="bottom", ha="left", fontsize=8.5)
        _control_lines(axes, mine)
        axes.set(title=condition, xlabel="EER, %", xlim=(0, 60), ylim=(len(methods) - 0.4, -0.55), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        return to_svg(figure, f"bars {condition}")


def _control_lines(axes: Axes, table: pd.DataFrame) -> None:
    for rate, style in (("gender_only", "--"), ("chance", ":")):
        found = spread(table, rate)
        if found is not None:
            axes.axvline(100 * found.mean, color=MUTED, lw=1, ls=style)


def draw_changes(changes: Mapping[str, Verdict], method: str, number: int, widest: float) -> str:
    """Refined less raw EER of a method by strategy with 95 % intervals, on an axis of ``widest`` to both sides."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 0.24 * len(changes) + 0.8), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, lw=1, ls="--")
        for y, found in enumerate(changes.values()):
            if found.low is not None and found.high is not None:
                axes.plot([100 * found.low, 100 * found.high], [y, y], color=series(number), lw=2.2, alpha=0.4)
            axes.plot(100 * found.mean, y, "o", ms=5, color=series(number))
        limits = {"xlim": (-100 * widest, 100 * widest), "ylim": (len(changes) - 0.5, -0.5)}
        axes.set(title=method, xlabel="refined - raw, points of EER", **limits)
        axes.set_yticks(range(len(changes)), list(changes))
        axes.grid(axis="y", visible=False)
        return to_svg(figure, f"changes {method}")


def draw_det(runs: Sequence[ReportRun], methods: Sequence[str], condition: str) -> str:
    """Mean DET curves of a condition: refined solid, raw dashed; vertical means over runs."""
    limits = float(ndtri(GRID[0])), float(ndtri(0.95))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(limits, limits, color=RULE, lw=0.8)
        for i, method in enumerate(methods):
            for stage, style in (("raw", (0, (3, 2))), ("refined", "-")):
                found = [run.digest.det.get((condition, stage)) for run in runs if run.method == method]
                curves = [curve for curve in found if curve is not None]
                if curves:
                    fnr = np.clip(np.mean(curves, axis=0), 1e-4, 1 - 1e-4)
                    axes.plot(ndtri(GRID), ndtri(fnr), color=series(i), lw=1.5, ls=style)
        shown = [tick for tick in TICKS if GRID[0] <= tick]
        for which in (axes.xaxis, axes.yaxis):
            which.set_ticks(ndtri(shown), [f"{100 * tick:g}" for tick in shown])
        axes.set(title=condition, xlabel="false acceptance, %", ylabel="false rejection, %", xlim=limits, ylim=limits)
        return to_svg(figure, f"det {condition}")


def draw_curves(runs: Sequence[ReportRun], methods: Sequence[str], metric: str) -> str | None:
    """A metric over epochs: a thin line per run, each method's mean bold, while half of its runs go on."""
    having = [run for run in runs if run.history is not None and metric in run.history]
    if not having:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for i, method in enumerate(methods):
            tables = [
                run.history.dropna(subset=[metric])
                for run in having
                if run.method == method and run.history is not None
            ]
            for history in tables:
                axes.plot(history["epoch"], history[metric], color=series(i), lw=0.6, alpha=0.35)
            if tables:
                epochs = pd.concat(tables).groupby("epoch")[metric]
                mean = epochs.mean()[epochs.count() >= len(tables) / 2]  # what few runs reach says little
                axes.plot(mean.index, mean, color=series(i), lw=1.8)
        axes.set(title=metric, xlabel="epoch")
        return to_svg(figure, f"curves {metric}")


def draw_elbow(curves: Mapping[str, Any], title: str, where: str) -> str:
    """Total distance over the number of clusters, a line per (modality, gender) set ([SCC] Fig. 2)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for i, (what, curve) in enumerate(curves.items()):
            ks = np.array([int(k) for k in curve["total_distance"]])
            totals = np.array(list(curve["total_distance"].values()), dtype=np.float64)
            axes.plot(ks, totals, color=series(i), lw=1.4, label=f"{what}: {curve['chosen']}")
            chosen = ks == curve["chosen"]
            axes.plot(ks[chosen], totals[chosen], "o", ms=8, mfc="none", color=series(i))
        axes.set(title=title, xlabel="identity clusters", ylabel="total L2 to centres", ylim=(0, None))
        axes.legend(title="chosen (ring)", fontsize=7.5, title_fontsize=7.5)
        return to_svg(figure, f"elbow {where}")


def draw_prototypes(matrices: Sequence[Any], title: str, where: str) -> str:
    """Cosine of voice and face prototypes in each gender cluster ([SCC] Fig. 3), darker is more alike."""
    arrays = [np.asarray(matrix, dtype=np.float64) for matrix in matrices]
    low, high = min(a.min() for a in arrays), max(a.max() for a in arrays)
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(4.4, 2.7), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(arrays)))
        for gender, (axes, matrix) in enumerate(zip(panels, arrays, strict=True)):
            shares = (matrix - low) / max(high - low, 1e-9)
            for (row, column), share in np.ndenumerate(shares):
                axes.add_patch(
                    mpl.patches.Rectangle(
                        (column - 0.5, row - 0.5), 1, 1, color=SERIES[0], alpha=0.08 + 0.62 * share, lw=0
                    )
                )
                if max(matrix.shape) <= 8:
                    axes.text(column, row, f"{matrix[row, column]:.2f}", ha="center", va="center", fontsize=7)
            shape = {"xlim": (-0.5, matrix.shape[1] - 0.5), "ylim": (matrix.shape[0] - 0.5, -0.5), "aspect": "equal"}
            axes.set(**shape, title=f"gender cluster {gender}", xlabel="face prototype", ylabel="voice prototype")
            axes.set_xticks(range(matrix.shape[1]))
            axes.set_yticks(range(matrix.shape[0]))
        figure.suptitle(title, fontsize=9, x=0.02, ha="left")
        return to_svg(figure, f"prototypes {where}")
