"""What the report keeps of a run's scores: mean-able DET curves, errors by person, clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from experiments.runs.people import people_rows
from experiments.runs.saved import SavedRun
from postproc.metrics.clusters import cluster_quality
from postproc.metrics.evaluate import det_points

GRID: NDArray[np.float64] = ndtr(np.linspace(-2.4, 1.7, 60))
"""False acceptance rates at which DET curves are averaged: even steps on the normal-deviate axis, 0.8 to 95 %."""


@dataclass(frozen=True, eq=False)
class Digest:
    """Small enough to keep for hundreds of runs; ``det`` and ``people`` are of the main lists.

    Attributes:
        languages: test language by cell.
        det: false rejection rates (60,) on :data:`GRID` by (cell, ``raw`` or ``refined``).
        people: a row per cell and person: ``cell``, ``identity``, ``gender``, ``voices``, ``raw``, ``refined`` (EERs
            over the trials of the person's voices).
        clusters: :func:`cluster_quality` by cell.
        elbows: the elbow trace by cell.
        prototypes: voice x face prototype cosines by cell, one matrix per gender.
    """

    languages: dict[str, str]
    det: dict[tuple[str, str], NDArray[np.float64]]
    people: pd.DataFrame
    clusters: dict[str, dict[str, float]]
    elbows: dict[str, dict[str, Any]]
    prototypes: dict[str, list[Any]]


def digest(run: SavedRun, traces: Mapping[str, Sequence[Mapping[str, Any]]]) -> Digest:
    """Digests a tested run; cells without labels count only by their language."""
    cells = run.evaluation.cells
    main = [name for name in cells if "/" not in name]
    det = {}
    for name in main:
        labels = cells[name].trials.labels
        for stage, scores in (("raw", run.scores), ("refined", run.refined)):
            if labels is not None and name in scores:
                points = det_points(scores[name], labels, direction="distance")
                det[name, stage] = np.interp(GRID, points.fpr, points.fnr)
    people = [row for name in main for row in people_rows(run, name)]
    return Digest(
        {name: cell.language for name, cell in cells.items()},
        det,
        pd.DataFrame(people, columns=["cell", "identity", "gender", "voices", "raw", "refined"]),
        {name: found for name in main if (found := cluster_quality(run.evaluation, name, traces.get(name, ())))},
        {name: found for name in main if (found := _first(traces.get(name, ()), "elbow"))},
        {name: found for name in main if (found := _first(traces.get(name, ()), "similarity"))},
    )


def _first(traces: Sequence[Mapping[str, Any]], key: str) -> Any:
    return next((trace[key] for trace in traces if trace.get(key)), None)
