"""Readers of matching and retrieval lists. Formats: ``datamodules/README.md``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.io.item_ids import unsafe
from datamodules.io.text import blank_separated_rows, read_text
from datamodules.schema import DataError, Modality, RankingList


def read_matching(path: str | Path, probe: Modality) -> RankingList:
    """Reads ``<probe> <matching candidate> <other candidate> ...``: blanks between, no header, N candidates a line.

    Raises:
        DataError: an unreadable or empty list, lines of different widths, one candidate only, or an unsafe path.
    """
    rows, lines = _rows(path, "matching list")
    width = len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width or width < 3:
            expected = width if width >= 3 else "'<probe> <matching candidate> <other candidate> ...'"
            raise DataError(f"matching list {path}, line {line}: {len(row)} columns, expected {expected}")
    table = np.array(rows, dtype=np.str_)
    return RankingList(probe, table[:, 0], table[:, 1:], f"matching list {path}")


def read_retrieval(path: str | Path, probe: Modality) -> RankingList:
    """Reads a list of two lines, files separated by blanks: the queries, then the gallery.

    Raises:
        DataError: an unreadable list, another number of lines, or an unsafe path.
    """
    rows, _ = _rows(path, "retrieval list")
    if len(rows) != 2:
        raise DataError(f"retrieval list {path}: {len(rows)} lines; expected two, the queries and the gallery")
    queries, gallery = (np.array(row, dtype=np.str_) for row in rows)
    return RankingList(probe, queries, gallery, f"retrieval list {path}")


def _rows(path: str | Path, what: str) -> tuple[list[list[str]], list[int]]:
    rows, lines = blank_separated_rows(read_text(path, what))
    if not rows:
        raise DataError(f"{what} {path}: is empty")
    for row, line in zip(rows, lines, strict=True):
        for reference in row:
            if why := unsafe(reference):
                raise DataError(f"{what} {path}, line {line}: {reference} {why}")
    return rows, lines
