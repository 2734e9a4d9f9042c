"""Summarises the scores of a run for the report: DET curves, EERs by identity, clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from datamodules.schema import Trials
from experiments.figures.clusters import prototypes_of
from experiments.figures.drawing import Prototypes
from experiments.runs.people import people_rows
from experiments.runs.saved import SavedRun
from postproc.metrics import det_points
from postproc.metrics.clusters import refinement_cluster_quality

GRID: NDArray[np.float64] = ndtr(np.linspace(-2.4, 1.7, 60))
"""False acceptance rates (60,) of averaged DET curves: equal steps on the normal-deviate axis, 0.8 to 95 %."""


@dataclass(frozen=True, eq=False)
class Digest:
    """Summary of a run, small enough to keep for hundreds of runs; all but ``languages`` is of the main trial lists.

    Attributes:
        languages: test language by test condition.
        trials: a hash of voices, faces and labels by labelled test condition, the same for any order of the trials.
        det: false rejection rates (60,) on :data:`GRID` by (test condition, ``raw`` or ``refined``).
        people: a row per test condition and identity: ``cell`` (the test condition), ``identity``, ``gender``,
            ``voices``, ``raw``, ``refined`` (EERs over the trials of the identity's voices).
        clusters: :func:`refinement_cluster_quality` by test condition.
        elbows: elbow trace by test condition.
        prototypes: voice and face prototypes by test condition and gender cluster.
    """

    languages: dict[str, str]
    trials: dict[str, str]
    det: dict[tuple[str, str], NDArray[np.float64]]
    people: pd.DataFrame
    clusters: dict[str, dict[str, float]]
    elbows: dict[str, dict[str, Any]]
    prototypes: dict[str, list[Prototypes]]


def digest(run: SavedRun, traces: Mapping[str, Sequence[Mapping[str, Any]]]) -> Digest:
    """Summarises a tested run; of a test condition without labels only the language is kept."""
    cells = run.evaluation.cells
    main = [name for name in cells if "/" not in name] or list(cells)
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
        {name: _trials_hash(cell.trials) for name, cell in cells.items() if cell.trials.labels is not None},
        det,
        pd.DataFrame(people, columns=["cell", "identity", "gender", "voices", "raw", "refined"]),
        {name: q for name in main if (q := refinement_cluster_quality(run.evaluation, name, traces.get(name, ())))},
        {name: elbow for name in main if (elbow := _first(traces.get(name, ()), "elbow"))},
        {name: drawn for name in main if (drawn := _prototypes(run, name, traces.get(name, ())))},
    )


def _prototypes(run: SavedRun, name: str, traces: Sequence[Mapping[str, Any]]) -> list[Prototypes]:
    trace = next((trace for trace in traces if trace.get("similarity")), None)
    if trace is None:
        return []
    try:
        return prototypes_of(trace, run, name)
    except (IndexError, KeyError, TypeError, ValueError):  # traces that are not of these scores: nothing is marked
        return [Prototypes(np.asarray(matrix, dtype=np.float64)) for matrix in trace["similarity"]]


def _trials_hash(trials: Trials) -> str:
    columns = pd.DataFrame({"voice": trials.voices, "face": trials.faces, "label": trials.labels})
    rows = pd.util.hash_pandas_object(columns.astype({"voice": "category", "face": "category"}), index=False)
    return f"{len(rows)}-{rows.to_numpy(np.uint64).sum():x}"  # a sum modulo 2^64 does not depend on the order


def _first(traces: Sequence[Mapping[str, Any]], key: str) -> Any:
    return next((trace[key] for trace in traces if trace.get(key)), None)
