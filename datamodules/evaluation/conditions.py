"""Test conditions: what a config says of them, and their lists resolved to rows of tables."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from datamodules.io.feature_files import FeatureFile
from datamodules.io.trials import resolve, resolve_column
from datamodules.sampling.trials import Kind
from datamodules.schema import DataError, ItemTable, Modality, Ranking, RankingList, Rows, Trials


@dataclass
class CellSpec:
    """The options of one test condition. In a config, a path stands for ``CellSpec(trials=path)``.

    Attributes:
        trials: a trial list; with ``draw``, the number of trials to draw.
        labels: a file with its labels, where the list has none and the labels are known.
        language: language of its voices; "" = as the items say. Needed for ``heard`` and ``unheard`` where the items
            have no language.
        voices: separate feature files of this condition, as the challenges release them; None = those of the data
            module.
        faces: the same for faces.
        identities: instead of a list: pairs every voice of these identities with every face of theirs, labelled by
            identity; with ``language``, only items in that language.
        draw: with ``identities``: draws ``trials`` (1,000) of these pairs with ``seed``, half of them of one person, as
            :func:`make_trials` does: ``scrambled``, ``balanced`` or ``natural``.
        task: ``verification`` of trials (EER, AUC), 1:N ``matching``, or ``retrieval`` (mAP). For the lists of
            the last two see :mod:`datamodules.io.rankings`; with ``identities`` they are drawn.
        probe: modality of the probes of a matching or retrieval; the candidates have the other modality.
        candidates: N of a 1:N matching that is made of ``identities``.
        probes: its number of probes.
        seed: draws them, or the trials of ``draw``.
        same_gender: with ``identities``: pair different identities only if they have the same gender.
        cross_video: with ``identities``: pair a voice and a face of one identity only if their videos differ.
        seen: its identities are in training, but none of its videos is. Of other tests no identity is in training.
    """

    trials: int | str | None = None
    labels: str | None = None
    language: str = ""
    voices: list[str | FeatureFile] | None = None
    faces: list[str | FeatureFile] | None = None
    identities: list[str] | str | None = None
    draw: Kind | None = None
    task: Literal["verification", "matching", "retrieval"] = "verification"
    probe: Modality = "voice"
    candidates: int = 2
    probes: int = 10_000
    seed: int = 0
    same_gender: bool = False
    cross_video: bool = False
    seen: bool = False


DRAWN = 1000  # trials of a drawn list, as in the lists of MAV-Celeb V1


def as_spec(spec: str | CellSpec) -> CellSpec:
    """The options of a test condition of which a config gives only the trial list."""
    return CellSpec(trials=spec) if isinstance(spec, str) else spec


Test = TypeVar("Test", bound="_Tables")


@dataclass(frozen=True, eq=False)
class _Tables:
    """The tables that the items of a test condition are in.

    Attributes:
        name: name of the test condition.
        voices: table of its voices.
        faces: table of its faces.
        language: the language its config gives; "" = as the items say.
        separate: whether the voices, and the faces, belong to this condition only.
        rows: rows of the voices and rows of the faces that it uses.
    """

    name: str
    voices: ItemTable
    faces: ItemTable
    language: str = ""
    separate: tuple[bool, bool] = (False, False)
    rows: tuple[Rows, Rows] = field(init=False)

    def moved(self: Test, name: str, voices: ItemTable, faces: ItemTable, rows: tuple[Rows, Rows]) -> Test:
        """The same test under another name, over other tables that hold its items in other rows."""
        twin = copy(self)
        for field_name, value in (("name", name), ("voices", voices), ("faces", faces), ("rows", rows)):
            object.__setattr__(twin, field_name, value)
        return twin


@dataclass(frozen=True, eq=False)
class Condition(_Tables):
    """A trial list whose references are resolved to rows of tables: one voice row and one face row per trial."""

    trials: Trials = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", resolve(self.trials, self.voices.items.ids, self.faces.items.ids))


@dataclass(frozen=True, eq=False)
class RankingCondition(_Tables):
    """A ranking list whose references are resolved to rows of tables; the candidates of all probes one after another.

    Raises:
        DataError: an unknown item, an item without identity, or a matching list whose first candidate does not match.
    """

    ranking: RankingList = field(kw_only=True)

    def __post_init__(self) -> None:
        ranking = self.ranking
        table, other = (self.voices, self.faces) if ranking.probe == "voice" else (self.faces, self.voices)
        probes = resolve_column(ranking.source, ranking.probes, table.items.ids, "probe")
        flat = resolve_column(ranking.source, ranking.candidates.ravel(), other.items.ids, "candidate")
        object.__setattr__(self, "rows", (probes, flat) if ranking.probe == "voice" else (flat, probes))
        self._check(np.asarray(table.items.identity[probes]), np.asarray(other.items.identity[flat]))

    def _check(self, probe: NDArray[np.str_], candidate: NDArray[np.str_]) -> None:
        """Compares the list with the identities of the items, which alone decide what matches."""
        source = self.ranking.source
        for identity, names in ((probe, self.ranking.probes), (candidate, self.ranking.candidates.ravel())):
            if (identity == "").any():
                raise DataError(
                    f"{source}: item {names[identity == ''][0]} has no identity; "
                    "add an identity column to its feature file or manifest"
                )
        if self.ranking.candidates.ndim == 2:
            same = candidate.reshape(len(probe), -1) == probe[:, None]
            wrong = np.flatnonzero(~same[:, 0] | same[:, 1:].any(axis=1))
            if wrong.size:
                raise DataError(
                    f"{source}, probe {wrong[0] + 1} ({self.ranking.probes[wrong[0]]}): the first candidate, and no "
                    "other, must have the identity of the probe"
                )
        elif lost := sorted(set(probe) - set(candidate)):
            raise DataError(f"{source}: {len(lost)} identities of queries are not in the gallery, first {lost[0]}")

    def resolved(self, voice: Rows, face: Rows) -> Ranking:
        """The ranking over rows of unique items; ``voice`` and ``face`` are in the order of :attr:`rows`."""
        probe, flat = (voice, face) if self.ranking.probe == "voice" else (face, voice)
        return Ranking(self.name, self.ranking.probe, probe, flat.reshape(self.ranking.candidates.shape))
