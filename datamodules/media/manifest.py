"""Data module for any data set of voices and faces that a table describes."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.identities import gender_letter
from datamodules.io.item_ids import stem, unsafe
from datamodules.io.shards import INDEX, shard_paths, shards_of
from datamodules.io.tables import read_table
from datamodules.io.text import expanded, is_file, nearest, plain_name, shown
from datamodules.media.module import MediaDataModule
from datamodules.media.table import MediaTable, media_table
from datamodules.schema import DataError
from datamodules.split import VAL_IDENTITIES

REQUIRED = ("voice", "face", "identity", "language")
OPTIONAL = ("video", "gender", "split")
SPLITS = ("train", "val", "test", "")
_COLUMNS = (*REQUIRED, *OPTIONAL)


class ManifestDataModule(MediaDataModule):
    """Trains and tests on the files of a manifest: a CSV or parquet table with one clip per row.

    The columns are ``voice, face`` (files), ``identity``, ``language``, and optionally ``video``, ``gender`` and
    ``split`` (``train``, ``val``, ``test``). With ``split``, ``test`` rows are never used in training, and an identity
    may be in one split only. Trial lists name the files as the table does. Identity and language may be empty in rows
    that are only used in tests.

    Files that ``prepare --shards`` wrote into ``NAME.shards`` beside the manifest ``NAME.csv`` are read from there;
    batches and scores are the same.

    Args:
        manifest: the table.
        train_languages: languages that training uses.
        root: folder that the files and lists are relative to; None = the folder of the manifest.
        columns: names of the manifest's columns, by our names: ``{voice: audio, language: lang}``.
        val_identities: see :class:`SplitDataModule`; None = the identities of the ``val`` rows, else 6.
        **options: options of :class:`MediaDataModule`.
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
        self.manifest = str(expanded(manifest))
        folder = str(Path(self.manifest).absolute().parent if root is None else expanded(root))
        validated = VAL_IDENTITIES if val_identities is None else val_identities
        super().__init__(train_languages=train_languages, root=folder, val_identities=validated, **options)
        self.columns, self._val_by_split = columns or {}, val_identities is None

    @cached_property
    def _rows(self) -> pd.DataFrame:
        return read_manifest(self.manifest, self.columns)

    @cached_property
    def _files(self) -> tuple[MediaTable, MediaTable, NDArray[np.int64], NDArray[np.int64]]:
        rows, tables = self._rows, []
        if self._val_by_split and (rows["split"] == "val").any():
            self.val_identities = sorted(set(rows["identity"][rows["split"] == "val"]) - {""})
        for modality in ("voice", "face"):
            ids = [stem(reference) for reference in rows[modality]]
            paths = self._paths(rows[modality].tolist(), modality)
            columns = [rows[name] for name in ("identity", "language", "gender", "video")]
            tables.append(media_table(zip(ids, paths, *columns, strict=True), f"manifest {self.manifest}"))
        (voices, voice_rows), (faces, face_rows) = tables
        return voices, faces, voice_rows, face_rows

    def _paths(self, references: list[str], modality: str) -> list[Path]:
        shards = shards_of(self.manifest)
        if is_file(shards / INDEX):
            return shard_paths(shards, references)
        paths = [Path(self.root) / reference for reference in references]
        lost = [reference for reference, path in zip(references, paths, strict=True) if not is_file(path)]
        if lost:
            hint = f", or copy {INDEX} into {shards}" if shards.is_dir() else ""
            raise DataError(
                f"manifest {self.manifest}: {len(lost)} of {len(paths)} {modality} files are missing under "
                f"{self.root}: {shown(lost)}; set data.root{hint}"
            )
        return paths

    @property
    def tables(self) -> tuple[MediaTable, MediaTable]:
        return self._files[:2]

    def clip_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        voice, face = self._files[2:]
        kept = (self._rows["split"] != "test").to_numpy()
        return voice[kept], face[kept]


def read_manifest(path: str | Path, columns: dict[str, str] | None = None) -> pd.DataFrame:
    """Reads and checks a manifest.

    Args:
        path: a CSV, TSV or parquet table; see :class:`ManifestDataModule`.
        columns: names of its columns, by our names: ``{voice: audio, language: lang}``.

    Returns:
        The columns ``voice, face, identity, language, video, gender, split`` as text, "" where unknown.

    Raises:
        DataError: an unreadable table, a missing column, an empty or unsafe path of a file, an unknown split or gender,
            or an identity in more than one split.
    """
    where = f"manifest {path}"
    source = read_table(path, "manifest")
    names = {name: name for name in _COLUMNS if name in source.columns}
    for name, column in (columns or {}).items():
        if name not in _COLUMNS:
            raise DataError(
                f"data.columns (--columns of embed): {name} is not a column of a manifest{nearest(name, _COLUMNS)}"
            )
        names[name] = column
    for name in (*REQUIRED, *(columns or {})):
        column = names.get(name, name)
        if column not in source.columns:
            hint = nearest(column, source.columns) or f"; it has {', '.join(source.columns)}"
            raise DataError(f"{where}: no column {column}{hint}; name yours in data.columns, or by --columns of embed")
    table = pd.DataFrame({name: source[names[name]] if name in names else "" for name in _COLUMNS})
    for name in ("voice", "face"):
        for row, reference in enumerate(table[name]):
            if why := ("is empty" if not reference else unsafe(reference)):
                raise DataError(f"{where}, row {row + 1}, column {names[name]}: {reference} {why}")
    wrong = np.flatnonzero(~table["split"].isin(SPLITS))
    if wrong.size:
        value = table["split"][wrong[0]]
        raise DataError(f"{where}, row {wrong[0] + 1}, column split: {value!r} is unknown; use train, val or test")
    table["gender"] = [gender_letter(value, where) for value in table["gender"]]
    for column in ("identity", "language", "video"):
        table[column] = [plain_name(value) for value in table[column]]
    splits = table[(table["identity"] != "") & (table["split"] != "")].groupby("identity")["split"].nunique()
    if several := splits.index[splits > 1].tolist():
        raise DataError(
            f"{where}, column split: {len(several)} identities are in more than one split: {shown(several)}"
        )
    return table
