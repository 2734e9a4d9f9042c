"""What training people may tell a refinement, and practice test sets made of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import cosine_distances


@dataclass(frozen=True, eq=False)
class Reference:
    """Clips of people that are not in the test set. Row i of all arrays is the same clip.

    Attributes:
        voices: embeddings (n, d) by space: ``model``, and ``input`` where there are encoder embeddings.
        faces: the same for faces.
        identity: (n,) person.
        language: (n,) language spoken, "" where unknown.
        gender: (n,) "M"/"F", "" where unknown.
        met: (n,) whether the model learnt from the person; it has not met those it was validated on.
    """

    voices: dict[str, NDArray[np.floating]]
    faces: dict[str, NDArray[np.floating]]
    identity: NDArray[np.str_]
    language: NDArray[np.str_]
    gender: NDArray[np.str_]
    met: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.identity)

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Reference:
        """Some of the clips."""
        voices, faces = ({s: x[keep] for s, x in spaces.items()} for spaces in (self.voices, self.faces))
        return Reference(voices, faces, self.identity[keep], self.language[keep], self.gender[keep], self.met[keep])

    def finite(self) -> Reference:
        """The clips without NaN or infinity, with a warning where some are left out."""
        arrays = [*self.voices.values(), *self.faces.values()]
        keep = np.logical_and.reduce([np.isfinite(x).all(axis=1) for x in arrays])
        if keep.all():
            return self
        warnings.warn(f"{(~keep).sum()} of {len(self)} clips of training people are not finite: left out", stacklevel=2)
        return self.rows(keep)

    def folds(self, count: int, seed: int) -> list[NDArray[np.str_]]:
        """The people in ``count`` disjoint groups, as many of each gender in each as possible."""
        rng = np.random.default_rng(seed)
        people, first = np.unique(self.identity, return_index=True)
        gender = self.gender[first]
        order = rng.permutation(len(people))
        order = order[np.argsort(gender[order], kind="stable")]
        return [np.sort(people[order[fold::count]]) for fold in range(count)]


def join(parts: Sequence[Reference]) -> Reference:
    """Clips of several, one after the other."""
    sides = [[getattr(part, side) for part in parts] for side in ("voices", "faces")]
    voices, faces = ({space: np.concatenate([x[space] for x in side]) for space in side[0]} for side in sides)
    names = ("identity", "language", "gender", "met")
    return Reference(voices, faces, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


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
