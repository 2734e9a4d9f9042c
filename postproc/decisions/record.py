"""Refines the test conditions of a run, and records for each what speaks for and against it. Not from the papers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from datamodules.schema import MODALITIES, EvaluationSet, Modality, ScoredCell
from postproc.cells import DegenerateInput
from postproc.clustering.threshold import Thresholds, calibrated_thresholds
from postproc.decisions.gain import expected_gain
from postproc.decisions.pairing import rank_agreement
from postproc.decisions.sides import estimate_sides
from postproc.memory import Memory
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, refine_cells

_SAME_RANKS = 0.999  # ties that are broken by rounding lower a correlation of 1

Record = dict[str, Any]


def refine_and_record(
    evaluation: EvaluationSet,
    scored: Iterable[tuple[str, ScoredCell]],
    steps: Sequence[Refinement],
    reference: Reference | None,
    *,
    warn: Callable[[str], None],
    memory: Memory,
    seed: int = 0,
) -> Iterator[tuple[str, Refined, Record]]:
    """Applies calibrated steps to the test conditions of a run, one after the other, and says what to think of it.

    Args:
        evaluation: has the trial keys of each test condition.
        scored: name and scored cell of each.
        steps: refinements, calibrated where they need a reference.
        reference: clips of training identities; None = nothing is estimated from them.
        warn: takes a line for each doubt, and for each step that left scores unchanged.
        memory: of the run.
        seed: of draws.

    Yields:
        Name, refined scores and a record: ``items`` and estimated ``identities`` by modality; ``clusters``, their
        sizes; ``pairs`` of voice and face clusters that are the most similar to each other, and ``matched``, the
        fraction of items in them; ``expected_gain``: see :func:`expected_gain`, negative = better;
        ``rank_agreement``: see :func:`rank_agreement`; ``doubts`` in words, by kind. What cannot be computed is None,
        the reason is under ``why``. Empty where there are no steps.
    """
    if not steps:
        yield from ((name, refined, {}) for name, refined in refine_cells(evaluation, scored, steps, warn=warn))
        return
    thresholds, gain = _thresholds(reference, memory, seed), expected_gain(steps, reference, seed, memory)
    of_run = {}
    if gain is not None and gain.high > 0:
        changes = f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
        of_run["gain"] = f"in cross-validation on training identities the EER changes by {changes} points"
        warn(f"refinement in doubt: {of_run['gain']}")
    for name, cell in scored:
        ((_, refined),) = refine_cells(evaluation, [(name, cell)], steps, warn=warn, memory=memory)
        record, doubts = _described(cell, thresholds, memory, seed)
        bound = any(step.for_cell(name, evaluation.cells[name].trials.keys) is not step for step in steps)
        agreement = None if bound else rank_agreement(cell, steps, refined, seed)
        if not any(step.assumes_identities for step in steps):
            doubts = {}
        if agreement is not None and agreement < _SAME_RANKS:
            doubts["list"] = f"ranks depend on which pairs are listed (correlation {agreement:.3f})"
        if np.array_equal(refined.distances, cell.distances):
            doubts = {}
        for doubt in doubts.values():
            warn(f"test condition {name!r}: refinement in doubt: {doubt}; see decisions.json")
        record |= {"expected_gain": asdict(gain) if gain else None, "rank_agreement": agreement}
        yield name, refined, record | {"doubts": doubts | of_run}


def _thresholds(reference: Reference | None, memory: Memory, seed: int) -> dict[Modality, Thresholds] | str:
    """Of the reference, or why there are none."""
    if reference is None:
        return "no training identities were kept; run test with --postproc.keep_reference true"
    try:
        return calibrated_thresholds(reference.finite(), seed, memory)
    except DegenerateInput as reason:
        return str(reason)


def _described(
    cell: ScoredCell, thresholds: dict[Modality, Thresholds] | str, memory: Memory, seed: int
) -> tuple[Record, dict[str, str]]:
    """What is known of both sides, and the doubts that follow."""
    items = {m: len(spaces["model"]) for m, spaces in zip(MODALITIES, (cell.voices, cell.faces), strict=True)}
    record: Record = {"items": items, "identities": None, "clusters": None, "pairs": None, "matched": None}
    try:
        if isinstance(thresholds, str):
            raise DegenerateInput(thresholds)
        sides = estimate_sides(cell, thresholds, memory, seed)
    except DegenerateInput as reason:
        return record | {"why": str(reason)}, {}
    pairs = [{"voice": a, "face": b, "similarity": float(sides.similarity[a, b])} for a, b in sides.pairs()]
    record |= {"identities": sides.identities, "clusters": {m: sizes.tolist() for m, sizes in sides.sizes.items()}}
    return record | {"pairs": pairs, "matched": sides.matched()}, sides.doubts()
