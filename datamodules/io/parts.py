"""Intermediate results of long work in files of their own, so that a killed command loses a few seconds of it."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from datamodules.io.text import plain_file
from datamodules.io.writing import draft_of, together
from datamodules.schema import DataError


class Parts:
    """A folder of parquet files, each written as a whole by one of several processes.

    Args:
        folder: of the files; made by the first :meth:`save`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, table: pa.Table) -> None:
        """Writes one more part. It is on disk when this returns, or not there at all.

        Raises:
            CannotWrite: it cannot be written.
        """
        path = self.folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
        with together(self.folder), draft_of(path, sync=True) as draft, draft.open("wb") as file:
            parquet.write_table(table, file, write_page_checksum=True)

    @property
    def begun(self) -> int:
        """When the first part was written, in nanoseconds; where there is none, now."""
        times = (path.name.partition("-")[0] for path in self.folder.glob("*.parquet"))
        return min((int(name) for name in times if name.isdecimal()), default=time.time_ns())

    def read(self) -> Iterator[pa.Table]:
        """The parts in the order they were written, without damaged ones, whose work is to be done again."""
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                table = parquet.ParquetFile(plain_file(path), page_checksum_verification=True).read()
            except (DataError, OSError, pa.ArrowException):
                continue
            yield table

    def remove(self) -> None:
        """Removes all parts and the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
