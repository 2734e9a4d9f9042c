"""Embeds the files of a manifest into feature files, over any number of processes, resumable."""

from __future__ import annotations

import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from lightning.pytorch import LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_only
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.io.feature_files import FIELDS
from datamodules.media.table import MediaTable
from datamodules.sampling.samplers import EvenShardSampler
from datamodules.schema import Modality
from experiments.inference.file_encoders import FileEncoder, Files, checked

SAY_EVERY = 10.0  # seconds


class FeatureWriter(LightningModule):
    """Embeds the files that no part holds yet; every rank appends to parts of its own.

    Args:
        encoders: by modality.
        tables: their files, each of them once.
        out: folder of the packs.
        batch_size: files at once on each rank.
        num_workers: loader processes of each rank.
    """

    def __init__(
        self,
        encoders: dict[Modality, FileEncoder],
        tables: dict[Modality, MediaTable],
        out: Path,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        for modality, encoder in encoders.items():
            self.add_module(modality, encoder)
        self.encoders, self.tables, self.out = encoders, tables, out
        self.batch_size, self.num_workers = batch_size, num_workers
        self._missing: dict[Modality, NDArray[np.int64]] = {}
        self._writers: dict[Modality, PartWriter] = {}
        self._start_clock()

    def predict_dataloader(self) -> list[DataLoader]:
        # rank 0 alone looks what is there: another might already see what it writes
        found = self._find_missing() if self.trainer.is_global_zero else {}
        self._missing = self.trainer.strategy.broadcast(found)
        self._writers = {modality: PartWriter(self._parts(modality)) for modality in self._missing}
        self._start_clock()
        return [
            DataLoader(
                Files(self.encoders[modality], self.tables[modality].paths, rows),
                batch_size=self.batch_size,
                sampler=EvenShardSampler(len(rows), self.trainer.global_rank, self.trainer.world_size),
                num_workers=self.num_workers,
                collate_fn=_as_is,
            )
            for modality, rows in self._missing.items()
        ]

    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        modality = list(self._missing)[dataloader_idx]
        table, rows = self.tables[modality], batch["index"].tolist()
        embeddings = checked(self.encoders[modality](batch["x"]), table.paths[rows])
        self._writers[modality].append(table.items.ids[rows].tolist(), embeddings.numpy())
        self._done += len(rows)
        batches = cast("list[int]", self.trainer.num_predict_batches)[dataloader_idx]
        if batch_idx + 1 == batches or time.monotonic() > self._said + SAY_EVERY:
            self._say_progress(modality)
        if batch_idx + 1 == batches:
            self._start_clock()

    def write_feature_files(self) -> None:
        """``voices.npy`` + ``voices.csv`` and the same for faces, out of the parts, which go."""
        for modality, table in self.tables.items():
            beside = self.out / f"{modality}s.csv.tmp"
            feature_index(table).to_csv(beside, index=False)
            os.replace(beside, self.out / f"{modality}s.csv")
            merge(self._parts(modality), table.items.ids[table.uses["file"]].tolist(), self.out / f"{modality}s.npy")
        shutil.rmtree(self.out / "parts")

    def _parts(self, modality: Modality) -> Path:
        return self.out / "parts" / modality

    def _find_missing(self) -> dict[Modality, NDArray[np.int64]]:
        """Rows of the files that no part holds."""
        found = {}
        for modality, table in self.tables.items():
            keys = np.array([item_key(item) for item in table.items.ids.tolist()], dtype=np.uint64)
            have = [part for part, _ in read_parts(self._parts(modality))]
            rows = np.flatnonzero(~np.isin(keys, np.concatenate(have))) if have else np.arange(len(keys))
            if len(rows) < len(keys):
                say(f"{modality}s: {len(keys) - len(rows)} of {len(keys)} were embedded before")
            if len(rows):
                found[modality] = rows
        return found

    def _start_clock(self) -> None:
        self._done, self._since, self._said = 0, time.monotonic(), time.monotonic()

    def _say_progress(self, modality: Modality) -> None:
        """A line, of all ranks by the pace of the first."""
        self._said = time.monotonic()
        total = len(self._missing[modality])
        done = min(total, self._done * self.trainer.world_size)
        rate = done / max(self._said - self._since, 1e-9)
        say(f"{modality}s: {done}/{total}, {rate:.1f} files/s, {(total - done) / rate:.0f} s left")


def embed(maker: FeatureWriter, trainer: Trainer) -> None:
    """Embeds what is missing, on all ranks, and makes the packs, on the first.

    Raises:
        DataError: an unreadable file; what was embedded stays, and the next call goes on.
    """
    trainer.predict(maker, return_predictions=False)
    trainer.strategy.barrier("embedded")
    if trainer.is_global_zero:
        maker.write_feature_files()


def feature_index(table: MediaTable) -> pd.DataFrame:
    """The index of a pack, a row for each file; one that occurs with several languages or videos has a row for each."""
    file = table.uses["file"].to_numpy()
    suffixes = [Path(path).suffix for path in table.paths[file].tolist()]
    known = {name: getattr(table.items, name)[file] for name in ("identity", "gender")}
    fields = {name: {**known, **table.uses}[name] for name in FIELDS}
    return pd.DataFrame({"item": np.char.add(table.items.ids[file], suffixes), **fields})


@rank_zero_only
def say(text: str) -> None:
    """Prints a line on the first rank."""
    print(text, flush=True)


def _as_is(batch: Any) -> Any:
    return batch


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
