"""Tables with column names: CSV, TSV and parquet files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import ArrowException, parquet

from datamodules.io.text import csv_rows, existing, other_separator, plain_file, read_text, tab_separated_rows
from datamodules.schema import DataError, one_line

MOST = 50_000_000
"""Values of a table; the largest data sets have a tenth of them."""


def read_table(path: str | Path, what: str) -> pd.DataFrame:
    """A table of strings from a CSV, TSV or parquet file with column names.

    Raises:
        DataError: missing, unreadable, empty, repeated column names, or a row of another width (names the line).
    """
    path = existing(path, what)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        table = _from_parquet(path, what)
    else:
        text = read_text(path, what)
        separator = "tabs" if suffix == ".tsv" else other_separator(text.partition("\n")[0])
        if separator not in ("", "tabs"):
            raise DataError(f"{what} {path}: its columns are separated by {separator}; write commas")
        rows, lines = tab_separated_rows(text) if separator else csv_rows(text, f"{what} {path}")
        if not rows:
            raise DataError(f"{what} {path}: is empty; a line of column names is expected")
        for row, line in zip(rows, lines, strict=True):
            if len(row) != len(rows[0]):
                raise DataError(f"{what} {path}, line {line}: {len(row)} columns, but line 1 names {len(rows[0])}")
        table = pd.DataFrame(rows[1:], columns=rows[0], dtype=str)
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise DataError(f"{what} {path}: column {repeated[0]} occurs twice")
    if table.empty:
        raise DataError(f"{what} {path}: has column names but no rows")
    return table


def read_parquet(path: Path, what: str = "", columns: list[str] | None = None) -> pd.DataFrame:
    """The table of a parquet file with the types that it has.

    Args:
        path: the file.
        what: its role, for the message.
        columns: the columns to read; None = all.

    Raises:
        DataError: unreadable, or with more values than any table here has.
    """
    where = f"{what} {path}".lstrip()
    try:
        size = parquet.read_metadata(plain_file(path, what))
        if size.num_rows * size.num_columns > MOST:
            raise DataError(f"{where}: {size.num_rows:,} rows of {size.num_columns:,} columns are too many")
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError, ArrowException, MemoryError, KeyError, OverflowError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: not a readable parquet file ({one_line(error, 160)})") from error


def _from_parquet(path: Path, what: str) -> pd.DataFrame:
    """A parquet file as text, "" for missing values; whole numbers without a point, as a missing value makes them."""
    frame = read_parquet(path, what)
    columns = {}
    for at, name in enumerate(frame.columns):
        values = frame.iloc[:, at]
        if len(values) and isinstance(values.iloc[0], bytes):
            try:
                values = values.map(bytes.decode, na_action="ignore")
            except (UnicodeDecodeError, TypeError) as error:
                raise DataError(f"{what} {path}: column {name} holds bytes that are no UTF-8 text") from error
        if values.dtype.kind == "f" and (np.floor(values) == values)[values.notna()].all():
            if (values.abs() >= 2**53).any():
                raise DataError(f"{what} {path}: column {name} holds numbers that were rounded; write them as text")
            values = values.astype("Int64")
        columns[at] = values.astype(object).where(values.notna(), "").astype(str)
    table = pd.DataFrame(columns)
    table.columns = [str(name) for name in frame.columns]
    return table
