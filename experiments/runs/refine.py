"""Refines the saved scores and embeddings of a run: no model, no data config."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.learnt import Learnt, check_learnt
from datamodules.io.writing import together
from datamodules.schema import MODALITIES, DataError
from experiments.runs.results import write_results
from experiments.runs.saved import SavedRun, read_reference, read_seen_tests
from postproc.cells import scored_cell
from postproc.memory import Memory
from postproc.reference import Reference
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
        reference = read_reference(run.folder)
        _check_widths(run, reference)
        refuse_tested(run, reference.identity)
        calibrate(steps, reference, memory=memory)
    scored = ((name, scored_cell(run.evaluation, name, d, run.embeddings)) for name, d in run.scores.items())
    refined, traces = {}, {}
    for name, result in refine_cells(run.evaluation, scored, steps, warn=_warn, memory=memory):
        refined[name], traces[name] = result.distances, result.trace["steps"]
    return refined, traces


def _check_widths(run: SavedRun, reference: Reference) -> None:
    """Refuses training identities that were embedded by another model than the tested ones.

    Raises:
        DataError: their embeddings have other widths.
    """
    for modality in MODALITIES:
        spaces = reference.voices if modality == "voice" else reference.faces
        tested = {"model": run.embeddings[modality], "input": run.evaluation.items(modality).features}
        for space, known in spaces.items():
            of_test = tested.get(space)
            if of_test is not None and of_test.shape[1] != known.shape[1]:
                raise DataError(
                    f"{run.folder}/embeddings: {modality}s.npy has {of_test.shape[1]} numbers a row in the space "
                    f"{space}, reference.npz has {known.shape[1]}; run test again with --postproc.keep_reference true"
                )


def refuse_tested(run: SavedRun, identities: NDArray[np.str_]) -> None:
    """Refuses identities to learn from that the run tests; a test of another fold in its folder leaves such.

    Raises:
        DataError: there are some; names the first five.
    """
    seen = read_seen_tests(run.folder)
    cells = {name: replace(cell, seen=name in seen) for name, cell in run.evaluation.cells.items()}
    check_learnt(
        replace(run.evaluation, cells=cells),
        "",
        Learnt.of("", identities.tolist()),
        "test",
        f"steps that learn from {run.folder}/embeddings/reference.npz would learn from",
        "run test again with --postproc.keep_reference true",
    )


def write_refined(folder: Path, run: SavedRun, steps: Sequence[Refinement], memory: Memory) -> dict[str, Record]:
    """Refines a run and writes its results; returns those of the labelled test conditions.

    Matching and retrieval are judged by raw distances: their records are copied.
    """
    refined, traces = refine_run(run, steps, memory)
    with together(folder):
        return write_results(replace(run, folder=folder, refined=refined), traces)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)
