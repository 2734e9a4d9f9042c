"""What every refinement of scores has in common.

A refinement sees the scores, the trial indices and the embeddings of one test condition's unique items
(:class:`ScoredCell`), never a label, an id or a row order. It is transductive (it needs the whole test set at once),
not supervised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import EvaluationSet, Modality, ScoredCell
from postproc.memory import Memory
from postproc.reference import Reference


@dataclass(frozen=True, eq=False)
class Refined:
    """Refined scores of one test condition, and a trace of how they were computed.

    Attributes:
        distances: (t,) float64, finite, lower = same person.
        trace: thresholds, clusters and decisions; plain values and numpy arrays. ``unchanged`` holds the reason when
            the step left the scores unchanged.
        embeddings: new ``model`` embeddings of voices (n, d) and faces (m, d) for the steps after this one; None = the
            embeddings stay.
    """

    distances: NDArray[np.float64]
    trace: dict[str, Any] = field(default_factory=dict)
    embeddings: dict[Modality, NDArray[np.float64]] | None = None


@dataclass(frozen=True)
class Gain:
    """Change of the EER in cross-validation, as a fraction; negative = better.

    Attributes:
        change: mean over groups of identities.
        low: lower end of its 95 % interval (t over groups).
        high: upper end.
        groups: of identities.
    """

    change: float
    low: float
    high: float
    groups: int

    @classmethod
    def of(cls, changes: Sequence[float]) -> Gain | None:
        """From the change of each group; None for fewer than two, which have no interval."""
        from scipy.special import stdtrit  # slow to import

        groups = len(changes)
        if groups < 2:
            return None
        mean = float(np.mean(changes))
        half = float(stdtrit(groups - 1, 0.975) * np.std(changes, ddof=1) / np.sqrt(groups))
        return cls(mean, mean - half, mean + half, groups)


class Refinement(ABC):
    """A step from initial to refined distances: configured in ``__init__``, calibrated once, applied by a call.

    Attributes:
        assumes_identities: whether it needs the same identities on both sides, with several clips each.
        gain: what a cross-validation of its own has found; None where it says nothing.
    """

    assumes_identities: ClassVar[bool] = True
    gain: Gain | None = None
    _memory: Memory | None = None

    @property
    def memory(self) -> Memory:
        """Clusters of equal embeddings, found once: the run's memory after :meth:`share`, else one of this step."""
        if self._memory is None:
            self._memory = Memory()
        return self._memory

    def share(self, memory: Memory) -> None:
        """Makes the step use a run's memory; a step that holds other steps passes it on."""
        self._memory = memory

    @property
    def cross_validates(self) -> bool:
        """Whether :meth:`calibrate` runs a cross-validation of its own, which costs too much to be run in another."""
        return False

    @property
    def needs_reference(self) -> bool:
        """Whether :meth:`calibrate` learns from training identities, which must then be embedded."""
        return False

    @abstractmethod
    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines the distances of one test condition; what cannot be refined comes back by :func:`unchanged`."""

    def calibrate(self, reference: Reference, before: Sequence[Refinement] = ()) -> None:  # noqa: B027
        """Learns from identities outside the test set; the default learns nothing. Called once, before any cell.

        Args:
            reference: clips of training identities.
            before: the steps that come before this one, calibrated.
        """

    def for_cell(self, name: str, keys: NDArray[np.str_]) -> Refinement:
        """The step for one test condition: itself, unless it reads files that are aligned by trial keys.

        Args:
            name: of the test condition.
            keys: (t,) keys of its trials; they may align files, never change a score.
        """
        return self

    def reliability(self, cell: ScoredCell, refined: Refined) -> dict[str, float]:
        """Statistics of unlabelled data on whether the assumptions of the step hold; the default has none.

        :class:`postproc.Guarded` applies a step only where they are large enough.

        Args:
            cell: a scored cell.
            refined: what the step made of it.

        Returns:
            By name; larger = the assumption holds better.

        Raises:
            DegenerateInput: they cannot be computed.
        """
        return {}


def calibrate(
    steps: Sequence[Refinement],
    reference: Reference,
    before: Sequence[Refinement] = (),
    memory: Memory | None = None,
) -> None:
    """Calibrates steps in turn, each with those before it. Clips with NaN or inf are left out.

    Args:
        steps: in order.
        reference: clips of training identities.
        before: steps that come before all of them, calibrated.
        memory: of the run; None = the steps keep theirs.
    """
    _share(steps, memory)
    reference = reference.finite()
    for place, step in enumerate(steps):
        step.calibrate(reference, [*before, *steps[:place]])


def unchanged(cell: ScoredCell, reason: str) -> Refined:
    """What a step returns for a test condition it cannot refine: the same distances, and the reason."""
    action = np.zeros(len(cell.distances), dtype=np.int8)
    return Refined(cell.distances.copy(), {"unchanged": reason, "action": action})


def refine(cell: ScoredCell, steps: Sequence[Refinement]) -> Refined:
    """Applies steps in turn, each to the distances and embeddings of the step before it.

    Args:
        cell: a scored cell.
        steps: refinements; an empty list leaves the distances unchanged.

    Returns:
        The last distances and embeddings; ``trace["steps"]`` lists the trace of each step, with its class name under
        ``step``.

    Raises:
        DataError: a step returned something else than a distance of each trial, or made one non-finite.

    Example:
        >>> import numpy as np
        >>> from postproc import Centring, ScoredCell, refine
        >>> rng = np.random.default_rng(0)
        >>> voices, faces = rng.normal(1, 1, size=(5, 4)), rng.normal(-1, 1, size=(6, 4))
        >>> voice_index, face_index = np.array([0, 4]), np.array([5, 1])
        >>> cell = ScoredCell(np.array([0.2, 0.9]), voice_index, face_index, {"model": voices}, {"model": faces})
        >>> refined = refine(cell, [Centring(strength=1.0)])
        >>> refined.distances.shape, refined.trace["steps"][0]["step"]
        ((2,), 'Centring')
    """
    traces: list[dict[str, Any]] = []
    moved: dict[Modality, NDArray[np.float64]] | None = None
    for step in steps:
        refined = step(cell)
        _check(step, cell, refined)
        traces.append({"step": type(step).__name__, **refined.trace})
        cell = follow(cell, refined)
        moved = refined.embeddings or moved
    return Refined(cell.distances, {"steps": traces}, moved)


def _check(step: Refinement, cell: ScoredCell, refined: object) -> None:
    """Refuses what a step may not return.

    Raises:
        DataError: names the file and line of the step, and what it returned.
    """
    trials = len(cell.distances)
    if not isinstance(refined, Refined):
        found = type(refined).__name__
    elif not isinstance(distances := refined.distances, np.ndarray) or distances.dtype.kind not in "fiu":
        found = f"distances of {getattr(distances, 'dtype', type(distances).__name__)}"
    elif distances.shape != cell.distances.shape:
        found = f"{distances.shape} distances"
    elif (broken := np.isfinite(cell.distances) & ~np.isfinite(distances)).any():
        found = f"{int(broken.sum())} that are not finite, the first of trial {int(broken.argmax())}"
    else:
        return
    from datamodules.contracts import mistaken  # imports torch, which steps do not need

    raise mistaken(step, "__call__", f"Refined with ({trials},) distances, finite where they were before", found)


def refine_cells(
    evaluation: EvaluationSet,
    scored: Iterable[tuple[str, ScoredCell]],
    steps: Sequence[Refinement],
    *,
    warn: Callable[[str], None],
    memory: Memory | None = None,
) -> Iterator[tuple[str, Refined]]:
    """Applies calibrated steps to the test conditions of a run, one after the other.

    Args:
        evaluation: has the trial keys of each test condition.
        scored: name and scored cell of each.
        steps: refinements, calibrated where they need a reference.
        warn: takes a line for each step that left scores unchanged, with the reason.
        memory: of the run; None = the steps keep theirs.

    Yields:
        Name and refined scores of each, in order.
    """
    _share(steps, memory)
    for name, cell in scored:
        keys = evaluation.cells[name].trials.keys
        refined = refine(cell, [step.for_cell(name, keys) for step in steps])
        for trace in refined.trace["steps"]:
            if "unchanged" in trace:
                warn(f"test condition {name!r}: {trace['step']} left the scores unchanged: {trace['unchanged']}")
        yield name, refined


def follow(cell: ScoredCell, refined: Refined) -> ScoredCell:
    """A test condition as the step after this one sees it."""
    cell = replace(cell, distances=refined.distances)
    moved = refined.embeddings
    if moved is None:
        return cell
    return replace(cell, voices={**cell.voices, "model": moved["voice"]}, faces={**cell.faces, "model": moved["face"]})


def _share(steps: Sequence[Refinement], memory: Memory | None) -> None:
    if memory is not None:
        for step in steps:
            step.share(memory)
