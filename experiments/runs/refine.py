"""Refines the saved scores and embeddings of a run: no model, no data config."""

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
from postproc.memory import Memory
from postproc.refinement import Refinement, calibrate, refine_cells

Record = dict[str, Any]


def refine_run(
    run: SavedRun, steps: Sequence[Refinement], memory: Memory
) -> tuple[dict[str, NDArray[Any]], dict[str, list[Record]]]:
    """Refined distances (t,) and the traces of the steps, by test condition, equal to those of a test of the run.

    Args:
        run: a tested run.
        steps: refinements, not calibrated.
        memory: clusters that several strategies and runs share.
    """
    if any(step.needs_reference for step in steps):
        calibrate(steps, read_reference(run.folder), memory=memory)
    scored = ((name, scored_cell(run.evaluation, name, d, run.embeddings)) for name, d in run.scores.items())
    refined, traces = {}, {}
    for name, result in refine_cells(run.evaluation, scored, steps, warn=_warn, memory=memory):
        refined[name], traces[name] = result.distances, result.trace["steps"]
    return refined, traces


def write_refined(folder: Path, run: SavedRun, steps: Sequence[Refinement], memory: Memory) -> dict[str, Record]:
    """Refines a run and writes its results; returns those of the labelled test conditions.

    Matching and retrieval are judged by raw distances: their records are copied.
    """
    refined, traces = refine_run(run, steps, memory)
    folder.mkdir(parents=True, exist_ok=True)
    return write_results(replace(run, folder=folder, refined=refined), traces)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)
