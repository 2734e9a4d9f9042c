"""Refines the saved scores of a run again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from experiments.runs.results import write_results
from experiments.runs.saved import SavedRun, read_reference
from postproc.cells import scored_cell
from postproc.refinement import Refinement, calibrate, refine

Record = dict[str, Any]


def refine_run(run: SavedRun, steps: Sequence[Refinement]) -> tuple[dict[str, NDArray[Any]], dict[str, list[Record]]]:
    """Refined distances (t,) and the traces of the steps, by cell: what the callback of the run computed."""
    if any(step.needs_reference for step in steps):
        calibrate(steps, read_reference(run.folder))
    refined, traces = {}, {}
    for name, distances in run.scores.items():
        keys = run.evaluation.cells[name].trials.keys
        cell = scored_cell(run.evaluation, name, distances, run.embeddings)
        found = refine(cell, [step.for_cell(name, keys) for step in steps])
        refined[name], traces[name] = found.distances, found.trace["steps"]
        for trace in traces[name]:
            if "unchanged" in trace:
                why = f"{trace['step']} left the scores unchanged: {trace['unchanged']}"
                print(f"warning: cell {name!r}: {why}", file=sys.stderr)
    return refined, traces


def write_refined(folder: Path, run: SavedRun, steps: Sequence[Refinement]) -> dict[str, Record]:
    """Refines a run and writes results.json, scores.parquet and refinement.json; the results of its labelled cells.

    Matching and retrieval are judged by raw distances: their records go over as they are.
    """
    refined, traces = refine_run(run, steps)
    folder.mkdir(parents=True, exist_ok=True)
    return write_results(replace(run, folder=folder, refined=refined), traces)
