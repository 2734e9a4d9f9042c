"""Readers of feature files: npz, npy with an index, the baseline's CSV files. Formats: ``datamodules/README.md``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.documents import check_letters, open_arrays, read_array
from datamodules.io.identities import gender_letter, read_estimates
from datamodules.io.item_ids import stem
from datamodules.io.tables import read_table
from datamodules.io.text import (
    LONGEST,
    WIDEST,
    check_lines,
    csv_rows,
    existing,
    nearest,
    other_separator,
    plain_name,
    read_text,
    shown,
    split_fragment,
)
from datamodules.io.trials import read_challenge_index
from datamodules.schema import ATTRIBUTES, DataError, Modality, one_line

FIELDS = ("identity", "language", "video", "gender")
_ID_ARRAYS = ("item", "clip_id", "utterance", "utterance_id", "id")
_REMEDY = "write it with np.save or np.savez, numbers as float32 and names by .astype(str)"
_MANY = 8  # different whole numbers, in a column or line of a file with fractions, that are names and no features
_SURE = 40  # numbers written with as many decimals, so that all of the file are
_CSV_REMEDY = "write it without row and column names, in pandas by to_csv(path, index=False, header=False)"


@dataclass
class FeatureFile:
    """A file of embeddings of one modality. In a config, a path stands for ``FeatureFile(path)``.

    Attributes:
        path: ``file.npz`` (arrays ``x, identity, language, video, item``), ``file.npz#array`` (a named array),
            ``file.npy`` (needs ``index``) or a ``file.csv`` without column names.
        index: describes the rows: a CSV or parquet table with a column ``item`` (or ``voice``/``face``, by modality)
            and any of ``identity, language, video, gender``, and ``age`` (years) and ``female`` (a probability) as an
            encoder estimated them; or a challenge list. Row i of the file is line i of the index. An npz with item ids
            is an exception: its items are looked up in the index by id.
        labelled: whether the last column of a CSV is the identity. None = yes for ``data.voices`` and ``data.faces``,
            no for the files of a test condition, as in the challenges' releases.
        columns: names of the index's columns, by our names: ``{item: clip_id, video: youtube_id}``.
        language: language of all items, where the file and its index do not give one.
    """

    path: str
    index: str | None = None
    labelled: bool | None = None
    columns: dict[str, str] | None = None
    language: str = ""


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """The content of a feature file, row by row; an item may occur in several rows.

    Attributes:
        x: (n, d) embeddings, of any floating type.
        table: (n,) columns ``item`` and :data:`FIELDS`, "" where unknown; any of
            :data:`datamodules.schema.ATTRIBUTES` as numbers, NaN where unknown.
        in_place: whether ``x`` is a memory map of the file itself.
    """

    x: NDArray[np.floating]
    table: pd.DataFrame
    in_place: bool = False


def paths_of(file: FeatureFile) -> tuple[Path, ...]:
    """The paths of a feature file and, where it has one, its index.

    Raises:
        DataError: one of them does not exist.
    """
    path = existing(split_fragment(file.path)[0], "feature file")
    return (path,) if file.index is None else (path, existing(file.index, "index of a feature file"))


def read_feature_file(file: FeatureFile, modality: Modality) -> FeatureRows:
    """Reads a feature file.

    Raises:
        DataError: the file or its index is unreadable, a key, row or column is missing, their lengths differ, or a
            value is not a number.
    """
    path, array = paths_of(file)[0], split_fragment(file.path)[1]
    where = f"feature file {file.path}"
    suffix = path.suffix.lower()
    if suffix == ".npz":
        rows = _read_npz(path, array or "x", where, file, modality)
    elif suffix == ".npy":
        x = read_array(path, _REMEDY, "feature file", mapped=True)
        rows = FeatureRows(x, _index(file, modality, where), in_place=True)
    elif suffix in (".csv", ".txt"):
        rows = _read_csv(path, where, file, modality)
    else:
        raise DataError(f"{where}: unknown kind {path.suffix or 'of file'}; use .npz, .npy or .csv")
    x, table = rows.x, rows.table
    if x.ndim != 2 or not np.issubdtype(x.dtype, np.floating) or 0 in x.shape:
        raise DataError(
            f"{where}: contains {x.dtype} of shape {x.shape}; expected floating-point numbers (items, width)"
        )
    if len(x) != len(table):
        raise DataError(f"{where}: {len(x)} rows, but {file.index or 'its item ids'} have {len(table)}")
    table["language"] = table["language"].where(table["language"] != "", file.language)
    table["gender"] = [gender_letter(value, where) for value in table["gender"]]
    for column in ("item", "identity", "language", "video"):
        table[column] = [plain_name(value) for value in table[column]]
    if (table["item"] == "").any():
        raise DataError(f"{where}: row {int((table['item'] == '').argmax()) + 1} has no item id")
    return rows


def _read_npz(path: Path, name: str, where: str, file: FeatureFile, modality: Modality) -> FeatureRows:
    with open_arrays(path, _REMEDY, "feature file") as arrays:
        if name not in arrays.files:
            return _by_item(arrays, name, path, where, file, modality)
        x = arrays[name]
        rows = len(x) if x.ndim else 1
        others = [key for key in arrays.files if key not in (name, *FIELDS, *_ID_ARRAYS)]
        columns = {}
        for key in (key for key in (*FIELDS, *_ID_ARRAYS) if key in arrays.files):
            values = arrays[key]
            if values.ndim == 0 and key in FIELDS:  # one value for all rows
                values = np.broadcast_to(values, x.shape[:1])
            if values.size != rows and any(arrays[other].shape[:1] == (values.size,) for other in others):
                continue  # it describes the rows of that array
            columns[key] = _text(values, rows, f"{where}: {key}")
    ids = next((key for key in _ID_ARRAYS if key in columns), None)
    if ids is None:
        return FeatureRows(x, _index(file, modality, where))
    parts = [columns[key] for key in ("identity", "language", "video") if key in columns]
    item = columns[ids]
    if ids == "item":
        for part in reversed(parts):
            item = part.str.cat(item, sep="/")
    return _described(
        x,
        pd.DataFrame({"item": item, **{key: columns.get(key, "") for key in FIELDS}}, dtype=str),
        where,
        file,
        modality,
    )


def _text(values: NDArray[Any], rows: int, where: str) -> pd.Series:
    """An array of an npz that describes its rows, as text; floats must be whole, as ids that were read as numbers."""
    if values.size != rows or values.squeeze().ndim > 1:
        raise DataError(f"{where} has shape {values.shape}, but there are {rows} rows; write one for each row")
    values = values.ravel()
    if values.dtype.kind == "f":
        if not ((np.rint(values) == values) & (np.abs(values) < 2**53)).all():
            raise DataError(f"{where} holds numbers that are not whole, such as NaN; write it as text")
        values = values.astype(np.int64)
    check_letters(values)
    if values.dtype.kind not in "iuUS":
        raise DataError(f"{where} holds {values.dtype}; write it as text")
    return pd.Series(values.astype(str), dtype=str)


def _by_item(arrays: Any, name: str, path: Path, where: str, file: FeatureFile, modality: Modality) -> FeatureRows:
    """Rows of an npz that holds a vector under the id of each item, as ``np.savez(path, **vectors)`` writes it."""
    wide = [key for key in arrays.files if key not in (*FIELDS, *_ID_ARRAYS)]
    if name == "x" and len(wide) > 1 and len(wide) == len(arrays.files):
        vectors = [arrays[key] for key in wide]
        if all(v.shape == vectors[0].shape and v.ndim == 1 and v.dtype.kind == "f" for v in vectors):
            table = pd.DataFrame({"item": [stem(key) for key in wide], **dict.fromkeys(FIELDS, "")}, dtype=str)
            return _described(np.stack(vectors), table, where, file, modality)
    hint = f"; name one as {path.name}#{wide[0]}" if wide else ""
    raise DataError(f"{where}: no array {name} among {shown(arrays.files)}{hint}")


def _described(x: NDArray[Any], table: pd.DataFrame, where: str, file: FeatureFile, modality: Modality) -> FeatureRows:
    """Rows whose items are looked up in the index, where there is one."""
    if file.index is None:
        return FeatureRows(x, table)
    index = _index(file, modality, where).drop_duplicates("item").set_index("item")
    position = index.index.get_indexer(table["item"])
    if (position < 0).any():
        raise DataError(f"{where}: item {table['item'][int((position < 0).argmax())]} is not in {file.index}")
    for key in FIELDS:
        table[key] = table[key].where(table[key] != "", index[key].to_numpy()[position])
    for key in index.columns.intersection(ATTRIBUTES):
        table[key] = index[key].to_numpy()[position]
    return FeatureRows(x, table)


def _read_csv(path: Path, where: str, file: FeatureFile, modality: Modality) -> FeatureRows:
    labelled = file.labelled is not False
    check_lines(path, "feature file")
    options: dict[str, Any] = {"header": None, "encoding": "utf-8-sig", "keep_default_na": False}
    try:
        with path.open("rb") as lines:
            first = lines.read(LONGEST).partition(b"\n")[0].partition(b"\r")[0]
            if first.count(b",") >= WIDEST:  # before pandas, which takes seconds for so many columns
                raise DataError(f"{where}, line 1: more than {WIDEST:,} columns; is it damaged?")
        head = pd.read_csv(path, nrows=_MANY, dtype=str, **options)
        if head.shape[1] == 1 and (separator := other_separator(head.iloc[0, 0])):
            raise DataError(f"{where}: its columns are separated by {separator}; write commas")
        types: dict[int, Any] = dict.fromkeys(range(head.shape[1]), np.float32)
        if labelled:
            types[head.shape[1] - 1] = str
        frame = pd.read_csv(path, dtype=types, **options)
    except (ValueError, OSError) as error:  # pandas' parser and type errors are ValueErrors
        if isinstance(error, DataError):
            raise
        raise _locate(path, where, labelled) or DataError(
            f"{where}: cannot be read ({one_line(error, 160)})"
        ) from error
    x = frame.iloc[:, : -1 if labelled else None].to_numpy(np.float32)
    first = head.iloc[0, : x.shape[1]].astype(str).str.lower()
    truths = first.isin(["true", "false"]).any()  # which pandas takes for 1 and 0
    if (truths or not np.isfinite(x).all()) and (located := _locate(path, where, labelled)):
        raise located
    _check_names(x, head.iloc[:, : x.shape[1]], where)
    if not labelled:
        _check_unlabelled(x, head, where)
        _check_last(path, head, where)
    label = (
        frame.iloc[:, -1].str.strip().str.removesuffix(".0") if labelled else pd.Series([""] * len(frame), dtype=str)
    )
    if labelled and (label == "").any():
        row = int((label == "").argmax()) + 1
        raise _locate(path, where, labelled) or DataError(
            f"{where}, row {row}: no identity in the last column; set labelled: false if there are none"
        )
    if label.str.fullmatch(r"-?\d*\.\d+(e-?\d+)?").any():
        raise DataError(f"{where}: the last column is a feature, not an identity; set labelled: false")
    if labelled:
        _check_end(path, label.to_numpy(dtype=object), where)
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


def _check_names(x: NDArray[np.float32], head: pd.DataFrame, where: str) -> None:
    """Refuses row numbers in the first column and column numbers in the first row, which pandas writes by default."""
    if 0 in x.shape:
        return
    fractions = bool((x != np.rint(x)).any())
    written = _is_name(head, 0)
    if fractions and written and x.shape[1] > 2 and _is_name(head, 1) and _ascend(x[:, :2]):
        raise DataError(f"{where}: the first two columns number the rows, they hold no features; {_CSV_REMEDY}")
    for values, what in ((x[:, 0], "first column numbers the rows"), (x[0], "first line numbers the columns")):
        steps = np.diff(values)
        counts = len(values) > 1 and values[0] in (0, 1) and (steps == 1).all()
        whole = (values == np.rint(values)).all() and fractions
        rows = what.startswith("first column")
        different = len(np.unique(values)) == len(values) or (rows and np.mean(steps == 1) > 2 / 3)
        if counts or (whole and different and (len(values) >= _MANY or (rows and written))):
            raise DataError(f"{where}: the {what}, it holds no features; {_CSV_REMEDY}")


def _ascend(pairs: NDArray[np.float32]) -> bool:
    """Whether each pair of numbers (n, 2) is beyond the one before, as in an index of two levels."""
    steps = np.diff(pairs, axis=0)
    return len(pairs) > 2 and bool(((steps[:, 0] > 0) | ((steps[:, 0] == 0) & (steps[:, 1] > 0))).all())


def _check_unlabelled(x: NDArray[np.float32], head: pd.DataFrame, where: str) -> None:
    """Refuses identities in the last column of a file that is said to have none: whole numbers beside fractions."""
    last = x[:, -1]
    if x.shape[1] < 2 or (last != np.rint(last)).any() or not last.any() or (x[:, :-1] == np.rint(x[:, :-1])).all():
        return
    if _is_name(head, -1) or (len(last) >= _MANY and len(np.unique(last)) > 1):
        raise DataError(
            f"{where}: the last column holds whole numbers, as identities do, but labelled is false; set labelled: true"
            " or leave the column out"
        )


def _is_name(head: pd.DataFrame, column: int) -> bool:
    """Whether the first rows of a column are written as whole numbers while most of the others have a point."""
    texts = np.char.strip(head.to_numpy(dtype=str))
    pointed = (np.char.find(texts, ".") >= 0).any(axis=0)
    return bool(np.char.isdigit(texts[:, column]).all() and pointed.mean() > 0.5)


def _last_field(path: Path) -> str:
    """The last number or name of a CSV that ends without a line end; "" of others."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 1 << 10), 2)
        tail = file.read()
    return "" if tail.endswith((b"\n", b"\r")) else tail.rpartition(b",")[2].decode("utf-8", "replace").strip()


def _check_last(path: Path, head: pd.DataFrame, where: str) -> None:
    """Refuses a file that ends within its last number: it has fewer decimals than all others, which have as many."""
    last = _last_field(path)
    written = [str(text) for text in head.to_numpy().ravel()[:-1]]
    decimals = {len(text.partition(".")[2]) for text in written}
    if last and len(written) >= _SURE and len(decimals) == 1 and len(last.partition(".")[2]) < min(decimals):
        raise DataError(
            f"{where}: ends in {last[:40]!r} without a line end, with fewer decimals than its other numbers; if the "
            "file is whole, end its last line"
        )


def _check_end(path: Path, label: NDArray[np.object_], where: str) -> None:
    """Refuses a file that ends within its last label: without a line end, in the beginning of another identity.

    In a file whose identities follow each other, the last one is then either new or out of its place.
    """
    if not _last_field(path):
        return
    last, before = label[-1], label[:-1]
    if not any(name != last and name.startswith(last) for name in set(before)):
        return
    grouped = np.count_nonzero(before[1:] != before[:-1]) + 1 == len(set(before))
    if last not in set(before) or (grouped and before[-1] != last):
        raise DataError(
            f"{where}, line {len(label)}: ends in {last!r} without a line end, which begins another identity; if the "
            "file is whole, end its last line"
        )


def _check_labels(label: pd.Series, identity: pd.Series, where: str, index: str) -> None:
    """Compares the label column with the index: if they group the rows differently, the rows do not match the index."""
    first: dict[str, str] = {}
    for i, (value, name) in enumerate(zip(label, identity, strict=True)):
        if name and first.setdefault(value, name) != name:
            raise DataError(f"{where}, line {i + 1}: label {value} is {name} in {index}, but {first[value]} before")


def _locate(path: Path, where: str, labelled: bool) -> DataError | None:
    """An error that names the first value of a CSV that is not a finite number; None if there is none. Slow."""
    rows, lines = csv_rows(read_text(path, "feature file"), where)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            return DataError(f"{where}, line {line}: {len(row)} columns, but line {lines[0]} has {len(rows[0])}")
        for column, value in enumerate(row[: -1 if labelled else None], 1):
            try:
                finite = bool(np.isfinite(np.float32(value)))
            except ValueError:
                finite = False
            finite = finite and value.isascii() and "_" not in value  # which Python takes, and pandas does not
            if not finite:
                remedy = f"; {_CSV_REMEDY}" if line == lines[0] or column == 1 else ""
                return DataError(
                    f"{where}, line {line}, column {column}: {value[:40]!r} is not a finite number{remedy}"
                )
    return None


def _index(file: FeatureFile, modality: Modality, where: str) -> pd.DataFrame:
    """The index of a feature file: a row for each of its rows, with ``item`` and :data:`FIELDS`."""
    if file.index is None:
        raise DataError(f"{where}: has no item ids; give the feature file an index")
    if Path(file.index).suffix.lower() not in (".csv", ".tsv", ".parquet"):
        return read_challenge_index(file.index, modality)
    source = read_table(file.index, "index")
    known = (*FIELDS, *ATTRIBUTES)
    columns = {name: name for name in known if name in source.columns}
    columns["item"] = "item" if "item" in source.columns else modality
    for name, column in (file.columns or {}).items():
        if name not in ("item", *known):
            raise DataError(f"{where}: columns has {name}{nearest(name, known)}; use item, {', '.join(known)}")
        columns[name] = column
    for name, column in columns.items():
        if column not in source.columns:
            hint = nearest(column, source.columns) or f" among {', '.join(source.columns)}"
            raise DataError(f"index {file.index}: no column {column} for {name}{hint}")
    table = pd.DataFrame({name: source[columns[name]] if name in columns else "" for name in ("item", *FIELDS)})
    table["item"] = [stem(item) for item in table["item"]]
    table = table.astype(str)
    named = {columns[name]: name for name in ATTRIBUTES if name in columns}
    estimates = read_estimates(source[[*named]].rename(columns=named), f"index {file.index}")
    if estimates is not None:
        table[list(ATTRIBUTES)] = estimates
    return table
