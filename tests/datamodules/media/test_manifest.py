"""Data sets described by a manifest: splits, checks, trial lists, and real clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules.evaluation.conditions import CellSpec
from datamodules.media.manifest import ManifestDataModule
from datamodules.media.module import MediaOptions
from datamodules.schema import DataError
from tests.datamodules.media_tree import patch, tone

SMALL = MediaOptions(frames=32, image_size=32)


def rows(people: int = 6, clips: int = 2) -> list[dict[str, str]]:
    """Identities p0, p1, ... with clips in two languages and alternating gender."""
    return [
        {
            "voice": f"wav/p{person}_{language}_{clip}.wav",
            "face": f"jpg/p{person}_{language}_{clip}.jpg",
            "identity": f"p{person}",
            "language": language,
            "gender": "male" if person % 2 else "f",
        }
        for person in range(people)
        for language in ("xx", "yy")
        for clip in range(clips)
    ]


def write(folder: Path, table: list[dict[str, str]], name: str = "manifest.csv") -> str:
    for i, row in enumerate(table):
        tone(folder / row["voice"], i, i)
        patch(folder / row["face"], i, i)
    frame = pd.DataFrame(table)
    if name.endswith("parquet"):
        frame.to_parquet(folder / name)
    else:
        frame.to_csv(folder / name, index=False)
    return str(folder / name)


def module(manifest: str, **options: Any) -> ManifestDataModule:
    return ManifestDataModule(manifest, ["xx"], **{"val_identities": 2, "val_trials": 20, "media": SMALL, **options})


TEST = {"heard": CellSpec(identities=["p4", "p5"], language="xx")}


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet"])
def test_trains_on_one_language_and_validates_on_other_identities(tmp_path: Path, name: str) -> None:
    data = module(write(tmp_path, rows(), name), batch_size=4)
    train, validation = data.training_set(), data.evaluation_set("validate")
    assert len(train.identity) == 8
    assert set(train.language) == {"xx"}
    assert set(validation.voices.identity).isdisjoint(train.identities)
    assert set(validation.voices.gender) == {"M", "F"}  # one of each is held out
    assert next(iter(data.train_dataloader()))["voice"].shape == (4, 5360)


def test_trial_lists_name_files_as_the_manifest_does(tmp_path: Path) -> None:
    manifest = write(tmp_path, rows())
    lines = ["key,voice,face,label"]
    lines += [f"k{i},wav/p4_xx_{i}.wav,jpg/p{5 - i}_xx_0.jpg,{i}" for i in range(2)]
    lines += ["k2,wav/p4_xx_0.wav,jpg/p4_xx_0.jpg,1"]
    (tmp_path / "trials.csv").write_text("\n".join(lines))
    data = module(manifest, test={"heard": "trials.csv"}, exclude_identities=["p4", "p5"])
    data.setup("fit")
    test = data.evaluation_set("test")
    assert (len(test.voices), len(test.faces)) == (2, 2)  # each embedded once, though it is in two trials
    assert test.voices.ids[test.cells["heard"].voice_index].tolist() == ["wav/p4_xx_0", "wav/p4_xx_1", "wav/p4_xx_0"]
    assert set(data.training_set().identities).isdisjoint({"p4", "p5"})


def test_split_column(tmp_path: Path) -> None:
    split = {"p0": "train", "p1": "train", "p2": "val", "p3": "val", "p4": "test", "p5": "test"}
    table = [row | {"split": split[row["identity"]]} for row in rows()]
    data = module(write(tmp_path, table), val_identities=None, test=TEST)
    data.setup("fit")
    assert data.training_set().identities.tolist() == ["p0", "p1"]
    assert set(data.evaluation_set("validate").voices.identity) == {"p2", "p3"}
    test = data.evaluation_set("test")
    assert set(test.voices.identity) == {"p4", "p5"}
    assert set(test.voices.language) == {"xx"}
    assert len(test.cells["heard"].trials) == 16


def test_one_identity_in_two_splits_is_refused(tmp_path: Path) -> None:
    table = [row | {"split": "train" if i % 2 else "test"} for i, row in enumerate(rows(8))]
    with pytest.raises(DataError, match=r"8 identities are in more than one split: p0, p1, p2, p3, p4, \.\.\."):
        module(write(tmp_path, table)).training_set()


def test_a_test_identity_in_training_is_refused(tmp_path: Path) -> None:
    people = [f"p{i}" for i in range(7)]
    data = module(write(tmp_path, rows(8)), test={"heard": CellSpec(identities=people, language="xx")})
    with pytest.raises(
        DataError, match=r"\d test identities are also in training: p\d, p\d, p\d, p\d, p\d.*exclude_identities"
    ):
        data.setup("fit")


def test_a_condition_of_the_wrong_language_is_refused(tmp_path: Path) -> None:
    manifest = write(tmp_path, rows())
    (tmp_path / "t.csv").write_text(
        "key,voice,face\na,wav/p4_yy_0.wav,jpg/p4_yy_0.jpg\nb,wav/p5_yy_0.wav,jpg/p4_yy_0.jpg"
    )
    with pytest.raises(DataError, match=r"data\.test\.heard: contains yy voices, training uses xx"):
        module(manifest, test={"heard": "t.csv"}, exclude_identities=["p4", "p5"]).setup("fit")


def test_a_portrait_may_go_with_clips_in_several_languages(tmp_path: Path) -> None:
    table = [row | {"face": f"jpg/{row['identity']}.jpg"} for row in rows()]
    data = module(write(tmp_path, table))
    train = data.training_set()
    assert len(train.identity) == 8
    assert len(set(train.face_rows.tolist())) == 4
    assert len(data.evaluation_set("validate").faces) == 2


def test_other_column_names(tmp_path: Path) -> None:
    manifest = write(tmp_path, rows())
    frame = pd.read_csv(manifest).rename(columns={"voice": "audio", "language": "lang"})
    frame.to_csv(manifest, index=False)
    assert len(module(manifest, columns={"voice": "audio", "language": "lang"}).training_set().identity) == 8
    with pytest.raises(DataError, match=r"no column voice.*name yours in data\.columns, or by --columns of embed"):
        module(manifest).training_set()
    with pytest.raises(
        DataError,
        match=r"data\.columns \(--columns of embed\): voise is not a column of a manifest; did you mean voice",
    ):
        module(manifest, columns={"voise": "audio"}).training_set()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("voice", "../secret.wav", r"row 3, column voice: \.\./secret\.wav leaves the data folder"),
        ("face", "", "row 3, column face"),
        ("split", "dev", "row 3, column split: 'dev' is unknown; use train, val or test"),
        ("gender", "x", "gender 'x' is unknown"),
        ("voice", "wav/none.wav", r"1 of 24 voice files are missing under .*: wav/none\.wav; set data\.root"),
        ("voice", "wav/p5_xx_0.wav", "wav/p5_xx_0 is p0 in one row and p5 in another"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, column: str, value: str, said: str) -> None:
    manifest = write(tmp_path, [row | {"split": ""} for row in rows()])
    frame = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    frame.loc[2, column] = value
    frame.to_csv(manifest, index=False)
    with pytest.raises(DataError, match=said):
        module(manifest).training_set()


def test_real_clips(shared_data: Path) -> None:
    """971 AVSpeech and 179 VoxCeleb clips: train on English AVSpeech, test all pairs of the VoxCeleb identities."""
    manifest = str(shared_data / "s2f" / "manifest.csv")
    voxceleb = f"{manifest}#source=voxceleb1"
    data = ManifestDataModule(
        manifest,
        ["en"],
        test={"heard": CellSpec(identities=voxceleb, language="en"), "all": CellSpec(identities=voxceleb)},
        columns={"voice": "audio", "language": "lang_weak", "video": "youtube_id"},
        exclude_identities=voxceleb,
        val_identities=20,
        media=MediaOptions(frames=128, image_size=64),
        batch_size=8,
        steps_per_epoch=2,
    )
    train = data.training_set()
    assert set(train.language) == {"en"}
    assert 300 < len(train.identity) < 400
    batch = next(iter(data.train_dataloader()))
    assert batch["voice"].shape == (8, 20720)
    assert batch["face"].shape == (8, 3, 64, 64)
    assert np.isfinite(batch["face"].numpy()).all()
    validation = data.evaluation_set("validate")
    assert len(validation.voices) >= 20
    voice = data.evaluation_source("validate", "voice").read(range(8))
    assert (~voice.isnan()).all()  # every clip is longer than 1.3 s
    test = data.evaluation_set("test")
    assert len(test.voices) == 179
    assert len(test.cells["all"].trials) == 179**2
    assert len(test.cells["heard"].trials) == 141**2
