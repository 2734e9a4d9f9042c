"""Training data under another name in a test, and names and labels that contradict each other."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules import DataError, FeatureDataModule, FeatureFile
from datamodules.evaluation.conditions import CellSpec, Condition
from datamodules.evaluation.copies import Copies
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
    address = "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=1s"
    change(world / "manifest.csv", lambda t: t.loc.__setitem__((36, "video"), address))
    assert "1 voices are those of training by their videos: p6/English/0 = p0/English/0 in training" in refusal(world)


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("dQw4w9WgXcQ.mp4", "dQw4w9WgXcQ", True),
        ("talk 7 of May", "Talk 07 of May", False),
        ("talk 0007", "Talk 7", True),
        ("talk 7", "talk 8", False),
    ],
)
def test_videos_are_compared_by_names_that_are_unique(first: str, second: str, found: bool, world: Path) -> None:
    """In a world where each video has a name of its own; in others, only ids of YouTube are."""

    def own_names(table: pd.DataFrame) -> None:
        table["video"] = [f"{identity} {row}" for row, identity in enumerate(table["identity"])]
        table.loc[0, "video"], table.loc[36, "video"] = first, second

    change(world / "manifest.csv", own_names)
    if found:
        assert "1 voices are those of training by their videos: p6/English/0 = p0/English/0" in refusal(world)
    else:
        module(world).setup("test")


@pytest.mark.parametrize(
    ("column", "old", "new", "said"),
    [
        ("identity", "p9", "P0", "identity 'P0' and 'p0' differ only in case"),
        ("identity", "p9", "p0\u0130", None),
        ("identity", "p9", "p00", "identity 'p0' and 'p00' differ only in how a number is written"),
        ("identity", "p9", "p01.0", "identity 'p01.0' and 'p1' differ only in how a number is written"),
        ("identity", "p9", "p10", None),
        ("identity", "p9", "p1a", None),
        ("identity", "p9", "p0\u200b", "identity 'p0' and 'p0\\u200b' differ only in case, blanks, Unicode form"),
        (
            "identity",
            "p9",
            "\u04400",
            "identity 'p0' and '\u04400' differ only in case, blanks, Unicode form or letters",
        ),
        ("identity", "p9", "\uff500", "identity 'p0' and '\uff500' differ only in case, blanks, Unicode form"),
        ("language", "Urdu", "\uff25nglish", "language 'English' and '\uff25nglish' differ only in case, blanks"),
        ("language", "Urdu", "english", "language 'English' and 'english' differ only in case"),
        ("language", "Urdu", "ENG", "language 'ENG' and 'English' differ only in how the language is written"),
        ("language", "Urdu", "en-GB", None),
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
    condition = Condition("heard", table, table, trials=trials)
    with pytest.raises(DataError, match="1 voices are those of training by their data: d = a in training"):
        Copies((table, table), (np.array([0, 1]), np.array([1])), False).refuse(condition)
    Copies((table, table), (np.array([1]), np.array([1])), False).refuse(condition)


def test_files_of_equal_ends_are_no_copies(tmp_path: Path) -> None:
    for name, middle in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(bytes(9000) + middle + bytes(9000))
    rows = [(name, tmp_path / name, name, "English", "", "") for name in "abc"]
    table, _ = media_table(rows, "files")
    trials = Trials(np.array(["k"]), np.array(["b"]), np.array(["b"]), None, "list")
    Copies((table, table), (np.array([0]), np.array([0])), False).refuse(Condition("x", table, table, trials=trials))
    trials = Trials(np.array(["k"]), np.array(["c"]), np.array(["b"]), None, "list")
    with pytest.raises(DataError, match="c = a in training"):
        Copies((table, table), (np.array([0]), np.array([0])), False).refuse(
            Condition("x", table, table, trials=trials)
        )


def as_(kind: type) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: x.astype(kind).astype(np.float32)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "equal": lambda x: x,
    "scaled": lambda x: 3.7 * x,
    "unit length": lambda x: x / np.linalg.norm(x),
    "float16": as_(np.float16),
    "float16 of unit length": lambda x: as_(np.float16)(x / np.linalg.norm(x)),
    "float64": as_(np.float64),
    "four digits": lambda x: np.round(x, 4),
}


@pytest.mark.parametrize("change_of", [lambda x: x * np.float32(1 + 1e-6), as_(np.float16)])
def test_copies_of_narrow_vectors_are_found_rounded(change_of: Callable[[np.ndarray], np.ndarray], world: Path) -> None:
    x = np.random.default_rng(2).normal(size=(60, 16)).astype(np.float32)
    np.save(world / "voices.npy", x)
    module(world).setup("test")
    x[36:40] = change_of(x[:4])
    np.save(world / "voices.npy", x)
    assert re.match(r"data\.test\.heard: \d voices are those of training by their data: p6", refusal(world))


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("anonymous", [True, False])
def test_copies_of_vectors_are_found_scaled_and_rounded(
    kind: str, normalise: bool, anonymous: bool, world: Path
) -> None:
    """Ten of the test vectors are of training, in feature files of their own."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 64)).astype(np.float32) + 2  # not centred, as features of a ReLU
    np.save(world / "voices.npy", x)
    tested = rng.normal(size=(60, 64)).astype(np.float32) + 2
    tested[40:50] = [CHANGES[kind](row) for row in x[[6 * (i % 5) + i // 5 for i in range(10)]]]  # English, p0 to p4
    np.save(world / "tested.npy", tested)
    index = pd.read_csv(world / "manifest.csv", dtype=str)
    index.assign(identity="" if anonymous else index["identity"]).to_csv(world / "tested.csv", index=False)
    spec = CellSpec(trials="Urdu.csv", language="Urdu", voices=[FeatureFile("tested.npy", "tested.csv")])
    options = {"normalise": normalise, "val_identities": 0}
    module(world, test={"unheard": CellSpec(trials="Urdu.csv")}, **options).setup("test")
    line = refusal(world, test={"unheard": spec}, **options)
    assert re.match(r"data\.test\.unheard: \d voices are those of training by their data: p", line), line


@pytest.mark.parametrize("validation", [0, ["p0", "p4"]])
def test_recordings_of_two_training_identities_are_named(world: Path, validation: object) -> None:
    x = np.load(world / "faces.npy")
    x[6] = x[0]
    np.save(world / "faces.npy", x)
    change(world / "manifest.csv", lambda t: t.loc.__setitem__(([0, 12], "video"), "dQw4w9WgXcQ"))
    with pytest.warns(UserWarning, match="training: 1 ") as said:
        module(world, val_identities=validation, test={}).setup("fit")
    assert [str(line.message).partition(";")[0] for line in said] == [
        "training: 1 videos of voices belong to several identities: p0/English/0 (p0) = p2/English/0 (p2)",
        "training: 1 recordings of faces belong to several identities: p0/English/0 (p0) = p1/English/0 (p1)",
        "training: 1 videos of faces belong to several identities: p0/English/0 (p0) = p2/English/0 (p2)",
    ]
