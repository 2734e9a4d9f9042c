"""Refines the saved scores and embeddings of a run: no model, no data config."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.learnt import Learnt, check_learnt
from datamodules.io.writing import together
from datamodules.schema import MODALITIES, DataError
from experiments.runs.results import write_results
from experiments.runs.saved import REFERENCE_FILE, SavedRun, read_reference, read_seen_tests
from postproc.cells import scored_cell
from postproc.decisions.record import refine_and_record
from postproc.memory import Memory
from postproc.reference import Reference
from postproc.refinement import Refinement, calibrate

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class RefinedRun:
    """By test condition: refined distances (t,), the traces of the steps, and what speaks for and against them.

    Attributes:
        refined: equal to those of a test of the run.
        traces: see :class:`postproc.Refined`.
        decisions: see :func:`postproc.decisions.record.refine_and_record`.
    """

    refined: dict[str, NDArray[Any]]
    traces: dict[str, list[Record]]
    decisions: dict[str, Record]


def refine_run(run: SavedRun, steps: Sequence[Refinement], memory: Memory) -> RefinedRun:
    """Refines the scores of all test conditions of a run.

    Args:
        run: a tested run.
        steps: refinements, not calibrated.
        memory: clusters that several strategies and runs share.
    """
    reference = _reference(run, steps) if steps else None
    if reference is not None and any(step.needs_reference for step in steps):
        calibrate(steps, reference, memory=memory)
    scored = ((name, scored_cell(run.evaluation, name, d, run.embeddings)) for name, d in run.scores.items())
    done = RefinedRun({}, {}, {})
    for name, result, decisions in refine_and_record(
        run.evaluation, scored, steps, reference, warn=_warn, memory=memory
    ):
        done.refined[name], done.traces[name] = result.distances, result.trace["steps"]
        done.decisions[name] = decisions
    return done


def _reference(run: SavedRun, steps: Sequence[Refinement]) -> Reference | None:
    """The training identities of the run; None where no step learns from them and there are none to be had."""
    needed = any(step.needs_reference for step in steps)
    if not needed and not (run.folder / REFERENCE_FILE).is_file():
        return None
    try:
        reference = read_reference(run.folder)
        _check_widths(run, reference)
        refuse_tested(run, reference.identity)
    except DataError as error:
        if needed:
            raise
        _warn(f"{error}; without them, decisions.json does not say whether the refinement suits the test")
        return None
    return reference


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
    done = refine_run(run, steps, memory)
    with together(folder):
        return write_results(replace(run, folder=folder, refined=done.refined), done.traces, done.decisions)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)
