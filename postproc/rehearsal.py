"""Practice test sets of training people whom the scorer has not met. Not from the papers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import DegenerateInput
from postproc.reference import Reference, practice_cells
from postproc.refinement import Refinement, calibrate
from postproc.strangers import strangers

MODEL = "model"
GOOD = 100.0  # shrinkage of a scorer that generalises
_PER_GENDER, _MOST = 3, 8  # people of each gender in a group; groups
_FEWEST = 4  # people a set needs


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """People that a scorer has not met, and those it has.

    Attributes:
        group: of people. Two rehearsals are of the same people, or of none in common.
        scorer: its shrinkage, or ``model``.
        people: whom it has not met, with ``model`` embeddings of this scorer.
        others: whom it has, likewise: steps may learn from them.
        sets: practice sets to draw.
        seed: of the sets.
    """

    group: int
    scorer: str
    people: Reference
    others: Reference
    sets: int
    seed: int

    def learnt(self, steps: Sequence[Refinement]) -> list[Refinement]:
        """Copies of steps, calibrated on the others in turn."""
        copies = copy.deepcopy(list(steps))
        calibrate(copies, self.others)
        return copies

    def cells(self) -> Iterator[tuple[ScoredCell, NDArray[np.int8]]]:
        """Practice sets and their labels (t,), 1 = same person."""
        for cell, labels, _ in practice_cells(self.people, self.sets, self.seed, per_gender=_PER_GENDER):
            yield cell, labels


def rehearsals(
    reference: Reference, shrinkages: Sequence[float], sets: int, seed: int, least: int = 1
) -> Iterator[Rehearsal]:
    """Groups of a few people, each scored by scorers that have not met them.

    People the model learnt from are scored by :func:`strangers`, where there are embeddings from before the model.
    People held out for validation are strangers to the model: they are scored by the model itself, the one scorer that
    matters. There are few of them, one draw of people, so they are one group among the others, with as many sets.

    Args:
        reference: all of them.
        shrinkages: of the scorers.
        sets: of a group, shared by its scorers.
        seed: of groups and sets.
        least: groups needed.

    Raises:
        DegenerateInput: fewer groups.
    """
    known, held_out = reference.rows(reference.met), reference.rows(~reference.met)
    own = _groups(held_out, seed)
    before_model = all("input" in spaces for spaces in (reference.voices, reference.faces))
    made = _groups(known, seed) if before_model else []
    made = made if len(made) > 1 else []  # one group leaves nobody to learn from
    if len(made) + len(own) < least:
        why = "" if before_model else ", who have no embeddings but those of the model,"
        raise DegenerateInput(
            f"{len(np.unique(known.identity))} training people{why} and {len(np.unique(held_out.identity))} held out "
            f"make {len(made) + len(own)} practice groups of 3 men and 3 women, calibration needs {least}"
        )
    each = -(-sets // len(shrinkages))
    for group, seen in enumerate(strangers(reference, made, shrinkages) if made else ()):
        for shrinkage, whole in zip(shrinkages, seen, strict=True):
            people, others = whole.rows(~whole.met), whole.rows(whole.met)
            yield Rehearsal(group, f"{shrinkage:g}", people, others, each, seed + group)
    for group, names in enumerate(own, start=len(made)):
        inside = held_out.rows(np.isin(held_out.identity, names))
        yield Rehearsal(group, MODEL, inside, known, sets, seed + group)


def _groups(reference: Reference, seed: int) -> list[NDArray[np.str_]]:
    """Disjoint groups of 3 men and 3 women or more, or 6 people where genders are unknown; the last few make one."""
    people, first = np.unique(reference.identity, return_index=True)
    if len(people) < _FEWEST:
        return []
    known = [int((reference.gender[first] == gender).sum()) // _PER_GENDER for gender in "MF"]
    count = min(known) if any(known) else len(people) // (2 * _PER_GENDER)
    return reference.folds(min(max(count, 1), _MOST), seed)
