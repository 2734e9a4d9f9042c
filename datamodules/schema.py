"""The shared vocabulary: items, trials, test conditions. Plain numpy, no torch, so that every package can import it.

Score direction: every score stored in these objects is a **distance** (lower = same person).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

Modality = Literal["voice", "face"]
Stage = Literal["validate", "test", "predict"]
Rows = NDArray[np.int64]
"""(n,) row numbers of a table of items."""

MODALITIES: tuple[Modality, Modality] = ("voice", "face")
ATTRIBUTES = ("age", "female")
"""What an encoder may have estimated of an item: age in years, and the probability that its person is a woman."""


class DataError(ValueError):
    """Bad input. The message is one line that names the file, row or key, what is wrong and the way out."""


def visible(text: str) -> str:
    """The text with control characters written out: names in files may hold escape sequences of a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == " " else ascii(c)[1:-1] for c in text)


def one_line(error: BaseException | str, limit: int | None = None) -> str:
    """What an error says as one line, for a message that quotes it; its class where it says nothing.

    Args:
        error: the error, or its text.
        limit: the most characters; what is cut off is marked by ``...``.
    """
    text = visible(" ".join(str(error).split())) or type(error).__name__
    return text if limit is None or len(text) <= limit else f"{text[:limit]}..."


@dataclass(frozen=True, eq=False)
class Items:
    """Unique items of one modality, in the order of their embeddings.

    Attributes:
        ids: (n,) item ids, unique, e.g. ``id0001/English/<video>/00001``.
        identity: (n,) identity of each item, "" where unknown.
        language: (n,) language spoken in the item's clip, "" where unknown.
        gender: (n,) "M" or "F", "" where unknown.
        video: (n,) source video, "" where unknown. Never used at test time.
        features: (n, d) encoder embeddings as fed to the model (the ``input`` space of a refinement), or None where
            the items are media.
        attributes: (n, 2) estimated :data:`ATTRIBUTES`, NaN where there is none, or None where no file has any.
    """

    ids: NDArray[np.str_]
    identity: NDArray[np.str_]
    language: NDArray[np.str_]
    gender: NDArray[np.str_]
    video: NDArray[np.str_]
    features: NDArray[np.floating] | None = None
    attributes: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def estimates(self, rows: Rows) -> NDArray[np.floating] | None:
        """The attributes (n, 2) of some items, None where no file has any."""
        return None if self.attributes is None else np.asarray(self.attributes[rows])


def joined_attributes(parts: Sequence[Items]) -> NDArray[np.floating] | None:
    """The attributes of several tables of items one after the other, NaN for a table that has none."""
    if all(part.attributes is None for part in parts):
        return None
    none = [np.full((len(part), len(ATTRIBUTES)), np.nan, np.float32) for part in parts]
    return np.concatenate(
        [x if (x := part.attributes) is not None else nan for part, nan in zip(parts, none, strict=True)]
    )


@dataclass(frozen=True, eq=False)
class Trials:
    """A trial list: which voice is compared with which face. A trial is one voice-face pair.

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
    """Probes of one modality, and the candidates of the other modality that are ranked for each probe.

    Attributes:
        probe: modality of the probes.
        probes: (q,) references of the probes.
        candidates: for 1:N matching (q, N), the matching candidate first; for retrieval (g,), the gallery.
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
        name: ``heard`` or ``unheard``, possibly after the name of a set of lists: ``balanced/heard``.
        language: the language of its voices, "" where unknown.
        trials: the list, with keys and labels.
        voice_index: (t,) rows into ``EvaluationSet.voices``.
        face_index: (t,) rows into ``EvaluationSet.faces``.
        seen: its identities are in training, but none of its videos is.
    """

    name: str
    language: str
    trials: Trials
    voice_index: NDArray[np.int64]
    face_index: NDArray[np.int64]
    seen: bool = False


@dataclass(frozen=True, eq=False)
class Ranking:
    """A :class:`RankingList` resolved against the unique items of an :class:`EvaluationSet`.

    Attributes:
        name: name of the test condition.
        probe: modality of the probes; the candidates have the other modality.
        probe_index: (q,) rows of the probes.
        candidate_index: (q, N) or (g,) rows of the candidates, in the order of the list.
        seen: its identities are in training, but none of its videos is.
    """

    name: str
    probe: Modality
    probe_index: NDArray[np.int64]
    candidate_index: NDArray[np.int64]
    seen: bool = False

    @property
    def task(self) -> Literal["matching", "retrieval"]:
        """Matching has separate candidates for each probe, retrieval has one gallery."""
        return "matching" if self.candidate_index.ndim == 2 else "retrieval"


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Everything that a validation or test run embeds and scores.

    Attributes:
        voices: the unique voices of all test conditions, each embedded once.
        faces: the unique faces.
        cells: verification tests by name.
        rankings: matching and retrieval tests by name.
    """

    voices: Items
    faces: Items
    cells: dict[str, Cell]
    rankings: dict[str, Ranking] = field(default_factory=dict)

    def items(self, modality: Modality) -> Items:
        """The items of one modality."""
        return self.voices if modality == "voice" else self.faces


@dataclass(frozen=True, eq=False, init=False)
class ScoredCell:
    """What a refinement may see of one test condition: no labels, no identities, no item ids.

    Arrays that have the right type are kept, not copied. Lists become arrays.

    Example:
        >>> cell = ScoredCell([0.2, 0.9], [0, 0], [0, 1], voices=[[1.0, 0.0]], faces=[[0.8, 0.6], [0.0, 1.0]])
        >>> cell.voices["model"].shape, cell.faces["model"].shape
        ((1, 2), (2, 2))

    Attributes:
        distances: (t,) initial distances, lower = same person.
        voice_index: (t,) row of ``voices`` of each trial.
        face_index: (t,) row of ``faces`` of each trial.
        voices: embeddings (n_voices, d) of the unique voices by space: ``model`` (learnt, always there) and ``input``
            (encoder embeddings, where the data module has them); ``attributes`` (n_voices, 2) holds estimated
            :data:`ATTRIBUTES`, where there are any. A plain array is taken as ``{"model": array}``.
        faces: the same for the unique faces, each (n_faces, d).

    Raises:
        DataError: shapes that do not fit together, or an index out of range.
    """

    distances: NDArray[np.float64]
    voice_index: NDArray[np.int64]
    face_index: NDArray[np.int64]
    voices: dict[str, NDArray[np.floating]]
    faces: dict[str, NDArray[np.floating]]

    def __init__(
        self,
        distances: ArrayLike,
        voice_index: ArrayLike,
        face_index: ArrayLike,
        voices: ArrayLike | Mapping[str, Any],
        faces: ArrayLike | Mapping[str, Any],
    ) -> None:
        initial = _floats(distances, "distances", 1)
        voice_rows, face_rows = _rows(voice_index, "voice_index"), _rows(face_index, "face_index")
        if not len(initial) == len(voice_rows) == len(face_rows):
            raise DataError(
                f"ScoredCell: {len(initial)} distances, {len(voice_rows)} voice rows and {len(face_rows)} face rows; "
                "give one of each per trial"
            )
        voice_spaces, face_spaces = _spaces(voices, "voices", voice_rows), _spaces(faces, "faces", face_rows)
        values = (initial, voice_rows, face_rows, voice_spaces, face_spaces)
        for name, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, name, value)


def _floats(values: ArrayLike, name: str, dimensions: int) -> NDArray[Any]:
    """The values as floating-point numbers; arrays of any floating type stay as they are."""
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f" or array.ndim != dimensions:
        shape = "(trials,)" if dimensions == 1 else "(items, width)"
        raise DataError(f"ScoredCell.{name}: {array.dtype} of shape {array.shape}; give numbers of shape {shape}")
    return array


def _rows(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if not array.size:
        array = array.astype(np.int64)  # an empty list is an array of float64
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(
            f"ScoredCell.{name}: {array.dtype} of shape {array.shape}; give whole numbers of shape (trials,)"
        )
    return array


def _spaces(values: ArrayLike | Mapping[str, Any], name: str, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Embeddings by space, each with a row for every index."""
    by_space = dict(values) if isinstance(values, Mapping) else {"model": values}
    spaces = {space: _floats(x, f"{name}[{space!r}]", 2) for space, x in by_space.items()}
    for space, x in spaces.items():
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(x):
            wrong = rows.min() if rows.min() < 0 else rows.max()
            raise DataError(f"ScoredCell.{name}[{space!r}]: a trial names row {wrong}, but there are {len(x)} rows")
    return spaces


class ItemBatch(TypedDict):
    """A batch of unique items of one modality: ``index`` (B,) int64 rows of the items, ``x`` (B, ...) inputs."""

    index: object
    x: object


class PairBatch(TypedDict):
    """A training batch: ``voice`` (B, ...), ``face`` (B, ...), ``identity`` (B,) int64 class index.

    ``clip`` (B,) int64 is the row of the training set that the voice and the identity come from.
    """

    voice: object
    face: object
    identity: object
    clip: object


class ItemTable(Protocol):
    """All items of one modality: a table of features, or of media files."""

    @property
    def items(self) -> Items:
        """The items, without features."""

    def array(self, items: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Features (n, d) of some items; None where the items are media."""
