"""Opening files with errors that say which file, which line and what to do."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pyarrow import ArrowException

from datamodules.schema import DataError


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean X?`` for an error message, or "" when nothing known is close.

    Args:
        name: what was written.
        known: what is there.
        prefix: put in front of the suggestion.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def split_fragment(path: str) -> tuple[str, str]:
    """``folds.json#0`` as (file, what to take of it). Names of folders and files may hold a # themselves."""
    ends = [i for i, letter in enumerate(path) if letter == "#"]
    for end in (*ends, len(path)):
        if os.path.isfile(os.path.expanduser(path[:end])):
            return path[:end], path[end + 1 :]
    end = next((i for i in ends if i > path.rfind("/")), len(path))
    return path[:end], path[end + 1 :]


def existing(path: str | Path, what: str) -> Path:
    """The path of a file that must exist.

    Args:
        path: the file.
        what: its role, for the message: ``trial list``.

    Raises:
        DataError: there is no such file; names the nearest in its folder, or the part of the path that is missing.
    """
    path = Path(os.path.expanduser(path))
    if os.path.isfile(path):  # false, where Path.is_file raises for a name too long
        return path
    if os.path.isdir(path):
        raise DataError(f"{what} {path}: is a folder, a file is expected")
    if os.path.isdir(path.parent):
        hint = nearest(path.name, (p.name for p in path.parent.iterdir()))
        raise DataError(f"{what} {path}: no such file{hint}")
    lost = [p for p in (path, *path.parents) if not os.path.exists(p)]
    missing = next((p for p in lost if os.path.exists(p.parent)), lost[-1])
    raise DataError(
        f"{what} {path}: no such file; the folder {missing} does not exist; check the path and data.root"
        " (packaged configs take it from VOICEFACE_DATA or MAVCELEB_FEATURES)"
    )


def read_text(path: str | Path, what: str) -> str:
    """Text of a UTF-8 file, without byte order mark, lines ended by ``\\n``.

    Raises:
        DataError: missing, unreadable or not UTF-8 (names the line).
    """
    path = existing(path, what)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{what} {path}: cannot be read ({error.strerror})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{what} {path}, line {line}: not UTF-8; save the file as UTF-8 text") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{what} {path}, line {line}: holds a zero byte; this is not a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def csv_rows(text: str, where: str) -> tuple[list[list[str]], list[int]]:
    """Rows of comma-separated text that are not blank, fields stripped, and the line each row ends on, from 1.

    Raises:
        DataError: broken quoting; names the line.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            row = [field.strip() for field in row]
            if any(row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: {error}; check the quotes") from error
    return rows, lines


def blank_separated_rows(text: str) -> tuple[list[list[str]], list[int]]:
    """Rows of text separated by blanks that are not empty, and the line of each, from 1."""
    rows = [line.split() for line in text.split("\n")]
    kept = [i for i, row in enumerate(rows) if row]
    return [rows[i] for i in kept], [i + 1 for i in kept]


def read_table(path: str | Path, what: str) -> pd.DataFrame:
    """A table of strings from a CSV, TSV or parquet file with column names.

    Raises:
        DataError: missing, unreadable, empty, repeated column names, or a row of another width (names the line).
    """
    path = existing(path, what)
    if path.suffix == ".parquet":
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError, ArrowException) as error:
            raise DataError(f"{what} {path}: not a readable parquet file ({' '.join(str(error).split())})") from error
        table = frame.astype(object).where(frame.notna(), "").astype(str)
        table.columns = [str(name) for name in frame.columns]
    else:
        text = read_text(path, what)
        if path.suffix == ".tsv":
            rows = [[field.strip() for field in line.split("\t")] for line in text.split("\n")]
            kept = [i for i, row in enumerate(rows) if any(row)]
            rows, lines = [rows[i] for i in kept], [i + 1 for i in kept]
        else:
            rows, lines = csv_rows(text, f"{what} {path}")
        if not rows:
            raise DataError(f"{what} {path}: is empty; a line of column names is expected")
        for row, line in zip(rows, lines, strict=True):
            if len(row) != len(rows[0]):
                raise DataError(f"{what} {path}, line {line}: {len(row)} columns, but line 1 names {len(rows[0])}")
        table = pd.DataFrame(rows[1:], columns=rows[0], dtype=str)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError(f"{what} {path}: column {twice[0]} occurs twice")
    if table.empty:
        raise DataError(f"{what} {path}: has column names but no rows")
    return table
