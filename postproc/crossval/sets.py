"""Test sets of training identities that the scorer has not seen, for cross-validation. Not from the papers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import DegenerateInput, Embeddings, cosine_distances
from postproc.crossval.scorers import held_out_scorers
from postproc.memory import Memory
from postproc.reference import Reference
from postproc.refinement import Refinement, calibrate

MODEL = "model"
GOOD = 100.0  # shrinkage of a scorer that generalises
_PER_GENDER, _MOST = 3, 8  # identities of each gender in a group; groups
_FEWEST = 4  # identities that a set needs


@dataclass(frozen=True, eq=False)
class Fold:
    """A group of identities that a scorer has not seen, and the identities it has seen.

    Attributes:
        group: number of the group. Two folds hold out the same identities, or have none in common.
        scorer: the scorer's shrinkage, or ``model``.
        held_out: clips of the unseen identities, with ``model`` embeddings of this scorer.
        training: clips of the seen identities, with the same scorer's embeddings; steps may be calibrated on them.
        count: number of test sets to draw.
        seed: of the test sets.
    """

    group: int
    scorer: str
    held_out: Reference
    training: Reference
    count: int
    seed: int

    def calibrated(self, steps: Sequence[Refinement]) -> list[Refinement]:
        """Copies of steps, calibrated in turn on the seen identities."""
        copies = copy.deepcopy(list(steps))
        calibrate(copies, self.training)
        return copies

    def sets(self) -> Iterator[tuple[ScoredCell, NDArray[np.int8]]]:
        """Test sets of the unseen identities, and their labels (t,), 1 = same person."""
        for cell, labels, _ in cross_validation_sets(self.held_out, self.count, self.seed, per_gender=_PER_GENDER):
            yield cell, labels


def cross_validation_folds(
    reference: Reference,
    shrinkages: Sequence[float],
    sets: int,
    seed: int,
    least: int = 1,
    memory: Memory | None = None,
) -> Iterator[Fold]:
    """Groups of a few identities, each scored by scorers that have not seen them.

    Identities that the model was trained on are scored by :func:`held_out_scorers`, where the reference has ``input``
    embeddings. Validation identities are scored by the model itself, which has not seen them. There are few of them, so
    they make one group among the others, with as many test sets.

    Args:
        reference: clips of training and validation identities.
        shrinkages: of the scorers.
        sets: test sets per group, divided among its scorers.
        seed: of groups and test sets.
        least: number of groups needed.
        memory: keeps the scorers of equal references.

    Raises:
        DegenerateInput: fewer groups.
    """
    trained, validation = reference.rows(reference.seen), reference.rows(~reference.seen)
    validation_groups = _groups(validation, seed)
    has_input = all("input" in spaces for spaces in (reference.voices, reference.faces))
    trained_groups = _groups(trained, seed) if has_input else []
    trained_groups = trained_groups if len(trained_groups) > 1 else []  # a single group leaves none to fit on
    total = len(trained_groups) + len(validation_groups)
    if total < least:
        without = "" if has_input else " without input embeddings"
        raise DegenerateInput(
            f"{len(np.unique(trained.identity))} training identities{without} and "
            f"{len(np.unique(validation.identity))} validation identities make {total} groups of 3 men and 3 women; "
            f"calibration needs {least}"
        )
    per_scorer = -(-sets // len(shrinkages))
    embedded = held_out_scorers(reference, trained_groups, shrinkages, memory=memory) if trained_groups else ()
    for group, by_scorer in enumerate(embedded):
        for shrinkage, whole in zip(shrinkages, by_scorer, strict=True):
            held_out, training = whole.rows(~whole.seen), whole.rows(whole.seen)
            yield Fold(group, f"{shrinkage:g}", held_out, training, per_scorer, seed + group)
    for group, names in enumerate(validation_groups, start=len(trained_groups)):
        held_out = validation.rows(np.isin(validation.identity, names))
        yield Fold(group, MODEL, held_out, trained, sets, seed + group)


def _groups(reference: Reference, seed: int) -> list[NDArray[np.str_]]:
    """Disjoint groups of at least 3 men and 3 women, or of 6 identities of unknown gender; at most 8 groups.

    Identities that do not fill a group are spread over the others.
    """
    identities, first = np.unique(reference.identity, return_index=True)
    if len(identities) < _FEWEST:
        return []
    possible = [int((reference.gender[first] == gender).sum()) // _PER_GENDER for gender in "MF"]
    count = min(possible) if any(possible) else len(identities) // (2 * _PER_GENDER)
    return reference.folds(min(max(count, 1), _MOST), seed)


def cross_validation_sets(
    reference: Reference, count: int, seed: int, per_gender: int = 3, largest: int = 40, trials: int = 1500
) -> Iterator[tuple[ScoredCell, NDArray[np.int8], NDArray[np.str_]]]:
    """Test sets drawn from the reference's identities, like the scrambled lists of the V1 dev protocol.

    Each set has a few identities of each gender (or twice as many of unknown gender) in one language. The numbers of
    voices and of faces of an identity are random and independent. A model that was trained on these identities scores
    them better than unseen ones.

    Args:
        reference: clips to draw from.
        count: how many sets.
        seed: draws identities, clips and trials.
        per_gender: identities of each gender; fewer where the reference has fewer.
        largest: voices, and faces, of an identity at most.
        trials: voice-face pairs in a set, half of them of the same person.

    Yields:
        The test set; its labels (t,), 1 = same person; its identities.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        chosen, clips = _identities(reference, per_gender, rng)
        if len(chosen) < 2:
            continue
        drawn = [[_some(rows, largest, rng) for rows in clips] for _ in range(2)]
        voice_rows, face_rows = (np.concatenate(rows) for rows in drawn)
        starts = [np.cumsum([0, *(len(r) for r in rows)]) for rows in drawn]
        voice_identity = rng.integers(len(chosen), size=trials)
        labels = (np.arange(trials) % 2).astype(np.int8)
        shift = np.where(labels == 1, 0, rng.integers(1, len(chosen), size=trials))
        face_identity = (voice_identity + shift) % len(chosen)
        voice, face = (
            start[identity] + np.floor(rng.random(trials) * np.diff(start)[identity]).astype(np.int64)
            for start, identity in zip(starts, (voice_identity, face_identity), strict=True)
        )
        yield scored_set(reference, (voice_rows, face_rows), voice, face), labels, np.array(chosen)


def scored_set(
    reference: Reference,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    voice: NDArray[np.int64],
    face: NDArray[np.int64],
) -> ScoredCell:
    """A test set of some clips, scored by the cosine of their ``model`` embeddings.

    Args:
        reference: the clips.
        rows: (n,) clips whose voices, and (m,) clips whose faces are in the set.
        voice: (t,) voice of each trial, 0..n-1.
        face: (t,) face of each trial, 0..m-1.
    """
    voices = {space: x[rows[0]] for space, x in reference.voices.items()}
    faces = {space: x[rows[1]] for space, x in reference.faces.items()}
    learnt: Embeddings = {"voice": np.asarray(voices["model"], float), "face": np.asarray(faces["model"], float)}
    return ScoredCell(cosine_distances(learnt, voice, face), voice, face, voices, faces)


def _identities(
    reference: Reference, per_gender: int, rng: np.random.Generator
) -> tuple[list[str], list[NDArray[np.int64]]]:
    """Random identities of each gender in one language, and the rows of their clips in it."""
    language = rng.choice(np.unique(reference.language))
    rows = np.flatnonzero(reference.language == language)
    chosen: list[str] = []
    for gender in np.unique(reference.gender[rows]):
        identities = np.unique(reference.identity[rows[reference.gender[rows] == gender]])
        size = per_gender if gender in ("M", "F") else 2 * per_gender
        chosen += rng.choice(identities, min(size, len(identities)), replace=False).tolist()
    return chosen, [rows[reference.identity[rows] == identity] for identity in chosen]


def _some(rows: NDArray[np.int64], largest: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random subset of an identity's clips: a fifth to all of them, at most ``largest``, at least 4 if there are."""
    size = max(int(np.ceil(min(len(rows), largest) * rng.uniform(0.2, 1))), min(len(rows), 4))
    return rng.choice(rows, size, replace=False)
