"""What every refinement of scores has in common.

A refinement sees the scores, the trial indices and the embeddings of one cell's own unique items
(:class:`ScoredCell`), never a label, an id or a row order: it is transductive (it needs the whole test set at once),
not supervised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import Modality, ScoredCell
from postproc.reference import Reference


@dataclass(frozen=True, eq=False)
class Refined:
    """Refined scores of one cell and how they came about.

    Attributes:
        distances: (t,) float64, finite, lower = same person.
        trace: thresholds, clusters and decisions; plain values and numpy arrays. ``unchanged`` holds the reason when
            the step left the scores alone.
        embeddings: new ``model`` embeddings of voices (n, d) and faces (m, d) for the steps after this one; None = as
            they were.
    """

    distances: NDArray[np.float64]
    trace: dict[str, Any] = field(default_factory=dict)
    embeddings: dict[Modality, NDArray[np.float64]] | None = None


class Refinement(ABC):
    """A step from initial to refined distances: configured in ``__init__``, calibrated once, applied by a call."""

    @property
    def needs_reference(self) -> bool:
        """Whether :meth:`calibrate` learns from training people, who must then be embedded."""
        return False

    @abstractmethod
    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines the distances of one cell; degenerate input comes back unchanged with the reason in the trace."""

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:  # noqa: B027
        """Learns from people outside the test set; the default learns nothing. Called once, before any cell.

        Args:
            reference: clips of training people.
            before: the steps that come before this one, calibrated.
        """

    def for_cell(self, name: str, keys: NDArray[np.str_]) -> Refinement:
        """The step as it is for one cell: itself, unless it reads files that are aligned by trial keys.

        Args:
            name: of the cell.
            keys: (t,) of its trials; used to align, never to score.
        """
        return self


def calibrate(steps: Sequence[Refinement], reference: Reference, before: Sequence[Refinement] = ()) -> None:
    """Calibrates steps in turn, each with those before it; clips that are not finite are left out.

    Args:
        steps: in order.
        reference: clips of training people.
        before: steps that come before all of them, calibrated.
    """
    reference = reference.finite()
    for place, step in enumerate(steps):
        step.calibrate(reference, [*before, *steps[:place]])


def unchanged(cell: ScoredCell, reason: str) -> Refined:
    """What a step returns for a cell it cannot refine: the same distances, and why."""
    action = np.zeros(len(cell.distances), dtype=np.int8)
    return Refined(cell.distances.copy(), {"unchanged": reason, "action": action})


def refine(cell: ScoredCell, steps: Sequence[Refinement]) -> Refined:
    """Applies steps in turn, each to the distances the one before it gave.

    Args:
        cell: a scored cell.
        steps: refinements; none leaves the distances as they are.

    Returns:
        The last distances and embeddings; ``trace["steps"]`` lists the trace of each step, with its class name under
        ``step``.

    Raises:
        RuntimeError: a step gave another number of distances, or made one non-finite: a bug of that step.
    """
    traces: list[dict[str, Any]] = []
    moved: dict[Modality, NDArray[np.float64]] | None = None
    for step in steps:
        refined = step(cell)
        name = type(step).__name__
        if refined.distances.shape != cell.distances.shape:
            raise RuntimeError(f"{name} gave {refined.distances.shape} distances for {cell.distances.shape} trials")
        broken = np.isfinite(cell.distances) & ~np.isfinite(refined.distances)
        if broken.any():
            raise RuntimeError(
                f"{name} made {int(broken.sum())} distances non-finite, first trial {int(broken.argmax())}"
            )
        traces.append({"step": name, **refined.trace})
        cell = follow(cell, refined)
        moved = refined.embeddings or moved
    return Refined(cell.distances, {"steps": traces}, moved)


def follow(cell: ScoredCell, refined: Refined) -> ScoredCell:
    """A cell as the step after this one sees it."""
    cell = replace(cell, distances=refined.distances)
    moved = refined.embeddings
    if moved is None:
        return cell
    return replace(cell, voices={**cell.voices, "model": moved["voice"]}, faces={**cell.faces, "model": moved["face"]})
