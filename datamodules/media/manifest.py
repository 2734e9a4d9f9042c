"""Any dataset of voices and faces that a table describes."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.item_ids import stem, unsafe
from datamodules.io.people import gender_letter
from datamodules.io.text import nearest, read_table
from datamodules.media.module import MediaDataModule
from datamodules.media.table import MediaTable, media_table
from datamodules.schema import DataError
from datamodules.split import VAL_IDENTITIES

REQUIRED = ("voice", "face", "identity", "language")
OPTIONAL = ("video", "gender", "split")
SPLITS = ("train", "val", "test", "")
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
        root: folder that the files and lists are relative to; None = the folder of the manifest.
        columns: column names of the manifest by ours: ``{voice: audio, language: lang}``.
        val_identities: see :class:`SplitDataModule`; None = the people of the ``val`` rows, else 6.
        **options: those of :class:`MediaDataModule`.
    """

    def __init__(
        self,
        manifest: str,
        train_languages: list[str],
        root: str | None = None,
        columns: dict[str, str] | None = None,
        val_identities: int | list[str] | str | None = None,
        **options: Any,
    ) -> None:
        self.manifest = os.path.expanduser(manifest)
        folder = os.path.dirname(os.path.abspath(self.manifest)) if root is None else os.path.expanduser(root)
        validated = VAL_IDENTITIES if val_identities is None else val_identities
        super().__init__(train_languages=train_languages, root=folder, val_identities=validated, **options)
        self.columns, self._val_by_split = columns or {}, val_identities is None

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
