"""Feature files of six identities in two languages, and a data module for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamodules import CellSpec, FeatureDataModule
from datamodules.io.trials import write_trials
from datamodules.sampling.trials import make_trials
from datamodules.schema import Items
from tests.datamodules.feature_files_on_disk import ids, write_npz

TESTED = ["id0004", "id0005"]


def six_people(folder: Path) -> Path:
    """Feature files of six identities in two languages, and trial lists of the last two."""
    table = write_npz(folder / "voice.npz", width=5)
    write_npz(folder / "face.npz", width=7, seed=1)
    (folder / "genders.csv").write_text("identity,gender\n" + "".join(f"id{i:04d},{'mf'[i % 2]}\n" for i in range(6)))
    (folder / "tested.txt").write_text("\n".join(TESTED))
    names = np.array(ids(table))
    for language in ("Alpha", "Beta"):
        kept = np.isin(table["identity"], TESTED) & (table["language"] == language)
        empty = np.full(kept.sum(), "")
        items = Items(names[kept], table["identity"][kept], empty, empty, empty)
        write_trials(make_trials(items, items, 20, 0), folder / f"{language}.csv")
    return folder


def module(root: Path, **options: Any) -> FeatureDataModule:
    settings: dict[str, Any] = {
        "voices": ["voice.npz"], "faces": ["face.npz"], "train_languages": ["Alpha"], "root": str(root),
        "exclude_identities": "tested.txt", "val_identities": 2, "genders": "genders.csv", "batch_size": 2,
        "test": {"heard": "Alpha.csv", "unheard": CellSpec("Beta.csv")},
    }  # fmt: skip
    return FeatureDataModule(**settings | options)
