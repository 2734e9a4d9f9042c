"""Tables with column names: CSV, TSV and parquet files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pyarrow import ArrowException

from datamodules.io.text import csv_rows, existing, read_text, tab_separated_rows
from datamodules.schema import DataError, one_line


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
            raise DataError(f"{what} {path}: not a readable parquet file ({one_line(error)})") from error
        table = frame.astype(object).where(frame.notna(), "").astype(str)
        table.columns = [str(name) for name in frame.columns]
    else:
        text = read_text(path, what)
        rows, lines = tab_separated_rows(text) if path.suffix == ".tsv" else csv_rows(text, f"{what} {path}")
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
