"""Figures of the report as SVG. Colours are CSS variables of the page, so that they follow its light or dark theme."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.figures.drawing import DetCurve, Style, draw_det
from experiments.report.digest import GRID
from experiments.report.numbers import Verdict, scope_of, spread
from experiments.report.runs import ReportRun

# matplotlib draws with these colours, and to_svg replaces them by variables of the page's style sheet
INK, MUTED, RULE, PAPER = "#010203", "#040506", "#070809", "#0b0c0d"
SERIES = tuple(f"#0a0b{i:02x}" for i in range(8))
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"} | {
    c: f"--s{i}" for i, c in enumerate(SERIES)
}
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
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
PAGE_STYLE = Style(SETTINGS, SERIES, RULE, INK, 1.0)


def to_svg(figure: Figure, salt: str) -> str:
    """The ``<svg>`` element without prolog, metadata and fixed size; only ids that something refers to are kept.

    Args:
        figure: the figure.
        salt: differs between the figures of a page, so that their ids differ.
    """
    text = io.StringIO()
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser draws text with fonts of its own
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg") :]
    used = set(re.findall(r"#([\w.-]+)[\"')]", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda match: match.group() if match.group(1) in used else "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', r'\1 width="\2" aria-hidden="true"', svg, count=1)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", svg)  # the font of the page
    svg = re.sub(r"font: ([\d.]+)px inherit", r"font-size: \1px", svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def cut(text: str, most: int = 44) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def draw_bars(table: pd.DataFrame, condition: str, key: str) -> str:
    """EER bars of a test condition by method: refined solid, raw pale, whiskers are standard deviations over folds."""
    rows = scope_of(table, condition)
    methods = list(table["method"].unique())
    pale = 0.3 if rows["refined"].notna().any() else 1.0
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(4.4, 0.72 * len(methods) + 0.75), layout="constrained")
        axes = figure.add_subplot()
        for i, method in enumerate(methods):
            part = rows[rows["method"] == method]
            for stage, y, alpha in (("raw", i - 0.02, pale), ("refined", i + 0.24, 1.0)):
                rate = spread(part, stage)
                if rate is None:
                    continue
                axes.barh(y, 100 * rate.mean, 0.22, color=PAGE_STYLE.colour(i), alpha=alpha)
                if rate.sd is not None:
                    axes.errorbar(100 * rate.mean, y, xerr=100 * rate.sd, color=INK, lw=0.8, capsize=1.5)
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}  # keeps the lines of controls off the name
            axes.text(0, i - 0.18, cut(method), va="bottom", ha="left", bbox=box)
        _draw_controls(axes, rows)
        axes.set(title=cut(condition), xlabel="EER, %", xlim=(0, 60), ylim=(len(methods) - 0.4, -0.55), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        return to_svg(figure, f"bars {condition}{key}")


def _draw_controls(axes: Axes, table: pd.DataFrame) -> None:
    for rate, dashes in (("gender_only", "--"), ("chance", ":")):
        control = spread(table, rate)
        if control is not None:
            axes.axvline(100 * control.mean, color=MUTED, lw=1, ls=dashes, zorder=0.5)


def draw_changes(changes: Mapping[str, Verdict], method: str, number: int, widest: float, key: str) -> str:
    """Refined minus raw EER of a method by refinement, with 95 % intervals.

    Args:
        changes: the difference by name of the refinement.
        method: title of the figure.
        number: number of the method, for its colour.
        widest: the axis goes from minus to plus this EER (a fraction).
        key: tells the figure from others of the page.
    """
    colour = PAGE_STYLE.colour(number)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(4.4, 0.24 * len(changes) + 0.8), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, lw=1, ls="--")
        for y, change in enumerate(changes.values()):
            if change.low is not None and change.high is not None:
                axes.plot([100 * change.low, 100 * change.high], [y, y], color=colour, lw=2.2, alpha=0.4)
            axes.plot(100 * change.mean, y, "o", ms=5, color=colour)
        limits = {"xlim": (-100 * widest, 100 * widest), "ylim": (len(changes) - 0.5, -0.5)}
        axes.set(title=cut(method), xlabel="refined minus raw EER, percentage points", **limits)
        axes.set_yticks(range(len(changes)), list(changes))
        axes.grid(axis="y", visible=False)
        return to_svg(figure, f"changes {method}{key}")


def draw_mean_det(runs: Sequence[ReportRun], methods: Sequence[str], condition: str, key: str) -> str | None:
    """DET curves of a test condition: refined solid, raw dashed; false rejection rates are means over runs.

    Returns:
        None if no run has this test condition on its main lists.
    """
    curves, refined = [], any((condition, "refined") in run.digest.det for run in runs)
    for i, method in enumerate(methods):
        for stage in ("raw", "refined"):
            rates = [run.digest.det.get((condition, stage)) for run in runs if run.method == method]
            known = [fnr for fnr in rates if fnr is not None]
            if known:
                curves.append(
                    DetCurve(GRID, np.mean(known, axis=0), PAGE_STYLE.colour(i), dashed=refined and stage == "raw")
                )
    if not curves:
        return None
    return to_svg(draw_det(curves, float(GRID[0]), cut(condition), PAGE_STYLE), f"det {condition}{key}")


def draw_curves(runs: Sequence[ReportRun], methods: Sequence[str], metric: str, key: str) -> str | None:
    """A metric over epochs: a thin line per run, a bold mean per method up to the epoch that half of its runs reach.

    Returns:
        None if no run has this metric.
    """
    histories = [(run.method, run.history) for run in runs if run.history is not None and metric in run.history]
    if not histories:
        return None
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(4.4, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for i, method in enumerate(methods):
            tables = [history.dropna(subset=[metric]) for name, history in histories if name == method]
            for history in tables:
                axes.plot(history["epoch"], history[metric], color=PAGE_STYLE.colour(i), lw=0.6, alpha=0.35)
            if tables:
                epochs = pd.concat(tables).groupby("epoch")[metric]
                mean = epochs.mean()[epochs.count() >= len(tables) / 2]  # a mean of few runs says little
                axes.plot(mean.index, mean, color=PAGE_STYLE.colour(i), lw=1.8)
        axes.set(title=metric, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return to_svg(figure, f"curves {metric}{key}")
