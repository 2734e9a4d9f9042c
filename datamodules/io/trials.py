"""Trial lists: read, write, and resolve to rows of unique items. Formats: ``datamodules/README.md``."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc
from pyarrow import csv as arrow_csv

from datamodules.endings import PICTURE, RECORDING
from datamodules.io.item_ids import first_unsafe, media_fields, stem, stems, unsafe
from datamodules.io.text import blank_separated_rows, csv_rows, nearest, read_text
from datamodules.io.writing import draft_of
from datamodules.schema import DataError, Modality, Trials, one_line

_COLUMNS = ("key", "voice", "face", "label")
_ORDERS = {
    3: (("key", "voice", "face"), ("label", "voice", "face"), ("voice", "face", "label")),
    4: (("key", "label", "voice", "face"), ("key", "voice", "face", "label")),
}
"""Columns of lists without names by their number, the usual order first."""
_CHOICES = "; ".join(" ".join(f"<{name}>" for name in order) for orders in _ORDERS.values() for order in orders)


def read_trials(path: str | Path, labels: str | Path | None = None) -> Trials:
    """Reads a trial list, in any of these formats, recognised from the first line.

    - CSV with the column names ``key, voice, face[, label]`` in any order;
    - the challenges' ``<key> <voice> <face>``, separated by blanks, without labels;
    - ``<index> <label> <voice> <face>``, separated by blanks;
    - ``<label> <voice> <face>`` as VoxCeleb's lists, ``<voice> <face> <label>`` or ``<key> <voice> <face> <label>``,
      which are told apart by the column of zeros and ones. Without keys, the numbers of the trials are the keys.

    CRLF, a byte order mark, blank lines and a missing end of the last line are accepted.

    Args:
        path: the list.
        labels: a file with the labels, where the list has none. A line is a label, ``<key> <label>`` or
            ``<label> ...``. Labels are matched by key if the file has the keys of the list, else by line.

    Raises:
        DataError: a missing file or a bad line; names file, line, column and reason.
    """
    text = read_text(path, "trial list")
    source = str(path)
    columns = _parse(text, source)
    refs = {name: columns[name].combine_chunks().dictionary_encode() for name in ("voice", "face")}
    _check(columns, refs, source)
    known: NDArray[np.int8] | None = None
    if "label" in columns:
        known = columns["label"].cast(pa.int8()).to_numpy()
    keys = _strings(columns["key"])
    _check_order(refs, source)
    if labels is not None:
        if known is not None:
            raise DataError(f"trial list {source}: already has labels; leave out {labels}")
        known = _read_labels(labels, keys)
    if known is not None:
        _check_pairs(refs, known, source)
    voices, faces = (_strings(c.dictionary)[c.indices.to_numpy()] for c in (refs["voice"], refs["face"]))
    return Trials(keys=keys, voices=voices, faces=faces, labels=known, source=source)


def write_trials(trials: Trials, path: str | Path) -> None:
    """Writes a list as CSV ``key, voice, face[, label]``, which :func:`read_trials` reads back.

    Raises:
        CannotWrite: the file cannot be written; an older one is left as it is.
    """
    columns = [trials.keys.tolist(), trials.voices.tolist(), trials.faces.tolist()]
    if trials.labels is not None:
        columns.append(trials.labels.tolist())
    with draft_of(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS[: len(columns)])
        writer.writerows(zip(*columns, strict=True))


def resolve(
    trials: Trials, voices: Sequence[str] | NDArray[np.str_], faces: Sequence[str] | NDArray[np.str_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the items that each trial names.

    A reference is looked up as written, then without its extension, then without its first folder, without its first
    two folders, and so on (``v1/voices/id0001/...`` becomes ``id0001/...``).

    Args:
        trials: (t,) the list.
        voices: (n,) item ids.
        faces: (m,) item ids.

    Returns:
        (t,) rows of ``voices`` and (t,) rows of ``faces``.

    Raises:
        DataError: an item is unknown (names the line and the nearest id), or two references of the list that differ
            only in their first folders lead to the same item.
    """
    sides = (trials.voices, voices, "voice"), (trials.faces, faces, "face")
    voice_rows, face_rows = (resolve_column(trials.source, *side) for side in sides)
    return voice_rows, face_rows


def resolve_column(
    source: str, references: NDArray[np.str_], ids: Sequence[str] | NDArray[np.str_], column: str
) -> NDArray[np.int64]:
    """Looks up one column as :func:`resolve` does.

    Args:
        source: the list, for messages.
        references: (n,) references of the column.
        ids: (m,) item ids.
        column: its name, for messages.

    Returns:
        (n,) rows of ``ids``.

    Raises:
        DataError: as :func:`resolve`.
    """
    codes, unique = pd.factorize(references.astype(object))
    index = pd.Index(np.asarray(ids).astype(object))
    rows = index.get_indexer(unique)
    names = stems(unique)
    depth = np.zeros(len(unique), dtype=np.int64)
    while (missing := np.flatnonzero(rows < 0)).size:
        rows[missing] = index.get_indexer(names[missing])
        shorter = [name.partition("/")[2] for name in names[missing]]
        lost = missing[(rows[missing] < 0) & (np.array(shorter) == "")]
        if lost.size:
            first = int(np.flatnonzero(codes == lost[0])[0])
            hint = nearest(stem(unique[lost[0]]), index.tolist()) or "; compare it with the ids of the feature file"
            where = _where(source, first)
            raise DataError(f"{where}, column {column}: unknown item {unique[lost[0]]}{hint}")
        depth[missing] += 1
        still = rows[missing] < 0
        names[missing[still]] = np.array(shorter, dtype=object)[still]
    _refuse_merged(source, unique, rows, depth, column)
    known: NDArray[np.int64] = rows[codes].astype(np.int64)
    return known


def _refuse_merged(
    source: str, unique: NDArray[np.object_], rows: NDArray[np.int64], depth: NDArray[np.int64], column: str
) -> None:
    """Refuses two references that became one item because leading folders were dropped (depth > 1)."""
    dropped = np.flatnonzero(depth > 1)
    if dropped.size == 0 or len(np.unique(rows)) == len(rows):
        return
    by_row: dict[int, str] = {}
    for i in np.r_[np.flatnonzero(depth <= 1), dropped]:
        other = by_row.setdefault(int(rows[i]), str(unique[i]))
        if depth[i] > 1 and stem(other) != stem(unique[i]):
            raise DataError(f"trial list {source}, column {column}: {other} and {unique[i]} lead to the same item")


def _parse(text: str, source: str) -> dict[str, pa.ChunkedArray]:
    """Columns by name, without the line of column names; every row has the same width."""
    head = _head(text)
    if not head:
        raise DataError(f"trial list {source}: is empty; give key, voice and face per line")
    names, comma = _names(head), _is_csv(head)
    width = len(names) if comma else len(head.split())
    if comma:
        unknown = [name for name in names if name not in _COLUMNS]
        missing = [name for name in _COLUMNS[1:3] if name not in names]
        if unknown or missing or len(set(names)) < width:
            problem = f"columns {', '.join(names)}"
            if unknown:
                problem = f"unknown column {unknown[0]!r}{nearest(unknown[0], _COLUMNS)}"
            raise DataError(
                f"trial list {source}, line 1: {problem}; expected key,voice,face[,label] as names "
                f"in a list with commas; with blanks there are no names: {_CHOICES}"
            )
    elif width not in _ORDERS:
        raise DataError(
            f"trial list {source}, line 1: {width} column{'s' * (width > 1)}; expected {_CHOICES}; or CSV with the "
            "names key,voice,face[,label]"
        )
    text = re.sub(r"\n[ \t]+(?=\n)", "\n", text) if comma else _single_blanks(text)
    data = (text.strip() + "\n").encode()
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(data),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, autogenerate_column_names=True),
            arrow_csv.ParseOptions(delimiter="," if comma else " ", quote_char='"' if comma else False),
            arrow_csv.ConvertOptions(
                column_types={f"f{i}": pa.string() for i in range(width)}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _explain(source, width, str(error)) from error
    if table.num_columns != width:
        raise _explain(source, width, "the first line is broken")
    if not comma:
        return _by_order(table, source)
    columns = {name: pc.utf8_trim_whitespace(table.column(i).slice(1)) for i, name in enumerate(names)}
    if "key" not in columns:
        columns["key"] = _numbers(table.num_rows - 1)
    filled = reduce(pc.or_, (pc.not_equal(column, "") for column in columns.values()))
    if not pc.any(filled).as_py():
        raise DataError(f"trial list {source}: has column names but no trials")
    # lines that consist of commas only, as spreadsheets leave them, count as blank
    return columns if pc.all(filled).as_py() else {name: column.filter(filled) for name, column in columns.items()}


def _by_order(table: pa.Table, source: str) -> dict[str, pa.ChunkedArray]:
    """Columns by name of a list without names: labels are the column that has zeros and ones only."""
    orders = _ORDERS[table.num_columns]
    binary = [bool(pc.all(pc.is_in(column, pa.array(["0", "1"]))).as_py()) for column in table.columns]
    if table.num_columns == 3 and binary[0] and len(table) < 3:
        binary[0] = False  # two trials may have the keys 0 and 1
    order = next((o for o in orders if "label" in o and binary[o.index("label")]), orders[0])
    columns = {name: table.column(i) for i, name in enumerate(order)}
    if "key" not in columns:
        warnings.warn(f"trial list {source}: read as {' '.join(f'<{name}>' for name in order)}", stacklevel=2)
        columns["key"] = _numbers(len(table))
    return columns


def _numbers(trials: int) -> pa.ChunkedArray:
    """The keys of a list that has none: the numbers of its trials."""
    return pa.chunked_array([pa.array(map(str, range(1, trials + 1)), pa.string())])


def _single_blanks(text: str) -> str:
    """Text with one blank between columns and none at the ends of lines."""
    # a regular expression takes seconds for a million lines
    text = text.replace("\t", " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text.replace(" \n", "\n").replace("\n ", "\n")


def _head(text: str) -> str:
    """The first line that is not blank."""
    return text.lstrip().partition("\n")[0].strip()


def _names(head: str) -> list[str]:
    return [name.strip().strip('"').strip().lower() for name in head.split(",")]


def _is_csv(head: str) -> bool:
    """Whether the first line has column names; a trial may also contain commas, in its paths."""
    return "," in head and (len(head.split()) not in _ORDERS or any(name in _COLUMNS for name in _names(head)))


def _explain(source: str, width: int, why: str) -> DataError:
    """An error that names the first line with another number of columns than line 1, else gives the reason ``why``."""
    rows, lines = _rows(source)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            return DataError(f"trial list {source}, line {line}: {len(row)} columns, expected {width}")
    return DataError(f"trial list {source}: {one_line(why, 200)}")


def _rows(source: str) -> tuple[list[list[str]], list[int]]:
    """Rows, the column names included, and the line (from 1) of each. Slow: only for error messages."""
    text = read_text(source, "trial list")
    return csv_rows(text, f"trial list {source}") if _is_csv(_head(text)) else blank_separated_rows(text)


def _where(source: str, row: int) -> str:
    """Names the line of a trial for a message; for a list that was not read from a file, its number."""
    if not Path(source).is_file():
        return f"{source}, trial {row + 1}"
    _, lines = _rows(source)
    return f"trial list {source}, line {lines[row + _is_csv(_head(read_text(source, 'trial list')))]}"


def _check(columns: dict[str, pa.ChunkedArray], refs: dict[str, pa.DictionaryArray], source: str) -> None:
    def refuse(bad: pa.ChunkedArray, column: str, why: str) -> None:
        row = pc.index(bad, True).as_py()
        if row >= 0:
            value = columns[column][row].as_py()
            raise DataError(f"{_where(source, row)}, column {column}: {why.format(repr(value)[:80])}")

    for name, column in columns.items():
        refuse(pc.equal(column, ""), name, "is empty")
    refuse(pc.match_substring_regex(columns["key"], r"[\s\pZ\pC]"), "key", "{} contains a blank or control character")
    if "label" in columns:
        refuse(pc.invert(pc.is_in(columns["label"], pa.array(["0", "1"]))), "label", "{} is neither 0 nor 1")
    for name, encoded in refs.items():
        if (code := first_unsafe(encoded.dictionary)) >= 0:
            refuse(pc.equal(encoded.indices, code), name, f"{{}} {unsafe(encoded.dictionary[code].as_py())}")
    if pc.count_distinct(columns["key"]).as_py() < len(columns["key"]):
        keys = columns["key"].to_pandas()
        row = int(np.flatnonzero(keys.duplicated())[0])
        first = int(np.flatnonzero(keys == keys[row])[0])
        raise DataError(f"{_where(source, row)}, column key: {keys[row]!r} is already used in {_where(source, first)}")


def _check_order(refs: dict[str, pa.DictionaryArray], source: str) -> None:
    """Refuses a list of pictures as voices and recordings as faces: without endings, they name other items."""
    voices, faces = (refs[name].dictionary for name in ("voice", "face"))
    swapped = pc.match_substring_regex(voices, PICTURE), pc.match_substring_regex(faces, RECORDING)
    if len(voices) and all(pc.all(part).as_py() for part in swapped):
        raise DataError(
            f"trial list {source}: its voices are pictures such as {voices[0]}, and its faces recordings such as "
            f"{faces[0]}; put the voice before the face"
        )


def _check_pairs(refs: dict[str, pa.DictionaryArray], labels: NDArray[np.int8], source: str) -> None:
    """Refuses a list that calls one pair the same person and two."""
    voice, face = (refs[name].indices.to_numpy().astype(np.int64) for name in ("voice", "face"))
    pair = voice * len(refs["face"].dictionary) + face
    contradicted = np.intersect1d(pair[labels == 1], pair[labels == 0])
    if contradicted.size:
        first, second = np.flatnonzero(np.isin(pair, contradicted[:1]))[:2]
        raise DataError(
            f"{_where(source, int(second))}: the pair of {_where(source, int(first))} has the other label there; "
            f"{contradicted.size} pairs have both labels"
        )


def _read_labels(path: str | Path, keys: NDArray[np.str_]) -> NDArray[np.int8]:
    """(t,) labels of the trials with these keys."""
    rows, lines = blank_separated_rows(read_text(path, "label file"))
    columns = list(zip(*rows, strict=False)) if len({len(row) for row in rows}) == 1 else []
    for at in (1, 0):
        if len(columns) > at and set(columns[at]) <= {"0", "1"}:
            break
    else:
        raise DataError(f"label file {path}: the first or second column must be 0 or 1, in lines of equal width")
    labels: NDArray[np.int8] = np.array(columns[at], dtype=np.int8)
    if len(columns) > 1:
        index = pd.Index(columns[1 - at])
        position = index.get_indexer(keys.astype(object)) if index.is_unique else np.full(len(keys), -1)
        if (position >= 0).all():
            by_key: NDArray[np.int8] = labels[position]
            return by_key
        if (position >= 0).any():
            raise DataError(f"label file {path}: no label for trial {keys[position < 0][0]}")
    if len(labels) != len(keys):
        raise DataError(f"label file {path}, line {lines[-1]}: {len(labels)} labels for {len(keys)} trials")
    return labels


def _strings(column: pa.ChunkedArray | pa.Array) -> NDArray[np.str_]:
    return np.array(column.to_pylist(), dtype=np.str_)


def read_challenge_index(path: str, modality: Modality) -> pd.DataFrame:
    """Reads a train or test list as an index: ``[<key>] <wav> <jpg>`` or ``<index> <label> <wav> <jpg>``.

    The identity of both modalities comes from the face path: in v1 the voice ids are renumbered without the test
    identities, the face ids are not.
    """
    rows, lines = blank_separated_rows(read_text(path, "index"))
    if not rows:
        raise DataError(f"index {path}: is empty")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]) or len(row) not in (2, 3, 4):
            raise DataError(f"index {path}, line {line}: {len(row)} columns; expected '[<key>] <voice> <face>'")
    references = [row[-2 if modality == "voice" else -1] for row in rows]
    _, language, video = zip(*map(media_fields, references), strict=True)
    identity = [media_fields(row[-1])[0] for row in rows]
    item = [stem(reference) for reference in references]
    return pd.DataFrame({"item": item, "identity": identity, "language": language, "video": video, "gender": ""})
