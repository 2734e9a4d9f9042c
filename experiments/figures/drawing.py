"""Draws elbows, prototypes and DET curves in a given style: PNG files of a run, and SVG of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.special import ndtri

MOST_NUMBERS = 8  # rows or columns of a matrix whose values are printed
TICKS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9)
HIGHEST = 0.95  # right and upper end of a DET plot


@dataclass(frozen=True)
class Style:
    """Colours and sizes of figures.

    Attributes:
        settings: matplotlib's settings (rcParams).
        series: colours of lines, by number.
        rule: colour of thin lines that are no data.
        ink: colour of marks that must be seen.
        scale: factor on the size of figures, fonts excluded.
    """

    settings: dict[Any, Any]  # matplotlib's type of the keys is a list of all names
    series: tuple[str, ...]
    rule: str
    ink: str
    scale: float

    def colour(self, number: int) -> str:
        """Colour of a line; further lines use the colours again."""
        return self.series[number % len(self.series)]

    def figure(self, width: float, height: float) -> Figure:
        """An empty figure; sizes in inches at scale 1."""
        return Figure(figsize=(self.scale * width, self.scale * height), layout="constrained")


FILE_STYLE = Style(
    {"axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.3, "font.size": 9, "text.parse_math": False},
    # Okabe and Ito's colours, which colour-blind people tell apart, without yellow, which is pale on white
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F"),
    "grey",
    "black",
    1.25,
)
"""Style of the PNG files of a run."""


@dataclass(frozen=True, eq=False)
class DetCurve:
    """A line of a DET plot.

    Attributes:
        fpr: (n,) false acceptance rates, fractions.
        fnr: (n,) false rejection rates, fractions.
        colour: colour of the line.
        dashed: dashed instead of solid.
        label: text of the legend; None = not in the legend.
        eer: equal error rate, a fraction, marked by a dot; None = no dot.
    """

    fpr: NDArray[np.float64]
    fnr: NDArray[np.float64]
    colour: str
    dashed: bool = False
    label: str | None = None
    eer: float | None = None


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Voice and face prototypes of a gender cluster.

    Attributes:
        cosine: (voices, faces) similarity of the prototypes.
        rewarded: (voices, faces) whether pairs of the two clusters are rewarded; None = unknown.
        voices: name of each voice cluster, by the identity that most of its clips have; empty = numbers.
        faces: of each face cluster.
    """

    cosine: NDArray[np.float64]
    rewarded: NDArray[np.bool_] | None = None
    voices: Sequence[str] = ()
    faces: Sequence[str] = ()


def draw_det(curves: Sequence[DetCurve], lowest: float, title: str, style: Style) -> Figure:
    """False rejection over false acceptance rates on normal-deviate axes.

    Args:
        curves: the lines.
        lowest: lower end of both axes, a fraction above 0.
        title: text above the plot.
        style: colours and sizes.
    """

    def place(rates: Any) -> Any:
        return ndtri(np.clip(rates, 1e-4, 1 - 1e-4))  # the normal deviate of 0 is infinite

    limits = float(place(lowest)), float(ndtri(HIGHEST))
    with mpl.rc_context(style.settings):
        figure = style.figure(4.4, 4.2)
        axes = figure.add_subplot()
        axes.plot(limits, limits, color=style.rule, lw=0.8)
        for curve in curves:
            dashes = (0, (3, 2)) if curve.dashed else "-"
            axes.plot(place(curve.fpr), place(curve.fnr), color=curve.colour, lw=1.5, ls=dashes, label=curve.label)
            if curve.eer is not None:
                axes.plot(place(curve.eer), place(curve.eer), "o", ms=5, color=curve.colour)
        shown = [tick for tick in TICKS if lowest <= tick]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ndtri(shown), [f"{100 * tick:g}" for tick in shown])
        axes.set(title=title, xlabel="false acceptance, %", ylabel="false rejection, %", xlim=limits, ylim=limits)
        axes.set_aspect("equal")
        if any(curve.label for curve in curves):
            axes.legend(loc="upper right")
    return figure


def draw_elbow(curves: Mapping[str, Any], title: str, style: Style) -> Figure:
    """Total distance to cluster centres over the number of clusters, a line per modality and gender ([SCC] Fig. 2).

    Args:
        curves: ``total_distance`` by number of clusters, and the ``chosen`` number, by modality and gender.
        title: text above the plot.
        style: colours and sizes.
    """
    with mpl.rc_context(style.settings):
        figure = style.figure(4.4, 3.1)
        fill_elbow(figure.add_subplot(), curves, style)
        figure.axes[0].set_title(title)
    return figure


def fill_elbow(axes: Axes, curves: Mapping[str, Any], style: Style) -> None:
    """Draws what :func:`draw_elbow` draws into axes."""
    for i, (name, curve) in enumerate(curves.items()):
        numbers = np.array([int(number) for number in curve["total_distance"]])
        totals = np.array(list(curve["total_distance"].values()), dtype=np.float64)
        chosen = numbers == curve["chosen"]
        axes.plot(numbers, totals, color=style.colour(i), lw=1.4, label=f"{name}: {curve['chosen']}")
        axes.plot(numbers[chosen], totals[chosen], "o", ms=8, mfc="none", color=style.colour(i))
    axes.set(xlabel="number of identity clusters", ylim=(0, None))
    axes.set_ylabel("sum of L2 distances to centres")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(title="chosen number (ring)", fontsize="small", title_fontsize="small")


def draw_prototypes(genders: Sequence[Prototypes], title: str, style: Style) -> Figure:
    """Cosine similarity of voice and face prototypes in each gender cluster ([SCC] Fig. 3); darker is more similar.

    Args:
        genders: prototypes by gender cluster.
        title: text above the plot.
        style: colours and sizes.
    """
    low, high = cosine_range(genders)
    with mpl.rc_context({**style.settings, "axes.grid": False}):
        figure = style.figure(4.4, 2.7)
        panels = np.atleast_1d(figure.subplots(1, len(genders)))
        for gender, (axes, prototypes) in enumerate(zip(panels, genders, strict=True)):
            fill_prototypes(axes, prototypes, (low, high), style)
            axes.set_title(f"gender cluster {gender}", fontsize="medium")
        framed = "\nframe: rewarded, dot: same identity" if any(p.rewarded is not None for p in genders) else ""
        figure.suptitle(f"{title}: cosine, darker is higher ({low:.2f} to {high:.2f}){framed}", fontsize="medium")
    return figure


def cosine_range(genders: Sequence[Prototypes]) -> tuple[float, float]:
    """The lowest and the highest cosine."""
    return min(float(p.cosine.min()) for p in genders), max(float(p.cosine.max()) for p in genders)


def fill_prototypes(axes: Axes, prototypes: Prototypes, limits: tuple[float, float], style: Style) -> None:
    """Draws the prototypes of one gender cluster into axes, whose grid is off.

    Squares have one colour with an opacity, which SVG can take from a page's style sheet, unlike a colour map. A frame
    marks a rewarded pair of clusters, a dot one whose clusters are mostly of the same identity.

    Args:
        axes: takes the squares.
        prototypes: cosines and names.
        limits: the cosines of the palest and of the darkest square.
        style: colours and sizes.
    """
    rows, columns = prototypes.cosine.shape
    shades = np.clip((prototypes.cosine - limits[0]) / max(limits[1] - limits[0], 1e-9), 0, 1)
    few = max(rows, columns) <= MOST_NUMBERS
    for (row, column), shade in np.ndenumerate(shades):
        corner = column - 0.5, row - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, color=style.colour(0), alpha=0.08 + 0.62 * shade, lw=0))
        if few:
            text = f"{prototypes.cosine[row, column]:.2f}"
            axes.text(column, row, text, ha="center", va="center", fontsize="small", color=style.ink)
        if prototypes.rewarded is not None and prototypes.rewarded[row, column]:
            inner = column - 0.45, row - 0.45
            axes.add_patch(Rectangle(inner, 0.9, 0.9, fill=False, edgecolor=style.ink, lw=1.3 if few else 0.6))
    if prototypes.voices and prototypes.faces:
        same = [(i, j) for i, a in enumerate(prototypes.voices) for j, b in enumerate(prototypes.faces) if a == b]
        for row, column in same:
            axes.plot(column, row - 0.33 if few else row, "o", ms=4.5 if few else 2.5, color=style.colour(1))
    narrow = max(rows, columns) > 2 * min(rows, columns)  # its squares would be too small for their numbers
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="auto" if narrow else "equal")
    axes.set(xlabel="face prototype", ylabel="voice prototype")
    for axis, count, names in ((axes.xaxis, columns, prototypes.faces), (axes.yaxis, rows, prototypes.voices)):
        shown = range(0, count, 1 + count // 16)
        axis.set_ticks(shown, [f"{i} {names[i]}" for i in shown] if names else [str(i) for i in shown])
    axes.tick_params(axis="x", rotation=60 if prototypes.faces else 0)
