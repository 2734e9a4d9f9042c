"""Embeddings on their way into a pack: each process appends to a file of its own, at the end they become one array.

A row is written as (item, embedding, checksum): what a kill or a crash cut short is recognised and embedded anew, what
is whole is never computed again, whatever the number of processes. No process writes where another does; on a network
file system, two machines that map the same page would overwrite each other's rows.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 12  # rows in memory at once


def item_key(item: str) -> int:
    """64 bits that stand for an item id; two of a million items collide with a chance of 1 in 40 million."""
    return int.from_bytes(blake2b(item.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


class PartWriter:
    """Appends embeddings to a new file.

    Args:
        folder: of the parts; made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{uuid.uuid4().hex}.part"

    def append(self, items: Sequence[str], embeddings: NDArray[np.float32]) -> None:
        """Writes (n, d) embeddings; they are on disk when this returns."""
        rows = np.zeros(len(items), dtype=_row(embeddings.shape[1]))
        rows["item"] = [item_key(item) for item in items]
        rows["x"] = embeddings
        rows["check"] = [_check(row) for row in rows]
        with self.path.open("ab") as file:
            if not file.tell():
                file.write(np.uint64(embeddings.shape[1]).tobytes())
            file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())


def read_parts(folder: Path) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.float32]]]:
    """Whole rows of all parts, in bounded memory: keys (n,) of the items, embeddings (n, d)."""
    for path in sorted(folder.glob("*.part")):
        with path.open("rb") as file:
            head = file.read(8)
            if len(head) < 8:
                continue
            kind = _row(int(np.frombuffer(head, dtype=np.uint64)[0]))
            while block := file.read(CHUNK * kind.itemsize):
                rows = np.frombuffer(block[: len(block) // kind.itemsize * kind.itemsize], dtype=kind)
                rows = rows[[_check(row) == row["check"] for row in rows]]
                yield rows["item"], rows["x"]


def merge(folder: Path, items: Sequence[str], path: Path) -> None:
    """Writes ``path``, an (n, d) npy array of the items in order, out of the parts, which must hold all of them.

    An item may occur several times. The array is mapped, not held; it appears under its name when it is complete.
    """
    keys_of = [item_key(item) for item in items]
    position = {key: row for row, key in reversed(list(enumerate(keys_of)))}
    again = [(row, position[key]) for row, key in enumerate(keys_of) if position[key] != row]
    beside = path.with_suffix(".tmp")
    out: NDArray[np.float32] | None = None
    for keys, x in read_parts(folder):
        if out is None:
            out = np.lib.format.open_memmap(beside, mode="w+", dtype=np.float32, shape=(len(items), x.shape[1]))
        wanted = np.array([position.get(int(key), -1) for key in keys], dtype=np.int64)
        out[wanted[wanted >= 0]] = x[wanted >= 0]
    assert isinstance(out, np.memmap)
    for row, first in again:
        out[row] = out[first]
    out.flush()
    os.replace(beside, path)


def _row(width: int) -> np.dtype:
    return np.dtype([("item", "<u8"), ("x", "<f4", (width,)), ("check", "<u4")])


def _check(row: np.void) -> int:
    return zlib.crc32(row.tobytes()[:-4])
