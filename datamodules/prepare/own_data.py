"""A data set that ``prepare`` or ``embed`` made: its items, and the data modules that read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from datamodules.features.module import FeatureDataModule
from datamodules.features.table import FeatureTable
from datamodules.io.feature_files import FeatureFile
from datamodules.io.tables import read_table
from datamodules.media.manifest import ManifestDataModule
from datamodules.prepare.genders import estimate_genders
from datamodules.prepare.hold_out import list_name
from datamodules.schema import DataError, Items

FILES = ("voices.npy", "voices.csv", "faces.npy", "faces.csv")
LARGEST_BATCH, LARGEST_MEDIA_BATCH = 256, 64


@dataclass(frozen=True)
class OwnData:
    """Feature files in a folder, or a manifest.

    Attributes:
        path: the folder, or the manifest.
    """

    path: Path

    @property
    def features(self) -> bool:
        """Whether these are feature files."""
        return self.path.is_dir()

    @property
    def folder(self) -> Path:
        """The folder that relative paths of the data module start from."""
        return self.path if self.features else self.path.parent

    @classmethod
    def open(cls, path: Path) -> OwnData:
        """Looks what a path is.

        Raises:
            DataError: a folder without feature files.
        """
        if path.is_dir() and (lost := [name for name in FILES if not (path / name).is_file()]):
            hint = f"; did you mean {path / 'manifest.csv'}?" if (path / "manifest.csv").is_file() else ""
            raise DataError(f"{path}: has no {lost[0]}; give a folder that embed made, or a manifest{hint}")
        return cls(path.absolute())

    @cached_property
    def _module(self) -> FeatureDataModule | ManifestDataModule:
        if self.features:
            voices, faces = (FeatureFile(f"{side}.npy", f"{side}.csv") for side in ("voices", "faces"))
            return FeatureDataModule([voices], [faces], ["unused"], root=str(self.path))
        return ManifestDataModule(str(self.path), ["unused"])

    def items(self) -> tuple[Items, Items]:
        """All voices and all faces.

        Raises:
            DataError: a file that cannot be read, or no voice or no face with an identity.
        """
        voices, faces = self._module.tables
        if not (voices.items.identity != "").any() or not (faces.items.identity != "").any():
            raise DataError(f"{self.path}: no voice or no face has an identity; add a column identity")
        return voices.items, faces.items

    def estimated_genders(self, media: Path | None) -> dict[str, str]:
        """Gender of each identity by :func:`estimate_genders`.

        Args:
            media: folder that the names in ``voices.csv`` start from.

        Raises:
            DataError: there are no embeddings or no recordings; see :func:`estimate_genders`.
        """
        if not self.features:
            raise DataError("--genders estimate: needs embeddings; run embed first and give its folder, or a table")
        if media is None:
            raise DataError("--genders estimate: needs --media DIR, the folder that was given to prepare")
        table = cast("FeatureTable", self._module.tables[0])
        first = read_table(self.path / "voices.csv", "index").drop_duplicates("identity")
        recordings = {row.identity: media / str(row.item) for row in first.itertuples(index=False)}
        rows = np.arange(len(table.items), dtype=np.int64)
        return estimate_genders(np.asarray(table.items.identity), np.asarray(table.array(rows)), recordings)

    def data_config(
        self,
        out: Path,
        trained: Sequence[str],
        languages: Sequence[str],
        kinds: Sequence[str],
        identities: int,
        validation: int,
        genders: bool,
    ) -> dict[str, Any]:
        """The data group of a config, with ``${vars.fold}`` for the fold.

        Args:
            out: folder of the folds and lists.
            trained: the training languages.
            languages: all languages.
            kinds: of the lists, the main one first.
            identities: number of training and validation identities.
            validation: number of validation identities.
            genders: whether ``out`` has a table of them.
        """
        here = out.absolute() == self.folder
        place = "" if here else f"{out.absolute()}/"
        fold = f"{place}folds.json#${{vars.fold}}"
        if self.features:
            files = {side: [{"path": f"{side}.npy", "index": f"{side}.csv"}] for side in ("voices", "faces")}
            options: dict[str, Any] = {"root": str(self.folder), **files}
        else:
            options = {"manifest": str(self.path)}
        options |= {"train_languages": list(trained), "exclude_identities": fold, "val_identities": validation}
        if genders:
            options["genders"] = f"{place}genders.csv"
        options["test"] = {
            condition: f"{place}trials/{list_name('${vars.fold}', language, kind)}"
            for kind in kinds
            for condition, language in conditions(trained, languages, kind if kind != kinds[0] else "").items()
        }
        options |= {"batch_size": min(LARGEST_BATCH if self.features else LARGEST_MEDIA_BATCH, identities - validation)}
        if not self.features:
            options |= {"steps_per_epoch": 100, "num_workers": "auto", "media": {"frames": 512, "image_size": 224}}
        name = "FeatureDataModule" if self.features else "ManifestDataModule"
        return {"class_path": f"datamodules.{name}", "init_args": options}


def conditions(trained: Sequence[str], languages: Sequence[str], kind: str) -> dict[str, str]:
    """Names of the test conditions of one kind of lists, and the language of each.

    ``heard`` and ``unheard``, where there is one language of each; with more, ``German/unheard``; ``test`` where no
    language is known; after the kind, if it is not the main one: ``balanced/heard``.
    """
    names = {}
    for language in languages:
        heard = "heard" if language in trained else "unheard"
        alone = sum((other in trained) == (language in trained) for other in languages) == 1
        parts = [kind, "" if alone else language, heard if language else "test"]
        *prefix, name = [part for part in parts if part]
        names["/".join(["-".join(prefix), name] if prefix else [name])] = language
    return names
