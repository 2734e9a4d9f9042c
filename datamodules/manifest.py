"""Any dataset of voices and faces that a table describes."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.base import Sampling
from datamodules.cells import CellSpec
from datamodules.files import nearest, read_table
from datamodules.media_data import MediaDataModule, MediaOptions, MediaTable, media_table
from datamodules.people import gender_letter
from datamodules.references import stem, unsafe
from datamodules.schema import DataError

REQUIRED = ("voice", "face", "identity", "language")
OPTIONAL = ("video", "gender", "split")
SPLITS = ("train", "val", "test", "")
VAL_IDENTITIES = 6
SHOWN = 5


class ManifestDataModule(MediaDataModule):
    """A CSV or parquet table with one clip per row, and trial lists.

    Columns: ``voice, face`` (files), ``identity``, ``language``, and optionally ``video``, ``gender`` and ``split``
    (``train``, ``val``, ``test``). With ``split``, only ``train`` and ``val`` rows may be learnt from, and nobody may
    be in two of them. Trial lists name the files as the table does. Identity and language may be empty in rows that are
    only tested.

    Args:
        manifest: the table.
        train_languages: languages a model may hear in training.
        test: trial lists by cell name, see :class:`SplitDataModule`.
        root: folder that the files and lists are relative to; None = the folder of the manifest.
        columns: column names of the manifest by ours: ``{voice: audio, language: lang}``.
        genders: see :class:`SplitDataModule`.
        train_identities: see :class:`SplitDataModule`.
        exclude_identities: see :class:`SplitDataModule`.
        val_identities: see :class:`SplitDataModule`; None = the people of the ``val`` rows, else 6.
        val_languages: see :class:`SplitDataModule`.
        val_trials: see :class:`SplitDataModule`.
        split_seed: see :class:`SplitDataModule`.
        media: how files are read; None = the defaults of :class:`MediaOptions`.
        batch_size: pairs per optimiser step, over all ranks.
        eval_batch_size: items per embedding batch on each rank.
        sampling: see :class:`VoiceFaceDataModule`.
        steps_per_epoch: see :class:`VoiceFaceDataModule`.
        num_workers: loader processes of each rank.
        seed: of the training order and augmentation.
    """

    def __init__(
        self,
        manifest: str,
        train_languages: list[str],
        test: dict[str, str | CellSpec] | None = None,
        root: str | None = None,
        columns: dict[str, str] | None = None,
        genders: str | None = None,
        train_identities: list[str] | str | None = None,
        exclude_identities: list[str] | str | None = None,
        val_identities: int | list[str] | str | None = None,
        val_languages: list[str] | None = None,
        val_trials: int = 2000,
        split_seed: int = 0,
        media: MediaOptions | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 64,
        sampling: Sampling | None = None,
        steps_per_epoch: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        self.manifest = os.path.expanduser(manifest)
        folder = os.path.dirname(os.path.abspath(self.manifest)) if root is None else os.path.expanduser(root)
        super().__init__(
            train_languages, test, folder, genders, train_identities, exclude_identities,
            VAL_IDENTITIES if val_identities is None else val_identities, val_languages, val_trials, split_seed,
            batch_size, eval_batch_size, sampling, steps_per_epoch, num_workers, seed,
        )  # fmt: skip
        self.media, self.columns, self._val_by_split = media or MediaOptions(), columns or {}, val_identities is None

    @cached_property
    def _rows(self) -> pd.DataFrame:
        """The manifest under our column names, checked."""
        where = f"manifest {self.manifest}"
        source = read_table(self.manifest, "manifest")
        names = {name: name for name in (*REQUIRED, *OPTIONAL) if name in source.columns}
        for name, theirs in self.columns.items():
            if name not in (*REQUIRED, *OPTIONAL):
                raise DataError(f"data.columns: {name} is no column{nearest(name, (*REQUIRED, *OPTIONAL))}")
            names[name] = theirs
        for name in (*REQUIRED, *self.columns):
            theirs = names.get(name, name)
            if theirs not in source.columns:
                hint = nearest(theirs, source.columns) or f"; it has {', '.join(source.columns)}"
                raise DataError(f"{where}: no column {theirs}{hint}; name yours in data.columns")
        table = pd.DataFrame({name: source[names[name]] if name in names else "" for name in (*REQUIRED, *OPTIONAL)})
        for name in ("voice", "face"):
            for row, reference in enumerate(table[name]):
                if why := ("is empty" if not reference else unsafe(reference)):
                    raise DataError(f"{where}, row {row + 1}, column {names[name]}: {reference} {why}")
        wrong = np.flatnonzero(~table["split"].isin(SPLITS))
        if wrong.size:
            value = table["split"][wrong[0]]
            raise DataError(f"{where}, row {wrong[0] + 1}, column split: {value!r} is unknown; use train, val or test")
        table["gender"] = [gender_letter(value, where) for value in table["gender"]]
        self._check_split(table)
        return table

    def _check_split(self, table: pd.DataFrame) -> None:
        """Nobody may be in two splits."""
        people = table[(table["identity"] != "") & (table["split"] != "")].groupby("identity")["split"].nunique()
        both = people.index[people > 1].tolist()
        if both:
            raise DataError(
                f"manifest {self.manifest}, column split: {len(both)} people are in more than one split: "
                f"{', '.join(both[:SHOWN])}{', ...' if len(both) > SHOWN else ''}"
            )

    @cached_property
    def _files(self) -> tuple[MediaTable, MediaTable, NDArray[np.int64], NDArray[np.int64]]:
        rows, found = self._rows, []
        if self._val_by_split and (rows["split"] == "val").any():
            self.val_identities = sorted(set(rows["identity"][rows["split"] == "val"]) - {""})
        for modality in ("voice", "face"):
            ids = [stem(reference) for reference in rows[modality]]
            paths = [Path(self.root) / reference for reference in rows[modality]]
            self._check_files(dict(zip(rows[modality], paths, strict=True)), modality)
            columns = [rows[name] for name in ("identity", "language", "gender", "video")]
            found.append(media_table(zip(ids, paths, *columns, strict=True), f"manifest {self.manifest}"))
        return found[0][0], found[1][0], found[0][1], found[1][1]

    def _check_files(self, paths: dict[str, Path], modality: str) -> None:
        lost = [reference for reference, path in paths.items() if not path.is_file()]
        if lost:
            raise DataError(
                f"manifest {self.manifest}: {len(lost)} of {len(paths)} {modality} files are missing under "
                f"{self.root}: {', '.join(lost[:SHOWN])}{', ...' if len(lost) > SHOWN else ''}; set data.root"
            )

    @property
    def tables(self) -> tuple[MediaTable, MediaTable]:
        return self._files[:2]

    def clip_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        voice, face = self._files[2:]
        learnt = (self._rows["split"] != "test").to_numpy()
        return voice[learnt], face[learnt]
