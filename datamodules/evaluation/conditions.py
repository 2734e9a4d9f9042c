"""Test conditions: from trial lists to unique items and rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.io.feature_files import FeatureFile
from datamodules.io.trials import resolve, resolve_column
from datamodules.schema import DataError, ItemTable, Modality, Ranking, RankingList, Rows, Trials


@dataclass
class CellSpec:
    """One test condition. A bare path stands for ``CellSpec(trials=path)``.

    Attributes:
        trials: a trial list.
        labels: a file of its labels, where the list has none and the labels are known.
        language: of its voices; "" = as the items say. Needed for ``heard`` and ``unheard`` of items that do not.
        voices: files of its own, as the challenges release them; None = those of the data module.
        faces: the same for faces.
        identities: instead of ``trials``: every voice of these people with every face of theirs, labelled by identity;
            with ``language``, those of that language.
        task: ``verification`` of trials (EER, AUC), 1:N ``matching``, or ``retrieval`` (mAP). Lists of the latter two
            are described in :mod:`datamodules.sampling.rankings`; with ``identities`` they are made of these people's items.
        probe: modality of the probes of a matching or retrieval; the candidates are of the other one.
        candidates: N of a matching that is made.
        probes: how many it has.
        seed: draws them.
        same_gender: of what is made of ``identities``: who is not the same person is of the same gender.
        cross_video: voices and faces of the same person are from different videos.
        seen: its people are in training, and known by videos that are not; other tests are of people never seen.
    """

    trials: str | None = None
    labels: str | None = None
    language: str = ""
    voices: list[str | FeatureFile] | None = None
    faces: list[str | FeatureFile] | None = None
    identities: list[str] | str | None = None
    task: Literal["verification", "matching", "retrieval"] = "verification"
    probe: Modality = "voice"
    candidates: int = 2
    probes: int = 10_000
    seed: int = 0
    same_gender: bool = False
    cross_video: bool = False
    seen: bool = False


def as_spec(spec: str | CellSpec) -> CellSpec:
    """A bare path stands for a list."""
    return CellSpec(trials=spec) if isinstance(spec, str) else spec


@dataclass(frozen=True, eq=False)
class Condition:
    """A trial list and the tables its items are in; ``own`` tells whether they are its own (voices, faces)."""

    name: str
    trials: Trials
    voices: ItemTable
    faces: ItemTable
    language: str = ""
    own: tuple[bool, bool] = (False, False)
    rows: tuple[NDArray[np.int64], NDArray[np.int64]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", resolve(self.trials, self.voices.items.ids, self.faces.items.ids))


@dataclass(frozen=True, eq=False)
class RankingCondition:
    """A ranking list and the tables its items are in; ``own`` tells whether they are its own (voices, faces).

    Raises:
        DataError: an unknown item, an unknown person, or a matching list whose first candidate is not the right one.
    """

    name: str
    ranking: RankingList
    voices: ItemTable
    faces: ItemTable
    language: str = ""
    own: tuple[bool, bool] = (False, False)
    rows: tuple[Rows, Rows] = field(init=False)
    """Of the voices and of the faces, those of candidates one probe after the other."""

    def __post_init__(self) -> None:
        ranking = self.ranking
        table, other = (self.voices, self.faces) if ranking.probe == "voice" else (self.faces, self.voices)
        probes = resolve_column(ranking.source, ranking.probes, table.items.ids, "probe")
        flat = resolve_column(ranking.source, ranking.candidates.ravel(), other.items.ids, "candidate")
        object.__setattr__(self, "rows", (probes, flat) if ranking.probe == "voice" else (flat, probes))
        self._check(np.asarray(table.items.identity[probes]), np.asarray(other.items.identity[flat]))

    def _check(self, person: NDArray[np.str_], candidate: NDArray[np.str_]) -> None:
        """Who is who comes from the items, never from the order of a list: the two must agree."""
        source = self.ranking.source
        for who, names in ((person, self.ranking.probes), (candidate, self.ranking.candidates.ravel())):
            if (who == "").any():
                raise DataError(
                    f"{source}: whose {names[who == ''][0]} is, is unknown; add an identity column to its feature file"
                )
        if self.ranking.candidates.ndim == 2:
            same = candidate.reshape(len(person), -1) == person[:, None]
            wrong = np.flatnonzero(~same[:, 0] | same[:, 1:].any(axis=1))
            if wrong.size:
                raise DataError(
                    f"{source}, probe {wrong[0] + 1} ({self.ranking.probes[wrong[0]]}): the first candidate, and only "
                    "it, must be of the probe's person"
                )
        elif lost := sorted(set(person) - set(candidate)):
            raise DataError(f"{source}: {len(lost)} people are sought who are not in the gallery, first {lost[0]}")

    def resolved(self, voice: Rows, face: Rows) -> Ranking:
        """The ranking over rows of unique items, given in the order of :attr:`rows`."""
        probe, flat = (voice, face) if self.ranking.probe == "voice" else (face, voice)
        return Ranking(self.name, self.ranking.probe, probe, flat.reshape(self.ranking.candidates.shape))
