"""Several sets of real data: V1 by language, s2f by source, raw clips of s2f with synthetic media."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules import FeatureDataModule, JointDataModule, ManifestDataModule, MediaOptions, SyntheticMediaDataModule
from datamodules.io.feature_files import FeatureFile
from datamodules.schema import DataError
from tests.datamodules.features.test_v1 import fold


def by_language(shared_data: Path, urdu_excludes: bool = True, **options: Any) -> JointDataModule:
    """V1 English and V1 Urdu as two sets that do not know of each other: without a corpus."""
    english = fold(shared_data, shared_videos=True, test={"heard": "trials/v1_fold0_English.csv"})
    held_out = "trials/folds.json#0" if urdu_excludes else None
    urdu = fold(shared_data, shared_videos=True, train_languages=["Urdu"], exclude_identities=held_out, test={})
    return JointDataModule({"english": english, "urdu": urdu}, **options)


def people(shared_data: Path, folder: Path) -> str:
    names = sorted(pd.read_csv(shared_data / "mavceleb" / "v1_gender.csv").iloc[:, 0])
    rows = [f"{name},{identity},{identity}" for name in ("english", "urdu") for identity in names]
    (folder / "people.csv").write_text("\n".join(["set,identity,person", *rows]) + "\n")
    return str(folder / "people.csv")


def test_v1_by_language(shared_data: Path, tmp_path: Path) -> None:
    held_out = json.loads((shared_data / "mavceleb/trials/folds.json").read_text())["0"]
    apart, same = by_language(shared_data), by_language(shared_data, people=people(shared_data, tmp_path))
    assert apart.num_identities == 2 * 52
    assert same.num_identities == 52  # the same six validate in both sets
    one = fold(shared_data, shared_videos=True, train_languages=["English", "Urdu"], test={})
    assert same.num_identities == one.num_identities
    assert len(same.training_set().identity) == len(one.training_set().identity)
    assert not {f"english/{name}" for name in held_out} & set(same.training_set().identities)
    same.setup("fit")
    assert len(same.evaluation_set("test").cells["english/heard"].trials) == 1000


def test_a_tested_person_of_v1_in_the_training_of_the_other_language(shared_data: Path, tmp_path: Path) -> None:
    data = by_language(shared_data, urdu_excludes=False, people=people(shared_data, tmp_path))
    with pytest.raises(
        DataError, match=r"data.test.english/heard: \d test identities are also in training of urdu: urdu/"
    ):
        data.setup("fit")


def test_s2f_by_source(shared_data: Path) -> None:
    columns = {"language": "lang_weak", "video": "youtube_id", "item": "clip_id"}
    voices, faces = (
        [FeatureFile(f"embeddings.npz#{name}", index="manifest.csv", columns=columns)]
        for name in ("voice_resemblyzer256", "face_dlib128")
    )
    table = pd.read_csv(shared_data / "s2f" / "manifest.csv", dtype=str)
    of = {source: sorted(set(part["identity"])) for source, part in table.groupby("source")}

    def source(name: str) -> FeatureDataModule:
        return FeatureDataModule(
            voices, faces, ["en", "non-en", "unk"], root=str(shared_data / "s2f"), train_identities=of[name],
            val_identities=0, split_seed=0,
        )  # fmt: skip

    data = JointDataModule(
        {name: source(name) for name in of}, balance=["sets", "identities"], batch_size=64, steps_per_epoch=100
    )
    data.setup("fit")
    train = data.training_set()
    assert data.num_identities == table["identity"].nunique()
    assert len(train.identity) == len(table)
    index = data.tables[0].set_of(train.voice_rows)
    assert {name: int((index == number).sum()) for number, name in enumerate(of)} == table[
        "source"
    ].value_counts().to_dict()
    rows = np.array([voice for batch in data.train_dataloader().pairs for voice, _ in batch])
    assert (index[rows] == 0).mean() == pytest.approx(0.5, abs=0.03)
    assert data.learnt().unlabelled == dict.fromkeys(of, frozenset({""}))  # unk


def test_raw_clips_with_synthetic_media(shared_data: Path, tmp_path: Path) -> None:
    # the languages of both sets must be written in one way
    table = pd.read_csv(shared_data / "s2f" / "manifest.csv", dtype=str, keep_default_na=False)
    table.replace({"lang_weak": {"en": "English"}}).to_csv(tmp_path / "manifest.csv", index=False)
    for folder in ("audio", "faces"):
        (tmp_path / folder).symlink_to(shared_data / "s2f" / folder)
    media = MediaOptions(frames=64, image_size=32)
    columns = {"voice": "audio", "language": "lang_weak", "video": "youtube_id"}
    real = ManifestDataModule(
        str(tmp_path / "manifest.csv"), ["English"], columns=columns, media=media,
        exclude_identities="manifest.csv#source=voxceleb1", val_identities=2, val_trials=8,
    )  # fmt: skip
    made = SyntheticMediaDataModule(identities=24, clips=2, val_identities=4, val_trials=20, media=media)
    data = JointDataModule({"s2f": real, "made": made}, batch_size=16, steps_per_epoch=2, balance=["sets"])
    data.setup("fit")
    train = data.training_set()
    batch = next(iter(data.train_dataloader()))
    of = data.tables[0].set_of(train.voice_rows[batch["clip"].numpy()])
    assert set(of.tolist()) == {0, 1}
    assert batch["face"].shape == (16, 3, 32, 32)
    assert batch["voice"].isfinite().any(dim=1).all()
    items = data.evaluation_set("test").voices
    source = data.evaluation_source("test", "voice")
    alone = made.evaluation_source("test", "voice")
    assert items.ids[3].removeprefix("made/") == made.evaluation_set("test").voices.ids[3]
    np.testing.assert_array_equal(source.read([3]).numpy(), alone.read([3]).numpy())
