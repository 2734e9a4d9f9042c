"""The shared vocabulary: items, trials, cells. Plain numpy, no torch, so that every package can import it.

Score direction: every score stored in these objects is a **distance** (lower = same person).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

Modality = Literal["voice", "face"]
Stage = Literal["validate", "test", "predict"]
Rows = NDArray[np.int64]
"""(n,) row numbers of a table of items."""

MODALITIES: tuple[Modality, Modality] = ("voice", "face")


class DataError(ValueError):
    """Bad input. The message is one line that names the file, row or key, what is wrong and the way out."""


def one_line(error: BaseException | str, limit: int | None = None) -> str:
    """What an error says as one line, for a message that quotes it; its class where it says nothing.

    Args:
        error: the error, or its text.
        limit: the most characters; what is cut off is marked by ``...``.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if limit is None or len(text) <= limit else f"{text[:limit]}..."


@dataclass(frozen=True, eq=False)
class Items:
    """Unique items of one modality, in the order of their embeddings.

    Attributes:
        ids: (n,) item ids, unique, e.g. ``id0001/English/<video>/00001``.
        identity: (n,) person of each item, "" where unknown.
        language: (n,) language spoken in the item's clip, "" where unknown.
        gender: (n,) "M"/"F", "" where unknown.
        video: (n,) source video, "" where unknown. Never used at test time.
        features: (n, d) encoder embeddings as fed to the model (the ``input`` space of refinement), or None when
            the items are media.
    """

    ids: NDArray[np.str_]
    identity: NDArray[np.str_]
    language: NDArray[np.str_]
    gender: NDArray[np.str_]
    video: NDArray[np.str_]
    features: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Trials:
    """A trial list: which voice is compared with which face.

    Attributes:
        keys: (t,) unique trial keys.
        voices: (t,) voice references as written in the list.
        faces: (t,) face references as written in the list.
        labels: (t,) int8, 1 = same person, 0 = different; None when the list is unlabelled.
        source: where the list came from, for error messages.
    """

    keys: NDArray[np.str_]
    voices: NDArray[np.str_]
    faces: NDArray[np.str_]
    labels: NDArray[np.int8] | None
    source: str

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, eq=False)
class RankingList:
    """Probes of one modality and, of the other, the candidates that are ranked for each.

    Attributes:
        probe: modality of the probes.
        probes: (q,) references of the probes.
        candidates: (q, N) those of 1:N matching, the right one first; or (g,) the one gallery of a retrieval.
        source: where the list came from, for error messages.
    """

    probe: Modality
    probes: NDArray[np.str_]
    candidates: NDArray[np.str_]
    source: str


@dataclass(frozen=True, eq=False)
class Cell:
    """One test condition: a trial list resolved against the unique items of an :class:`EvaluationSet`.

    Attributes:
        name: ``heard`` or ``unheard``, possibly behind a list-set prefix: ``balanced/heard``.
        language: the language of its voices, "" where unknown.
        voice_index: (t,) rows into ``EvaluationSet.voices``.
        face_index: (t,) rows into ``EvaluationSet.faces``.
    """

    name: str
    language: str
    trials: Trials
    voice_index: NDArray[np.int64]
    face_index: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """A :class:`RankingList` resolved against the unique items of an :class:`EvaluationSet`.

    Attributes:
        name: of the test condition.
        probe: modality of the probes; the candidates are of the other one.
        probe_index: (q,) rows of the probes.
        candidate_index: (q, N) or (g,) rows of the candidates, as in the list.
    """

    name: str
    probe: Modality
    probe_index: NDArray[np.int64]
    candidate_index: NDArray[np.int64]

    @property
    def task(self) -> Literal["matching", "retrieval"]:
        """1:N matching has candidates of its own for each probe, retrieval one gallery."""
        return "matching" if self.candidate_index.ndim == 2 else "retrieval"


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Everything a validation or test run embeds and scores: each unique item once, and the tests over them."""

    voices: Items
    faces: Items
    cells: dict[str, Cell]
    rankings: dict[str, Ranking] = field(default_factory=dict)

    def items(self, modality: Modality) -> Items:
        """The items of one modality."""
        return self.voices if modality == "voice" else self.faces


@dataclass(frozen=True, eq=False)
class ScoredCell:
    """What a refinement may see of one cell: no labels, no identities, no ids, by construction.

    Attributes:
        distances: (t,) float64 initial distances, lower = same person.
        voice_index: (t,) rows into the cell's own unique voices.
        face_index: (t,) rows into the cell's own unique faces.
        voices: embeddings of the cell's unique voices by space: ``model`` (learnt, always there) and ``input``
            (encoder embeddings, when the data module has them); each (n_voices, d).
        faces: the same for faces; each (n_faces, d).
    """

    distances: NDArray[np.float64]
    voice_index: NDArray[np.int64]
    face_index: NDArray[np.int64]
    voices: dict[str, NDArray[np.floating]]
    faces: dict[str, NDArray[np.floating]]


class ItemBatch(TypedDict):
    """A batch of unique items of one modality: ``index`` (B,) int64 rows of the Items, ``x`` (B, ...) inputs."""

    index: object
    x: object


class PairBatch(TypedDict):
    """A training batch: ``voice`` (B, ...), ``face`` (B, ...), ``identity`` (B,) int64 class index.

    ``clip`` (B,) int64 is the row of the training set that the voice (and the identity) is of.
    """

    voice: object
    face: object
    identity: object
    clip: object


class ItemTable(Protocol):
    """All items of one modality: a feature table, or files."""

    @property
    def items(self) -> Items:
        """The items, without features."""

    def array(self, items: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Features (n, d) of some items; None where the items are media."""
