"""Practice test sets of training people whom the scorer has not met. Not from the papers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import DegenerateInput, cosine_distances
from postproc.crossval.scorers import strangers
from postproc.reference import Reference
from postproc.refinement import Refinement, calibrate

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


def practice_cells(
    reference: Reference, count: int, seed: int, per_gender: int = 3, largest: int = 40, trials: int = 1500
) -> Iterator[tuple[ScoredCell, NDArray[np.int8], NDArray[np.str_]]]:
    """Test sets made of the reference's people, like the scrambled lists of the V1 dev protocol.

    Each holds a few people of each gender (of all alike where genders are unknown) in one language, with a random
    number of voices and, independently, of faces. A model that was trained on these people scores them better than
    strangers.

    Args:
        reference: whose people.
        count: how many sets.
        seed: draws people, clips and trials.
        per_gender: people of each gender; fewer where there are fewer.
        largest: voices, and faces, of a person at most.
        trials: pairs listed, half of them of one person.

    Yields:
        The cell; its labels (t,), 1 = same person; its people.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        language = rng.choice(np.unique(reference.language))
        spoken = np.flatnonzero(reference.language == language)
        chosen: list[str] = []
        for gender in np.unique(reference.gender[spoken]):
            people = np.unique(reference.identity[spoken[reference.gender[spoken] == gender]])
            wanted = per_gender if gender in ("M", "F") else 2 * per_gender
            chosen += rng.choice(people, min(wanted, len(people)), replace=False).tolist()
        if len(chosen) < 2:
            continue
        clips = [spoken[reference.identity[spoken] == person] for person in chosen]
        drawn = [[_some(rows, largest, rng) for rows in clips] for _ in range(2)]
        voice_rows, face_rows = (np.concatenate(rows) for rows in drawn)
        voices = {space: x[voice_rows] for space, x in reference.voices.items()}
        faces = {space: x[face_rows] for space, x in reference.faces.items()}
        starts = [np.cumsum([0, *(len(r) for r in rows)]) for rows in drawn]
        person = rng.integers(len(chosen), size=trials)
        labels = (np.arange(trials) % 2).astype(np.int8)
        other = (person + np.where(labels == 1, 0, rng.integers(1, len(chosen), size=trials))) % len(chosen)
        voice, face = (
            start[who] + np.floor(rng.random(trials) * np.diff(start)[who]).astype(np.int64)
            for start, who in zip(starts, (person, other), strict=True)
        )
        found = {"voice": np.asarray(voices["model"], float), "face": np.asarray(faces["model"], float)}
        cell = ScoredCell(cosine_distances(found, voice, face), voice, face, voices, faces)  # type: ignore[arg-type]
        yield cell, labels, np.array(chosen)


def _some(rows: NDArray[np.int64], largest: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Between a fifth and all of a person's clips, 4 or more where there are as many, at most ``largest``."""
    size = max(int(np.ceil(min(len(rows), largest) * rng.uniform(0.2, 1))), min(len(rows), 4))
    return rng.choice(rows, size, replace=False)
