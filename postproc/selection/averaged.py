"""Averages what several refinements make of the same scores. Not from the papers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.memory import Memory
from postproc.reference import Reference
from postproc.refinement import Refined, Refinement, calibrate, refine, unchanged


class Averaged(Refinement):
    """The mean distance of several members, each a chain of steps from the same initial scores.

    Members whose distances are minus log-likelihood ratios or minus log-posteriors
    (:class:`postproc.Transport`, :class:`postproc.JointIdentities`) are averaged as they are: the mean is that of their
    log-odds. Where they disagree, because they clustered or matched differently, the pair ends in the middle. A member
    that left the scores unchanged is left out; if all did, the scores are unchanged.

    Args:
        members: steps by name, applied in order.

    Raises:
        ValueError: fewer than two members, or one without steps.
    """

    def __init__(self, members: dict[str, list[Refinement]]) -> None:
        if len(members) < 2 or not all(members.values()):
            raise ValueError(f"members: {', '.join(members) or 'none'}; give two or more, each with steps")
        self.members = members

    @property
    def needs_reference(self) -> bool:
        return any(step.needs_reference for steps in self.members.values() for step in steps)

    def share(self, memory: Memory) -> None:
        super().share(memory)
        for steps in self.members.values():
            for step in steps:
                step.share(memory)

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:
        self.share(self.memory)
        for steps in self.members.values():
            calibrate(steps, reference, before)

    def for_cell(self, name: str, keys: NDArray[np.str_]) -> Refinement:
        bound = copy.copy(self)
        bound.members = {
            member: [step.for_cell(name, keys) for step in steps] for member, steps in self.members.items()
        }
        return bound

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition; the trace holds the traces of each member's steps under ``members``."""
        traces: dict[str, list[dict[str, Any]]] = {}
        moved, reasons = [], []
        for name, steps in self.members.items():
            refined = refine(cell, steps)
            traces[name] = refined.trace["steps"]
            stopped = [f"{name}: {trace['unchanged']}" for trace in traces[name] if "unchanged" in trace]
            reasons += stopped
            if len(stopped) < len(steps):
                moved.append(refined.distances)
        if not moved:
            same = unchanged(cell, "; ".join(reasons))
            return Refined(same.distances, same.trace | {"members": traces})
        return Refined(np.mean(moved, axis=0), {"members": traces, "averaged": len(moved)})
