"""Opens a recording or a picture, whether it is a file or a part of a shard.

A file ``a/b.wav`` of the manifest ``set/manifest.csv`` has the path ``set/manifest.shards/00003.tar/a/b.wav`` there.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc

from datamodules.io.tables import read_parquet
from datamodules.io.text import plain_file, shown
from datamodules.schema import DataError

INDEX = "index.parquet"
COLUMNS = ("item", "shard", "start", "size", "crc32")
REMEDY = "copy it again, or run prepare --shards again"
_IN_SHARD = re.compile(r"(.+\.shards)/(\d{5}\.tar)/(.+)", re.DOTALL)
_OPEN = 64  # shards that a process keeps open; opening is what shared file systems are slow at


class _Place(NamedTuple):
    """Where an item is."""

    shard: int
    start: int
    size: int
    crc32: int


class _Index(NamedTuple):
    """The places of all items, by name; in arrays, which loader processes share without copies."""

    items: pa.Array
    places: NDArray[np.int64]

    def place(self, item: str) -> _Place | None:
        at = bisect_left(range(len(self.items)), item, key=lambda i: self.items[i].as_py())
        found = at < len(self.items) and self.items[at].as_py() == item
        return _Place(*self.places[at].tolist()) if found else None


class _Shard:
    """An open tar file; reading at a place leaves no position behind, so processes may share it."""

    def __init__(self, path: str) -> None:
        self.file = os.open(plain_file(Path(path)), os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "file"):
            os.close(self.file)


def shards_of(manifest: str | Path) -> Path:
    """The folder of the shards of a manifest: ``manifest.shards`` beside ``manifest.csv``."""
    return Path(manifest).with_suffix(".shards")


def opened(path: Path) -> BinaryIO:
    """The bytes of a recording or a picture, to be read.

    Args:
        path: a file, or a path that :func:`shard_paths` gave.

    Raises:
        DataError: it is a folder, pipe, socket or device; or its shard is missing, short or damaged there.
        OSError: there is no such file, or it cannot be read.
    """
    if (match := _IN_SHARD.fullmatch(str(path))) is None:
        return plain_file(path).open("rb")
    file, place = _found(path, match)
    data = _read(path, file, place.start, place.size)
    if zlib.crc32(data) != place.crc32:
        raise DataError(f"{path}: is damaged in its shard {match[2]}; {REMEDY}")
    return io.BytesIO(data)


def ends_of(path: Path, most: int) -> tuple[tuple[int, ...], int, bytes]:
    """What tells a recording or a picture from most others, without reading it whole.

    Args:
        path: see :func:`opened`.
        most: bytes to read at each end.

    Returns:
        Which file it is on the disk, whatever its links; its size; its first and last bytes.

    Raises:
        DataError: see :func:`opened`.
        OSError: see :func:`opened`.
    """
    if match := _IN_SHARD.fullmatch(str(path)):
        file, (_, start, size, _) = _found(path, match)
        status = os.fstat(file.file)
        head, tail = min(most, size), max(0, size - most)
        both = _read(path, file, start, head) + _read(path, file, start + tail, size - tail)
        return (status.st_dev, status.st_ino, start), size, both
    status = path.stat()
    with plain_file(path).open("rb") as plain:
        beginning = plain.read(most)
        plain.seek(max(0, status.st_size - most))
        return (status.st_dev, status.st_ino), status.st_size, beginning + plain.read()


def shard_paths(folder: Path, items: Sequence[str]) -> list[Path]:
    """The paths of items in the shards of a folder, for :func:`opened`.

    Args:
        folder: of the shards.
        items: as the manifest names them.

    Raises:
        DataError: the index cannot be read or lacks an item; a shard is missing or short. Names shard and item.
    """
    _index.cache_clear()  # they may have been made again
    _shard.cache_clear()
    index = _index(str(folder))
    rows = pc.index_in(pa.array(items, pa.string()), index.items).to_numpy(zero_copy_only=False)
    lost = [item for item, row in zip(items, rows, strict=True) if not row >= 0]
    if lost:
        raise DataError(
            f"{folder}: {len(lost)} of {len(items)} files of the manifest are in no shard: {shown(lost)}; "
            "run prepare --shards again"
        )
    places = index.places[rows.astype(np.int64)]
    ends = places[:, 1] + places[:, 2]
    for number in np.unique(places[:, 0]).tolist():
        mine = np.flatnonzero(places[:, 0] == number)
        shard = folder / _name(number)
        size = shard.stat().st_size if plain_file(shard).exists() else -1
        if (cut := mine[ends[mine] > size]).size:
            what = f"has {size:,} of at least {ends[mine].max():,} bytes" if size >= 0 else "there is no such shard"
            raise DataError(f"{shard}: {what}; it lacks {len(cut)} files, such as {items[cut[0]]}; {REMEDY}")
    return [folder / _name(number) / item for number, item in zip(places[:, 0].tolist(), items, strict=True)]


def _name(number: int) -> str:
    return f"{number:05d}.tar"


@lru_cache(maxsize=8)
def _index(folder: str) -> _Index:
    path = Path(folder) / INDEX
    frame = read_parquet(path, "index of shards", list(COLUMNS))
    try:
        items = pa.array(frame["item"], pa.string())
        places = np.column_stack([frame[name].to_numpy() for name in COLUMNS[1:]])
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(f"{path}: is no index of shards; {REMEDY}") from error
    if places.dtype.kind not in "iu" or (places < 0).any() or not frame["item"].is_monotonic_increasing:
        raise DataError(f"{path}: is no index of shards; {REMEDY}")
    return _Index(items, places.astype(np.int64))


@lru_cache(maxsize=_OPEN)
def _shard(path: str) -> _Shard:
    return _Shard(path)


def _found(path: Path, match: re.Match[str]) -> tuple[_Shard, _Place]:
    folder, name, item = match.groups()
    place = _index(folder).place(item)
    if place is None or _name(place.shard) != name:
        raise DataError(f"{path}: is not in its shard {name}; run prepare --shards again")
    try:
        return _shard(f"{folder}/{name}"), place
    except OSError as error:
        raise DataError(f"{path}: its shard {name} cannot be read ({error.strerror}); {REMEDY}") from error


def _read(path: Path, shard: _Shard, start: int, size: int) -> bytes:
    try:
        data = os.pread(shard.file, size, start)
    except OSError as error:
        raise DataError(f"{path}: cannot be read from its shard ({error.strerror}); {REMEDY}") from error
    if len(data) < size:
        raise DataError(f"{path}: its shard ends {size - len(data)} bytes too early; {REMEDY}")
    return data
