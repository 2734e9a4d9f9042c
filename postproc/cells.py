"""What a refinement may see of one test condition: scores and embeddings, no labels, identities or ids."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, EvaluationSet, Modality
from datamodules.schema import ScoredCell as ScoredCell

ESTIMATES = "attributes"
"""Space of :data:`datamodules.schema.ATTRIBUTES`, (n, 2), NaN where unknown: no embedding."""


def scored_cell(
    evaluation: EvaluationSet,
    name: str,
    distances: NDArray[np.float64],
    embeddings: Mapping[Modality, NDArray[np.floating]],
) -> ScoredCell:
    """Scores and embeddings of the unique items of a test condition, in the order of the items.

    Args:
        evaluation: all test conditions and items.
        name: of the test condition.
        distances: (t,) initial distances of its trials, lower = same person.
        embeddings: learnt embeddings (n, d) of all items of the set, by modality.
    """
    cell = evaluation.cells[name]
    spaces: dict[Modality, dict[str, NDArray[np.floating]]] = {}
    local: dict[Modality, NDArray[np.int64]] = {}
    for modality, index in zip(MODALITIES, (cell.voice_index, cell.face_index), strict=True):
        rows, local[modality] = np.unique(index, return_inverse=True)
        items = evaluation.items(modality)
        of_items = {"model": embeddings[modality], "input": items.features, ESTIMATES: items.attributes}
        spaces[modality] = {space: _rows_of(x, rows) for space, x in of_items.items() if x is not None}
    return ScoredCell(distances, local["voice"], local["face"], spaces["voice"], spaces["face"])


def _rows_of(x: NDArray[np.floating], rows: NDArray[np.int64]) -> NDArray[np.floating]:
    """Some rows, in order; where these are all, the array itself, which is then not to be written to."""
    if len(rows) < len(x):
        return x[rows]
    whole = x.view()
    whole.flags.writeable = False
    return whole


class DegenerateInput(Exception):
    """The reason why a test condition cannot be refined; steps return unchanged scores with this reason."""


Embeddings = dict[Modality, NDArray[np.float64]]


def initial_distances(cell: ScoredCell) -> NDArray[np.float64]:
    """The distances (t,) of a test condition in float64, lower = same person.

    Raises:
        DegenerateInput: no trials, or a distance that is not finite.
    """
    initial = np.asarray(cell.distances, dtype=np.float64)
    if not len(initial):
        raise DegenerateInput("there are no trials")
    if not np.isfinite(initial).all():
        raise DegenerateInput(f"{int((~np.isfinite(initial)).sum())} initial distances are not finite")
    return initial


def embeddings(cell: ScoredCell, space: str, *, normalise: bool = True) -> Embeddings:
    """Voices (n, dv) and faces (m, df) of one space in float64.

    Args:
        cell: a scored cell.
        space: ``model`` or ``input``.
        normalise: scale to unit length.

    Raises:
        DegenerateInput: there is no such space, or an embedding is not finite, or zero where it must be normalised.
    """
    points: Embeddings = {}
    for m, spaces in zip(MODALITIES, (cell.voices, cell.faces), strict=True):
        if space not in spaces:
            raise DegenerateInput(
                f"there are no {space!r} embeddings of {m}s (only {', '.join(sorted(spaces))}); set space: model"
            )
        points[m] = checked(spaces[space], f"{m}", space, normalise=normalise)
    return points


def shared_space(cell: ScoredCell, *, normalise: bool = True) -> Embeddings:
    """Voices (n, d) and faces (m, d) of the learnt space, in which the two can be compared.

    Raises:
        DegenerateInput: as :func:`embeddings`, or the widths differ.
    """
    return comparable(embeddings(cell, "model", normalise=normalise))


def comparable(learnt: Embeddings) -> Embeddings:
    """The same embeddings of the learnt space, checked.

    Raises:
        DegenerateInput: voices and faces differ in width.
    """
    widths = [learnt[m].shape[1] for m in MODALITIES]
    if widths[0] != widths[1]:
        raise DegenerateInput(f"voices ({widths[0]}-d) and faces ({widths[1]}-d) cannot be compared: widths differ")
    return learnt


def checked(x: NDArray[np.floating], what: str, space: str, *, normalise: bool = True) -> NDArray[np.float64]:
    """Embeddings (n, d) in float64, all finite; at unit length if ``normalise``.

    Raises:
        DegenerateInput: an embedding is not finite, or zero where it must be normalised.
    """
    points = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("nd,nd->n", points, points)
        total = squares.sum()
    if not np.isfinite(total):
        raise DegenerateInput(
            f"{what} embeddings ({space}) are not finite, first item {int(np.argmin(np.isfinite(squares)))}"
        )
    if normalise and not squares.all():
        raise DegenerateInput(f"{what} embedding {int(np.argmin(squares))} ({space}) is zero and cannot be normalised")
    if not normalise:
        return points
    return unit(points, None if np.may_share_memory(points, x) else points)


def unit(x: NDArray[np.float64], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Rows at unit length; a zero row stays zero, with cosine 0 to everything. ``out`` takes them, and may be ``x``."""
    out = np.empty_like(x) if out is None else out
    for start in range(0, len(x), _CHUNK):
        rows = slice(start, start + _CHUNK)
        norm = np.linalg.norm(x[rows], axis=1, keepdims=True)
        np.divide(x[rows], np.where(norm > 0, norm, 1), out=out[rows])
    return out


def cosine_distances(
    points: Embeddings, voice_index: NDArray[np.int64], face_index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """1 - cosine (t,) of pairs of rows, in bounded memory; lower = same person."""
    voices, faces = unit(points["voice"]), unit(points["face"])
    out = np.empty(len(voice_index))
    for start in range(0, len(out), _CHUNK):
        rows = slice(start, start + _CHUNK)
        out[rows] = 1 - np.einsum("td,td->t", voices[voice_index[rows]], faces[face_index[rows]])
    return out


_CHUNK = 1 << 16  # rows or pairs worked on at once
