"""The memory-mapped feature store: feature files are opened once, joined by item id and read by row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.io.cache import cache_key, cached_folder, discard
from datamodules.io.feature_files import FIELDS, FeatureFile, paths_of, read_feature_file
from datamodules.io.text import split_fragment
from datamodules.schema import ATTRIBUTES, DataError, Items, Modality, one_line

_LARGEST = 1e15  # of an embedding's numbers; the squares of larger ones leave float32
_CHUNK = 1 << 14  # rows checked at once
_FORMAT = 5  # of the cache; raise it when what is written changes


@dataclass(frozen=True, eq=False)
class OpenFeatureFile:
    """An opened feature file, its embeddings in a memory map.

    Attributes:
        file: what was opened.
        x: (n, d) embeddings by row of the file.
        row: (m,) first row of ``x`` of each item.
        item_of_row: (n,) item of each row; an item may have several rows.
        items: the m unique items, in order of first occurrence; language "" where the rows of an item differ in it.
        language: (n,) of each row.
        video: (n,) of each row.
    """

    file: FeatureFile
    x: NDArray[np.floating]
    row: NDArray[np.int64]
    item_of_row: NDArray[np.int64]
    items: Items
    language: NDArray[np.str_]
    video: NDArray[np.str_]


def open_feature_file(file: FeatureFile | str | Path, modality: Modality) -> OpenFeatureFile:
    """Opens a feature file.

    The first time, an npz or CSV is checked and expanded into the cache (:mod:`datamodules.io.cache`). Later, and for
    npy always, the embeddings are mapped into memory, not read. Without a writable cache they are read into memory.

    Args:
        file: the feature file, or its path.
        modality: what it contains; says which column of an index describes its items.

    Returns:
        The opened file. An item in several rows with equal embeddings is kept once.

    Raises:
        DataError: an unreadable file, numbers that are not finite or too large, two different embeddings of an item.
    """
    file = file if isinstance(file, FeatureFile) else FeatureFile(str(file))
    paths = paths_of(file)
    in_place = paths[0].suffix.lower() == ".npy"
    key = cache_key(_FORMAT, split_fragment(file.path)[1], file.labelled is not False, file.columns, file.language,
                    modality, files=paths)  # fmt: skip
    for _ in range(2):
        folder = cached_folder("features", key, partial(_expand, file=file, modality=modality))
        if folder is None:
            return _in_memory(file, modality)
        try:
            return _map(folder, file, paths[0] if in_place else folder / "x.npy")
        except (OSError, ValueError, EOFError) as error:
            warnings.warn(f"cache entry {folder} is damaged ({one_line(error)}); making it again", stacklevel=2)
            discard(folder)
    raise DataError(f"cache entry {folder} cannot be read back; check the disk or set VOICEFACE_CACHE")


def _expand(folder: Path, file: FeatureFile, modality: Modality) -> None:
    opened = _in_memory(file, modality)
    if not isinstance(opened.x, np.memmap):
        np.save(folder / "x.npy", opened.x)
    np.save(folder / "row.npy", opened.row)
    np.save(folder / "item_of_row.npy", opened.item_of_row)
    np.save(folder / "row_language.npy", opened.language)
    np.save(folder / "row_video.npy", opened.video)
    for name in ("ids", *FIELDS):
        np.save(folder / f"{name}.npy", getattr(opened.items, name))
    if opened.items.attributes is not None:
        np.save(folder / "attributes.npy", opened.items.attributes)


def _map(folder: Path, file: FeatureFile, x: Path) -> OpenFeatureFile:
    def column(name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    attributes = column("attributes") if (folder / "attributes.npy").is_file() else None
    items = Items(**{name: column(name) for name in ("ids", *FIELDS)}, attributes=attributes)
    row, item_of_row, language, video = map(column, ("row", "item_of_row", "row_language", "row_video"))
    return OpenFeatureFile(file, np.load(x, mmap_mode="r"), row, item_of_row, items, language, video)


def _in_memory(file: FeatureFile, modality: Modality) -> OpenFeatureFile:
    """Reads and checks a feature file, without the cache."""
    rows = read_feature_file(file, modality)
    x = rows.x if rows.in_place else np.ascontiguousarray(rows.x, dtype=np.float32)
    ids = rows.table["item"].to_numpy(dtype=object)
    _check_finite(x, ids, file.path)
    item_of_row, unique = pd.factorize(ids)
    row = np.zeros(len(unique), dtype=np.int64)
    row[item_of_row[::-1]] = np.arange(len(ids))[::-1]
    _check_equal(x, row, item_of_row, ids, file.path)
    identity, language, video, gender = (_strings(rows.table[name].to_numpy(dtype=object)) for name in FIELDS)
    of_item = language[row]
    of_item[item_of_row[language != of_item[item_of_row]]] = ""  # a portrait shown with clips in several languages
    estimated = list(ATTRIBUTES)
    estimates = rows.table[estimated].to_numpy(np.float32)[row] if {*estimated} <= {*rows.table.columns} else None
    items = Items(_strings(unique), identity[row], of_item, gender[row], video[row], attributes=estimates)
    return OpenFeatureFile(file, x, row, item_of_row.astype(np.int64), items, language, video)


def _strings(values: NDArray[np.object_]) -> NDArray[np.str_]:
    return np.array(values.tolist(), dtype=np.str_)


def _check_finite(x: NDArray[np.floating], ids: NDArray[np.object_], path: str) -> None:
    for start in range(0, len(x), _CHUNK):
        bad = ~(np.abs(x[start : start + _CHUNK]) <= np.float32(_LARGEST)).all(axis=1)  # a float16 has no such number
        if bad.any():
            row = start + int(bad.argmax())
            why = f"numbers beyond {_LARGEST:.0e}" if np.isfinite(x[row]).all() else "NaN or inf"
            raise DataError(
                f"feature file {path}, row {row + 1}: the embedding of {ids[row]} contains {why}; extract it again"
            )


def _check_equal(
    x: NDArray[np.floating], row: NDArray[np.int64], item_of_row: NDArray[np.int64], ids: NDArray[np.object_], path: str
) -> None:
    first = row[item_of_row]
    for again in np.array_split(np.flatnonzero(first != np.arange(len(x))), max(1, len(x) // _CHUNK)):
        differ = (x[again] != x[first[again]]).any(axis=1)
        if differ.any():
            i = int(again[differ.argmax()])
            raise DataError(
                f"feature file {path}: item {ids[i]} has two different embeddings, in rows {first[i] + 1} and {i + 1}"
            )


class FeatureTable:
    """The feature files of one modality, joined by item id.

    The embeddings of each file are scaled to unit length and concatenated, and the result is scaled to unit length
    again. So every file has the same weight. An all-zero embedding stays zero.

    Args:
        files: one or more feature files, or their paths; the first determines the items and their order.
        modality: what they contain.
        normalise: scale to unit length on reading.

    Attributes:
        items: the items, without features; their attributes are those of the first file that has any.
        files: the opened files.
        dim: width of what :meth:`read` returns.

    Raises:
        DataError: an item of the first file is missing from another, or they give it different identities.
    """

    def __init__(self, files: Sequence[FeatureFile | str | Path], modality: Modality, normalise: bool = True) -> None:
        if not files:
            raise DataError(f"data.{modality}s: names no feature file; give at least one")
        self.files = [open_feature_file(file, modality) for file in files]
        self.normalise = normalise
        self.dim = sum(file.x.shape[1] for file in self.files)
        self.items = self.files[0].items
        positions = [np.arange(len(self.items), dtype=np.int64), *(self._position(file) for file in self.files[1:])]
        self._rows = [file.row[position] for file, position in zip(self.files, positions, strict=True)]
        for file, position in zip(self.files, positions, strict=True):
            if self.items.attributes is None and file.items.attributes is not None:
                self.items = replace(self.items, attributes=np.asarray(file.items.attributes)[position])

    def __len__(self) -> int:
        return len(self.items)

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Embeddings (len(rows), dim) float32 of the given items."""
        return torch.from_numpy(self.array(np.asarray(rows, dtype=np.int64)))

    def array(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """:meth:`read` as numpy."""
        parts = []
        for file, row in zip(self.files, self._rows, strict=True):
            x = np.asarray(file.x[row[items]], dtype=np.float32)
            if self.normalise:
                norm = np.linalg.norm(x, axis=1, keepdims=True) * len(self.files) ** 0.5
                x = (x / np.where(norm > 0, norm, 1)).astype(np.float32)
            parts.append(x)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _position(self, file: OpenFeatureFile) -> NDArray[np.int64]:
        """Number among the items of ``file`` of each item of the first file."""
        first, where = self.items, f"feature file {file.file.path}"
        if np.array_equal(first.ids, file.items.ids):
            position = np.arange(len(first), dtype=np.int64)
        else:
            position = pd.Index(file.items.ids.astype(object)).get_indexer(first.ids.astype(object))
        if (position < 0).any():
            lost = np.flatnonzero(position < 0)
            raise DataError(
                f"{where}: lacks {len(lost)} items of {self.files[0].file.path}, first {first.ids[lost[0]]}"
            )
        identity = file.items.identity[position]
        wrong = np.flatnonzero((identity != first.identity) & (identity != "") & (first.identity != ""))
        if wrong.size:
            i = wrong[0]
            raise DataError(
                f"{where}: item {first.ids[i]} is {identity[i]}, but {first.identity[i]} in {self.files[0].file.path}"
            )
        return position
