"""Readers of feature files: npz, npy with an index, the baseline's CSV files. Formats: ``datamodules/README.md``."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.item_ids import media_fields, stem
from datamodules.io.people import gender_letter
from datamodules.io.text import blank_separated_rows, csv_rows, existing, nearest, read_table, read_text, split_fragment
from datamodules.schema import DataError, Modality

FIELDS = ("identity", "language", "video", "gender")
_ID_ARRAYS = ("item", "clip_id", "utterance", "utterance_id", "id")
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, struct.error, SyntaxError,
               TokenError, MemoryError, NotImplementedError)  # fmt: skip


@dataclass
class FeatureFile:
    """One file of embeddings of one modality. A bare path stands for ``FeatureFile(path)``.

    Attributes:
        path: ``file.npz`` (arrays ``x, identity, language, video, item``), ``file.npz#array`` (a named array),
            ``file.npy`` (needs ``index``) or a headerless ``file.csv``.
        index: what the rows are: a CSV or parquet table with a column ``item`` (or ``voice``/``face``, by modality) and
            any of ``identity, language, video, gender``; or a challenge list whose lines the rows follow. Rows follow
            the index, unless an npz holds item ids of its own: then they are looked up in it.
        labelled: whether the last column of a CSV is the identity. None = yes for ``data.voices`` and ``data.faces``,
            no for the files of a test cell, as in the challenges' releases.
        columns: column names of the index by ours: ``{item: clip_id, video: youtube_id}``.
        language: language of all items of a file that does not say.
    """

    path: str
    index: str | None = None
    labelled: bool | None = None
    columns: dict[str, str] | None = None
    language: str = ""


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """A file as it lies in its file, row by row; an item may occur in several rows.

    Attributes:
        x: (n, d) embeddings, of any floating type.
        table: (n,) columns ``item`` and :data:`FIELDS`, "" where unknown.
        in_place: ``x`` is a memory map of the file's own file.
    """

    x: NDArray[np.floating]
    table: pd.DataFrame
    in_place: bool = False


def paths_of(file: FeatureFile) -> tuple[Path, ...]:
    """The files a file consists of.

    Raises:
        DataError: one does not exist.
    """
    path = existing(split_fragment(file.path)[0], "feature file")
    return (path,) if file.index is None else (path, existing(file.index, "index of a feature file"))


def read_feature_file(file: FeatureFile, modality: Modality) -> FeatureRows:
    """Reads a file as a whole.

    Raises:
        DataError: unreadable, a key, row or column missing, lengths that differ, a value that is no number.
    """
    path, array = paths_of(file)[0], split_fragment(file.path)[1]
    where = f"feature file {file.path}"
    if path.suffix == ".npz":
        rows = _read_npz(path, array or "x", where, file, modality)
    elif path.suffix == ".npy":
        rows = FeatureRows(_load(path, where), _index(file, modality, where), in_place=True)
    elif path.suffix in (".csv", ".txt"):
        rows = _read_csv(path, where, file, modality)
    else:
        raise DataError(f"{where}: unknown kind {path.suffix or 'of file'}; use .npz, .npy or .csv")
    x, table = rows.x, rows.table
    if x.ndim != 2 or not np.issubdtype(x.dtype, np.floating) or 0 in x.shape:
        raise DataError(f"{where}: holds {x.dtype} of shape {x.shape}; (items, width) of a floating type is expected")
    if len(x) != len(table):
        raise DataError(f"{where}: {len(x)} rows, but {file.index or 'its item ids'} have {len(table)}")
    table["language"] = table["language"].where(table["language"] != "", file.language)
    table["gender"] = [gender_letter(value, where) for value in table["gender"]]
    if (table["item"] == "").any():
        raise DataError(f"{where}: row {int((table['item'] == '').argmax()) + 1} has no item id")
    return rows


def _load(path: Path, where: str) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise DataError(f"{where}: cannot be read ({_short(error)})") from error


def _read_npz(path: Path, name: str, where: str, file: FeatureFile, modality: Modality) -> FeatureRows:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if name not in arrays.files:
                wide = [key for key in arrays.files if key not in (*FIELDS, *_ID_ARRAYS)]
                hint = f"; name one as {path.name}#{wide[0]}" if wide else ""
                raise DataError(f"{where}: no array {name} among {', '.join(arrays.files)}{hint}")
            x = arrays[name]
            columns = {
                key: pd.Series(arrays[key].astype(str), dtype=str)
                for key in (*FIELDS, *_ID_ARRAYS)
                if key in arrays.files and arrays[key].shape == x.shape[:1]
            }
    except _UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: cannot be read ({_short(error)})") from error
    ids = next((key for key in _ID_ARRAYS if key in columns), None)
    if ids is None:
        return FeatureRows(x, _index(file, modality, where))
    parts = [columns[key] for key in ("identity", "language", "video") if key in columns]
    item = columns[ids]
    if ids == "item":
        for part in reversed(parts):
            item = part.str.cat(item, sep="/")
    table = pd.DataFrame({"item": item, **{key: columns.get(key, "") for key in FIELDS}}, dtype=str)
    if file.index is None:
        return FeatureRows(x, table)
    index = _index(file, modality, where).drop_duplicates("item").set_index("item")
    position = index.index.get_indexer(table["item"])
    if (position < 0).any():
        raise DataError(f"{where}: item {table['item'][int((position < 0).argmax())]} is not in {file.index}")
    for key in FIELDS:
        table[key] = table[key].where(table[key] != "", index[key].to_numpy()[position])
    return FeatureRows(x, table)


def _read_csv(path: Path, where: str, file: FeatureFile, modality: Modality) -> FeatureRows:
    labelled = file.labelled is not False
    try:
        head = pd.read_csv(path, header=None, nrows=1, dtype=str, encoding="utf-8-sig")
        types: dict[int, Any] = dict.fromkeys(range(head.shape[1]), np.float32)
        if labelled:
            types[head.shape[1] - 1] = str
        frame = pd.read_csv(path, header=None, dtype=types, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas' parser and type errors are ValueErrors
        raise _locate(path, where, labelled) or DataError(f"{where}: cannot be read ({_short(error)})") from error
    x = frame.iloc[:, : -1 if labelled else None].to_numpy(np.float32)
    if (frame.isna().any(axis=None) or not np.isfinite(x).all()) and (located := _locate(path, where, labelled)):
        raise located
    label = frame.iloc[:, -1].str.removesuffix(".0") if labelled else pd.Series([""] * len(frame), dtype=str)
    if label.str.fullmatch(r"-?\d*\.\d+(e-?\d+)?").any():
        raise DataError(f"{where}: its last column is not an identity but a feature; set labelled: false")
    if file.index is None:
        numbers = [f"{path.stem}/{i}" for i in range(len(frame))]
        return FeatureRows(
            x, pd.DataFrame({"item": numbers, "identity": label, "language": "", "video": "", "gender": ""})
        )
    table = _index(file, modality, where)
    if len(table) == len(label) and labelled:
        _check_labels(label, table["identity"], where, file.index)
        table["identity"] = table["identity"].where(table["identity"] != "", label)
    return FeatureRows(x, table)


def _check_labels(label: pd.Series, identity: pd.Series, where: str, index: str) -> None:
    """The label column and the index must split the rows alike, or the rows do not follow the index."""
    first: dict[str, str] = {}
    for i, (mine, theirs) in enumerate(zip(label, identity, strict=True)):
        if theirs and first.setdefault(mine, theirs) != theirs:
            raise DataError(f"{where}, line {i + 1}: label {mine} is {theirs} in {index}, but {first[mine]} further up")


def _locate(path: Path, where: str, labelled: bool) -> DataError | None:
    """The first value of a headerless CSV that is not a finite number, by a slow scan; None if all are."""
    rows, lines = csv_rows(read_text(path, "feature file"), where)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            return DataError(f"{where}, line {line}: {len(row)} columns, but line {lines[0]} has {len(rows[0])}")
        for column, value in enumerate(row[: -1 if labelled else None], 1):
            try:
                finite = bool(np.isfinite(np.float32(value)))
            except ValueError:
                finite = False
            if not finite:
                return DataError(f"{where}, line {line}, column {column}: {value!r} is not a finite number")
    return None


def _index(file: FeatureFile, modality: Modality, where: str) -> pd.DataFrame:
    """What the rows of a file are: ``item`` and :data:`FIELDS`."""
    if file.index is None:
        raise DataError(f"{where}: does not say which items its rows are; give the feature file an index")
    if Path(file.index).suffix not in (".csv", ".tsv", ".parquet"):
        return _challenge_list(file.index, modality)
    source = read_table(file.index, "index")
    columns = {name: name for name in FIELDS if name in source.columns}
    columns["item"] = "item" if "item" in source.columns else modality
    for name, theirs in (file.columns or {}).items():
        if name not in ("item", *FIELDS):
            raise DataError(f"{where}: columns has {name}{nearest(name, FIELDS)}; use item, {', '.join(FIELDS)}")
        columns[name] = theirs
    for name, theirs in columns.items():
        if theirs not in source.columns:
            hint = nearest(theirs, source.columns) or f" among {', '.join(source.columns)}"
            raise DataError(f"index {file.index}: no column {theirs} for {name}{hint}")
    table = pd.DataFrame({name: source[columns[name]] if name in columns else "" for name in ("item", *FIELDS)})
    table["item"] = [stem(item) for item in table["item"]]
    return table.astype(str)


def _challenge_list(path: str, modality: Modality) -> pd.DataFrame:
    """A train or test list: ``<wav> <jpg>``, ``<key> <wav> <jpg>`` or ``<index> <label> <wav> <jpg>``.

    The identity of both modalities is that of the face path: in v1 the voices are renumbered without the test people,
    the faces are not.
    """
    rows, lines = blank_separated_rows(read_text(path, "index"))
    if not rows:
        raise DataError(f"index {path}: is empty")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]) or len(row) not in (2, 3, 4):
            raise DataError(f"index {path}, line {line}: {len(row)} columns; expected '[<key>] <voice> <face>'")
    own = [row[-2 if modality == "voice" else -1] for row in rows]
    _, language, video = zip(*map(media_fields, own), strict=True)
    identity = [media_fields(row[-1])[0] for row in rows]
    item = [stem(reference) for reference in own]
    return pd.DataFrame({"item": item, "identity": identity, "language": language, "video": video, "gender": ""})


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
