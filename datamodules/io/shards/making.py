"""Writes the files of a manifest into shards."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from datamodules.io.shards.reading import COLUMNS, INDEX
from datamodules.io.writing import CannotWrite, draft_of, remove_file, together, write_parquet
from datamodules.schema import DataError

SIZE = 256 << 20
"""Bytes of a shard: few enough to copy one again, enough that there are few."""
_Row = tuple[str, int, int, int, int]
_T = TypeVar("_T")


def write_shards(
    root: Path, items: Sequence[str], folder: Path, size: int = SIZE, report: Callable[[int], None] = lambda count: None
) -> int:
    """Copies files into tar files of one folder, and writes where each is.

    Args:
        root: folder of the files.
        items: different paths below it, in the order to write them.
        folder: of the shards; older ones in it are replaced.
        size: bytes after which a shard is closed.
        report: is called with the number of further files that were written.

    Returns:
        The number of shards.

    Raises:
        DataError: a file cannot be read.
        CannotWrite: a shard cannot be written; the older ones stay.
    """
    with together(folder):
        rows: list[_Row] = []
        parts = list(_parts(root, items, size))
        for number, part in enumerate(parts):
            rows += _write_shard(root, part, folder, number, report)
        for older in sorted(folder.glob("[0-9][0-9][0-9][0-9][0-9].tar")):
            if int(older.stem) >= len(parts):
                remove_file(older)
        write_parquet(folder / INDEX, pd.DataFrame(sorted(rows), columns=list(COLUMNS)))
    return len(parts)


def refuse_stale(folder: Path, again: bool) -> None:
    """Refuses a folder of shards that would not fit the manifest beside it, or that is somebody's.

    Args:
        folder: of the shards, which need not exist.
        again: whether shards are to be written into it.

    Raises:
        CannotWrite: it holds shards that are not to be written again, or other files.
    """
    if (folder / INDEX).exists() and not again:
        raise CannotWrite(f"{folder}: holds the files of the manifest; add --shards, remove it, or name another --out")
    if again and folder.is_dir() and not (folder / INDEX).exists():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            raise CannotWrite(f"{folder}: holds {others[0]} and no {INDEX}; remove it, or name another --out")


def _parts(root: Path, items: Sequence[str], size: int) -> Iterator[list[str]]:
    part: list[str] = []
    held = 0
    for item in items:
        if held >= size:
            yield part
            part, held = [], 0
        part.append(item)
        held += _taken(root / item, Path.stat).st_size
    if part:
        yield part


def _taken(path: Path, how: Callable[[Path], _T]) -> _T:
    try:
        return how(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); is it still there?") from error


def _write_shard(
    root: Path, items: Sequence[str], folder: Path, number: int, report: Callable[[int], None]
) -> list[_Row]:
    checks = []
    with draft_of(folder / f"{number:05d}.tar") as draft:
        with draft.open("wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            for item in items:
                content = _taken(root / item, Path.read_bytes)
                member = tarfile.TarInfo(item)  # without times and owners: equal files make equal shards
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                checks.append(zlib.crc32(content))
                report(1)
        with tarfile.open(draft) as tar:
            places = [(member.offset_data, member.size) for member in tar]
    return [
        (item, number, start, size, check) for item, (start, size), check in zip(items, places, checks, strict=True)
    ]
