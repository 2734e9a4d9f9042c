"""Embeds the files of a manifest into feature packs, over any number of processes, resumable."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.io.packs import FIELDS
from datamodules.media.table import MediaTable
from datamodules.sampling.samplers import EvenShardSampler
from datamodules.schema import Modality
from experiments.embedding_parts import PartWriter, item_key, merge, read_parts
from experiments.file_encoders import FileEncoder, Files, checked

SAY_EVERY = 10.0  # seconds


class PackMaker(LightningModule):
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

    def make_packs(self) -> None:
        """``voices.npy`` + ``voices.csv`` and the same for faces, out of the parts, which go."""
        for modality, table in self.tables.items():
            beside = self.out / f"{modality}s.csv.tmp"
            pack_index(table).to_csv(beside, index=False)
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


def embed(maker: PackMaker, trainer: Trainer) -> None:
    """Embeds what is missing, on all ranks, and makes the packs, on the first.

    Raises:
        DataError: an unreadable file; what was embedded stays, and the next call goes on.
    """
    trainer.predict(maker, return_predictions=False)
    trainer.strategy.barrier("embedded")
    if trainer.is_global_zero:
        maker.make_packs()


def pack_index(table: MediaTable) -> pd.DataFrame:
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
