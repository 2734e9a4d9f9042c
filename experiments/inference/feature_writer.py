"""Embeds the files of a manifest into feature files, over any number of processes, resumable."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from lightning.pytorch import LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_only
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.io.feature_files import FIELDS
from datamodules.io.parts import Parts
from datamodules.io.writing import draft_of, map_array, write_csv, write_text
from datamodules.media.table import MediaTable
from datamodules.sampling.samplers import EvenShardSampler
from datamodules.schema import Modality
from datamodules.workers import make_loader
from experiments.inference.file_encoders import FileEncoder, Files, checked
from lightning_modules.encoders.faces.alignment import FOUND

SAY_EVERY, SAVE_EVERY = 10.0, 2.0  # seconds
PART_ROWS = 1 << 12
NOTE = "note_"  # before the names of columns of parts that are written into the index


class FeatureWriter(LightningModule):
    """Embeds the files that no part holds yet; every rank appends to parts of its own.

    Args:
        encoders: by modality.
        tables: their files, each of them once.
        out: folder of the feature files.
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
        self._writers: dict[Modality, EmbeddingParts] = {}
        self._start_clock()

    def predict_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        # only rank 0 looks for existing parts: another rank might already see what rank 0 writes
        missing = self._find_missing() if self.trainer.is_global_zero else {}
        self._missing = self.trainer.strategy.broadcast(missing)
        self._writers = {modality: self._parts(modality) for modality in self._missing}
        self._start_clock()
        return [
            make_loader(
                DataLoader,
                Files(self.encoders[modality], self.tables[modality].paths, rows),
                self.num_workers,
                "--num_workers",
                batch_size=self.batch_size,
                sampler=EvenShardSampler(len(rows), self.trainer.global_rank, self.trainer.world_size),
                collate_fn=_as_is,
            )
            for modality, rows in self._missing.items()
        ]

    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        modality = list(self._missing)[dataloader_idx]
        table, rows = self.tables[modality], batch["index"].tolist()
        embeddings = checked(self.encoders[modality](batch["x"]), table.paths[rows])
        notes = self.encoders[modality].notes(batch["x"])
        self._writers[modality].append(table.items.ids[rows].tolist(), embeddings.numpy(), notes)
        self._done += len(rows)
        batches = cast("list[int]", self.trainer.num_predict_batches)[dataloader_idx]
        if batch_idx + 1 == batches or time.monotonic() > self._said + SAY_EVERY:
            self._say_progress(modality)
        if batch_idx + 1 == batches:
            self._start_clock()

    def write_feature_files(self) -> None:
        """``voices.npy`` + ``voices.csv`` and the same for faces, out of the parts, which go."""
        for modality, table in self.tables.items():
            parts = self._parts(modality)
            index = feature_index(table)
            keys = [item_key(item) for item in table.items.ids[table.uses["file"]].tolist()]
            for name, values in parts.notes().items():
                index[name] = [values.get(key) for key in keys]
            write_csv(self.out / f"{modality}s.csv", index)
            self._list_missed(modality, index)
            merge(parts, table.items.ids[table.uses["file"]].tolist(), self.out / f"{modality}s.npy")
        shutil.rmtree(self.out / "parts", ignore_errors=True)

    def _list_missed(self, modality: Modality, index: pd.DataFrame) -> None:
        """Lists the files in which a detector found no face."""
        if FOUND not in index:
            return
        missed = index["item"][index[FOUND] == 0].unique().tolist()
        path = self.out / f"{modality}s_not_found.txt"
        write_text(path, "".join(f"{item}\n" for item in missed))
        files = index["item"].nunique()
        say(f"{modality}s: none was found in {len(missed)} of {files} images, whose middle was taken; see {path}")

    def save(self) -> None:
        """Saves what this rank has embedded."""
        for writer in self._writers.values():
            writer.save()

    def _parts(self, modality: Modality) -> EmbeddingParts:
        return EmbeddingParts(self.out / "parts" / modality)

    def _find_missing(self) -> dict[Modality, NDArray[np.int64]]:
        """Rows of the files that no part holds."""
        missing = {}
        for modality, table in self.tables.items():
            keys = np.array([item_key(item) for item in table.items.ids.tolist()], dtype=np.uint64)
            parts = self._parts(modality)
            have = [part for part, _ in parts.read()]
            there = np.isin(keys, np.concatenate(have)) if have else np.zeros(len(keys), dtype=np.bool_)
            there[there] = ~changed_since(table.paths[there], parts.parts.begun)
            rows = np.flatnonzero(~there)
            if len(rows) < len(keys):
                say(f"{modality}s: {len(keys) - len(rows)} of {len(keys)} were embedded before")
            if len(rows):
                missing[modality] = rows
        return missing

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
    """Embeds what is missing, on all ranks, and writes the feature files on the first.

    Raises:
        DataError: an unreadable file; what was embedded is kept, and the next call continues.
    """
    try:
        trainer.predict(maker, return_predictions=False)
    finally:
        maker.save()
    trainer.strategy.barrier("embedded")
    if trainer.is_global_zero:
        maker.write_feature_files()


def changed_since(paths: NDArray[np.str_], time_ns: int) -> NDArray[np.bool_]:
    """Which files (n,) were written after a time, in nanoseconds. What is not a file of its own was not: shards."""

    def written(path: str) -> int:
        try:
            return Path(path).stat().st_mtime_ns
        except OSError:
            return 0

    return np.array([written(path) > time_ns for path in paths.tolist()], dtype=np.bool_)


def feature_index(table: MediaTable) -> pd.DataFrame:
    """The index of a feature file: a row for each media file and each of its languages and videos."""
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


def item_key(item: str) -> int:
    """64 bits that stand for an item id; two of a million items collide with a chance of 1 in 40 million."""
    return int.from_bytes(blake2b(item.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


class EmbeddingParts:
    """Embeddings of one modality that are computed already, in parts.

    Args:
        folder: of the parts.
    """

    def __init__(self, folder: Path) -> None:
        self.parts = Parts(folder)
        self._keys: list[int] = []
        self._rows: list[NDArray[np.float32]] = []
        self._notes: dict[str, list[float]] = {}
        self._saved = time.monotonic()

    def append(
        self, items: Sequence[str], embeddings: NDArray[np.float32], notes: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        """Takes embeddings and what else is known; saves them with those before them once many, or a few seconds old.

        Args:
            items: n ids.
            embeddings: (n, d).
            notes: columns of n numbers by name, the same names each time.
        """
        self._keys += [item_key(item) for item in items]
        self._rows.append(embeddings)
        for name, values in (notes or {}).items():
            self._notes.setdefault(name, []).extend(values)
        if len(self._keys) >= PART_ROWS or time.monotonic() > self._saved + SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Writes what was appended since the last time as one part."""
        if self._keys:
            x = np.concatenate(self._rows)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
            notes = {NOTE + name: pa.array(values, pa.float32()) for name, values in self._notes.items()}
            self.parts.save(pa.table({"item": pa.array(self._keys, pa.uint64()), "x": vectors, **notes}))
        self._keys, self._rows, self._notes, self._saved = [], [], {}, time.monotonic()

    def read(self) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.float32]]]:
        """Part by part, in bounded memory: keys (n,) of the items, embeddings (n, d)."""
        for table in self.parts.read():
            keys, vectors = table["item"].to_numpy(), table["x"].combine_chunks()
            yield keys, vectors.flatten().to_numpy().reshape(len(keys), -1)

    def notes(self) -> dict[str, dict[int, float]]:
        """The columns of numbers, each by key of the item."""
        notes: dict[str, dict[int, float]] = {}
        for table in self.parts.read():
            keys = table["item"].to_pylist()
            for name in filter(lambda column: column.startswith(NOTE), table.column_names):
                column = notes.setdefault(name.removeprefix(NOTE), {})
                column.update(zip(keys, table[name].to_pylist(), strict=True))
        return notes


def merge(parts: EmbeddingParts, items: Sequence[str], path: Path) -> None:
    """Writes ``path``, an (n, d) npy array of the items in order, out of the parts, which must hold all of them.

    An item may occur several times. The array is mapped, not held; it appears under its name when it is complete.
    """
    keys_of = [item_key(item) for item in items]
    position = {key: row for row, key in reversed(list(enumerate(keys_of)))}
    again = [(row, position[key]) for row, key in enumerate(keys_of) if position[key] != row]
    out: NDArray[np.float32] | None = None
    with draft_of(path) as draft:
        for keys, x in parts.read():
            if out is None:
                out = map_array(draft, (len(items), x.shape[1]))
            rows = np.array([position.get(int(key), -1) for key in keys], dtype=np.int64)
            out[rows[rows >= 0]] = x[rows >= 0]
        assert isinstance(out, np.memmap)
        for row, first in again:
            out[row] = out[first]
        out.flush()
