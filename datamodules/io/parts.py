"""Intermediate results of long work in files of their own, so that a killed command loses a few seconds of it."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from datamodules.schema import DataError, one_line


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
            DataError: it cannot be written.
        """
        path = self.folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
        temporary = path.with_suffix(".tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                parquet.write_table(table, file, write_page_checksum=True)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be written ({one_line(error.strerror or error)}); free space there"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def read(self) -> Iterator[pa.Table]:
        """The parts in the order they were written, without damaged ones, whose work is to be done again."""
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                table = parquet.ParquetFile(path, page_checksum_verification=True).read()
            except (OSError, pa.ArrowException):
                continue
            yield table

    def remove(self) -> None:
        """Removes all parts and the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
