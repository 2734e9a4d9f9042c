"""Training data under another name in a test, and names and labels that contradict each other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules import DataError, FeatureDataModule, FeatureFile
from datamodules.evaluation.conditions import Condition
from datamodules.evaluation.copies import check_copies
from datamodules.media.table import media_table
from datamodules.schema import Trials
from tests.faults.worlds import feature_world


@pytest.fixture
def world(tmp_path: Path) -> Path:
    feature_world(tmp_path)
    return tmp_path


def module(root: Path, **options: object) -> FeatureDataModule:
    files = {side: [FeatureFile(f"{side}.npy", "manifest.csv")] for side in ("voices", "faces")}
    given = {"exclude_identities": "tested.txt", "val_identities": 2, "val_trials": 20, "batch_size": 4, **options}
    tests = {"heard": "English.csv", "unheard": "Urdu.csv"}
    return FeatureDataModule(root=str(root), train_languages=["English"], **{"test": tests, **files, **given})


def refusal(root: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        module(root, **options).setup("test")
    return str(caught.value)


def change(path: Path, edit: Callable[[pd.DataFrame], None]) -> None:
    table = pd.read_csv(path, dtype=str)
    edit(table)
    table.to_csv(path, index=False)


def test_an_honest_world_passes(world: Path) -> None:
    data = module(world)
    data.setup("test")
    assert set(data.evaluation_set("test").cells) == {"heard", "unheard"}


@pytest.mark.parametrize("side", ["voices", "faces"])
def test_training_vectors_under_another_name_are_found(world: Path, side: str) -> None:
    x = np.load(world / f"{side}.npy")
    x[36] = x[0] * (1 if side == "voices" else 2)  # vectors are compared at unit length
    np.save(world / f"{side}.npy", x)
    assert f"data.test.heard: 1 {side} are those of training by their data: p6/English/0 = p0/English/0" in refusal(
        world
    )


def test_a_video_of_training_under_another_name_is_found(world: Path) -> None:
    change(world / "manifest.csv", lambda t: t.loc.__setitem__(([0, 36], "video"), "dQw4w9WgXcQ"))
    assert "1 voices are those of training by their videos: p6/English/0 = p0/English/0 in training" in refusal(world)
    module(world, shared_videos=True).setup("test")


@pytest.mark.parametrize(
    ("column", "old", "new", "said"),
    [
        ("identity", "p9", "P0", "identity 'P0' and 'p0' differ only in case"),
        ("identity", "p9", "p0\u0130", None),
        ("language", "Urdu", "english", "language 'English' and 'english' differ only in case"),
    ],
)
def test_names_that_differ_in_case_only_are_refused(
    world: Path, column: str, old: str, new: str, said: str | None
) -> None:
    change(world / "manifest.csv", lambda t: t.__setitem__(column, t[column].replace(old, new)))
    (world / "tested.txt").write_text("p6\np7\np8\n" + (new if column == "identity" else "p9") + "\n")
    if said is None:
        module(world).setup("test")
    else:
        assert said in refusal(world)


def test_labels_that_contradict_the_identities_are_refused(world: Path) -> None:
    change(world / "Urdu.csv", lambda t: t.__setitem__("label", t["label"].map({"0": "1", "1": "0"})))
    assert "data.test.unheard: the labels of 24 of 24 trials in" in refusal(world)


@pytest.mark.parametrize("copy", [shutil.copy, os.link, lambda a, b: b.symlink_to(a)])
def test_training_files_under_another_name_are_found(tmp_path: Path, copy: Callable[[Path, Path], object]) -> None:
    for name in "abcd":
        (tmp_path / name).write_bytes(name.encode() * 1000)
    (tmp_path / "d").unlink()
    copy(tmp_path / "a", tmp_path / "d")
    rows = [(name, tmp_path / name, f"p{name}" if name != "d" else "", "English", "", "") for name in "abcd"]
    table, _ = media_table(rows, "files")
    trials = Trials(np.array(["k"]), np.array(["d"]), np.array(["c"]), None, "list")
    training = (np.array([0, 1]), np.array([1]))
    with pytest.raises(DataError, match="1 voices are those of training by their data: d = a in training"):
        check_copies(Condition("heard", table, table, trials=trials), (table, table), training)
    check_copies(Condition("heard", table, table, trials=trials), (table, table), (np.array([1]), np.array([1])))
