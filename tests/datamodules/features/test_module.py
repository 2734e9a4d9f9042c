"""The feature data module: training and test identities, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from datamodules import CellSpec, FeatureDataModule, FeatureFile
from datamodules.schema import DataError
from tests.datamodules.feature_world import TESTED, module, six_people


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return six_people(tmp_path)


def test_splits_are_disjoint_and_in_the_right_language(root: Path) -> None:
    data = module(root)
    data.setup("fit")
    train, validation, test = data.training_set(), data.evaluation_set("validate"), data.evaluation_set("test")
    assert data.dims == (5, 7)
    assert data.num_identities == 2
    assert set(train.language) == {"Alpha"}
    assert set(test.voices.identity) == set(TESTED)
    assert not set(validation.voices.identity) & (set(TESTED) | set(train.identities))
    assert set(validation.voices.gender) == {"M", "F"}
    assert set(validation.cells) == {"heard"}
    assert validation.cells["heard"].language == "Alpha"
    assert [cell.language for cell in test.cells.values()] == ["Alpha", "Beta"]
    assert data.evaluation_set("predict") is test is data.evaluation_set("test")


def test_training_rows_are_pairs_of_one_clip(root: Path) -> None:
    data = module(root, val_identities=0)
    train, (voices, faces) = data.training_set(), data.tables
    assert len(train.identity) == 4 * 4
    np.testing.assert_array_equal(train.identities[train.identity], faces.items.identity[train.face_rows])
    np.testing.assert_array_equal(voices.items.video[train.voice_rows], faces.items.video[train.face_rows])
    np.testing.assert_array_equal(np.unique(train.identity), np.arange(data.num_identities))


def test_cells_point_at_their_items_and_features(root: Path) -> None:
    data = module(root)
    test, (voices, faces) = data.evaluation_set("test"), data.tables
    where = {name: i for i, name in enumerate(voices.items.ids)}
    for cell in test.cells.values():
        assert test.voices.ids[cell.voice_index].tolist() == cell.trials.voices.tolist()
        assert test.faces.ids[cell.face_index].tolist() == cell.trials.faces.tolist()
    assert len(set(test.voices.ids)) == len(test.voices)
    rows = np.array([where[name] for name in test.voices.ids])
    assert test.voices.features is not None
    np.testing.assert_array_equal(test.voices.features, voices.array(rows))
    np.testing.assert_array_equal(data.evaluation_source("test", "voice").read([1, 0]), test.voices.features[[1, 0]])
    assert set(test.faces.identity) <= set(faces.items.identity)


def test_one_item_in_several_cells_is_embedded_once(root: Path) -> None:
    once = module(root).evaluation_set("test")
    twice = module(
        root, test={"heard": "Alpha.csv", "natural/heard": "Alpha.csv", "unheard": "Beta.csv"}
    ).evaluation_set("test")
    assert len(twice.voices) == len(once.voices)
    np.testing.assert_array_equal(twice.cells["heard"].voice_index, twice.cells["natural/heard"].voice_index)


def test_clips_of_validation_identities_are_a_separate_set(root: Path) -> None:
    data = module(root)
    held_out, training, validation = data.held_out_set(), data.reference_set(), data.evaluation_set("validate")
    assert held_out is not None
    assert set(held_out.identities) == set(validation.voices.identity)
    assert not set(held_out.identities) & (set(TESTED) | set(training.identities))
    assert set(held_out.language) == {"Alpha"}
    faces = data.tables[1].items
    np.testing.assert_array_equal(held_out.identities[held_out.identity], faces.identity[held_out.face_rows])
    assert module(root, val_identities=0).held_out_set() is None


def test_no_validation_identities_means_no_validation(root: Path) -> None:
    data = module(root, val_identities=0)
    assert data.num_identities == 4
    assert data.evaluation_set("validate").cells == {}
    assert data.val_dataloader() == []


def test_validation_identities_by_name_and_in_other_languages(root: Path) -> None:
    data = module(root, val_identities=["id0001", "id0002"], val_languages=["Alpha", "Beta"])
    validation = data.evaluation_set("validate")
    assert set(validation.voices.identity) == {"id0001", "id0002"}
    assert {name: cell.language for name, cell in validation.cells.items()} == {"heard": "Alpha", "unheard": "Beta"}
    assert data.training_set().identities.tolist() == ["id0000", "id0003"]


def test_several_training_languages_are_validated_separately(root: Path) -> None:
    validation = module(root, train_languages=["Alpha", "Beta"], test={}).evaluation_set("validate")
    assert list(validation.cells) == ["Alpha/heard", "Beta/heard"]


def test_training_languages_are_compared_on_equal_identities_and_clips(root: Path) -> None:
    languages = ["Alpha", "Beta"]
    drawn = {}
    for chosen in (["Alpha"], ["Beta"], languages):
        options = {"train_languages": chosen, "equal_clips": languages, "val_identities": 0, "test": None}
        train = module(root, **options).training_set()
        again = module(root, **options).training_set()
        assert set(train.language) == set(chosen)
        np.testing.assert_array_equal(train.voice_rows, again.voice_rows)
        drawn[tuple(chosen)] = train.identities[train.identity], train.language
    counts = [dict(zip(*np.unique(people, return_counts=True), strict=True)) for people, _ in drawn.values()]
    assert counts[0] == counts[1] == counts[2]
    _, shares = np.unique(drawn[("Alpha", "Beta")][1], return_counts=True)
    assert abs(shares[0] - shares[1]) <= len(counts[0])


def test_all_pairs_of_some_identities(root: Path) -> None:
    data = module(root, test={"pairs": CellSpec(identities=TESTED)})
    cell = data.evaluation_set("test").cells["pairs"]
    assert len(cell.trials) == 16 * 16
    assert cell.trials.labels is not None
    assert cell.trials.labels.sum() == 2 * 8 * 8
    assert cell.language == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"exclude_identities": None, "val_identities": 0},
            r"2 test identities are also in training: id0004, id0005; name them in data\.exclude_identities",
        ),
        (
            {"exclude_identities": ["id0000"], "val_identities": ["id0004", "id0001"], "test": {"x": "Alpha.csv"}},
            r"1 test identities are also in training: id0005",
        ),
        (
            {"exclude_identities": ["id0005"], "val_identities": ["id0004", "id0001"],
             "test": {"x": CellSpec(identities=["id0004"])}},
            r"1 test identities are also in validation: id0004",
        ),
        ({"test": {"heard": "Beta.csv"}}, r"test\.heard: contains Beta voices, training uses Alpha; name .* unheard"),
        ({"test": {"x/unheard": "Alpha.csv"}}, r"data\.test\.x/unheard: contains Alpha voices"),
        ({"test": {"x": CellSpec("Alpha.csv", language="Beta")}}, "language is set to Beta, but its voices are Alpha"),
        ({"test": {"heard": "Alpa.csv"}}, r"no such file; did you mean Alpha\.csv\?"),
        ({"test": {"heard": CellSpec()}}, "give either trials or identities"),
        ({"test": {"heard": CellSpec("Alpha.csv", identities=["id0005"])}}, "give either trials or identities"),
        ({"test": {"heard": CellSpec(identities=["id0006"])}}, "id0006 is unknown; did you mean id000"),
        ({"test": {"heard": CellSpec("Alpha.csv", voices=["face.npz"])}}, r"widths are \(7, 7\), .* training \(5, 7\)"),
        ({"train_languages": ["Alfa"]}, r"data\.train_languages: Alfa is unknown; did you mean Alpha\?"),
        ({"train_languages": []}, "is empty"),
        ({"train_identities": ["id00001"]}, r"data\.train_identities: id00001 is unknown; did you mean id0001\?"),
        ({"train_identities": TESTED}, "no training clip is left"),
        ({"val_identities": 4}, r"data\.val_identities: 4 of 4 training identities"),
        ({"val_identities": 1}, r"data\.val_identities: 1 of 4 training identities"),
        ({"val_identities": ["id0004"]}, r"data\.val_identities: id0004 is unknown"),
        ({"val_identities": ["id0000", "id0001", "id0002", "id0003"]}, "leaves no identity to train on"),
        ({"faces": ["faces.npz"]}, r"no such file; did you mean face\.npz\?"),
    ],
)  # fmt: skip
def test_it_refuses_to_start(root: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        module(root, **options).setup("fit")
    assert "\n" not in str(error.value)


def test_the_first_five_of_many_are_shown(root: Path) -> None:
    everybody = [f"id{i:04d}" for i in range(6)]
    with pytest.raises(DataError, match=r"6 test identities .*: id0000, id0001, id0002, id0003, id0004, \.\.\.; name"):
        module(root, exclude_identities=None, val_identities=0, test={"x": CellSpec(identities=everybody)}).setup("fit")


def test_official_feature_files_and_lists(tmp_path: Path) -> None:
    """Training files end with a label; test files have none, and their rows match the anonymous list."""
    rng = np.random.default_rng(0)
    train = [(f"v1/voices/id{p:04d}/English/a/{c}.wav", f"v1/faces/id{p + 2:04d}/English/b/{c}.jpg", p)
             for p in range(4) for c in range(3)]  # fmt: skip
    (tmp_path / "English_train.txt").write_text("".join(f"{v} {f}\n" for v, f, _ in train))
    widths = {"voices": 5, "faces": 7}
    for kind, width in widths.items():
        x = rng.normal(size=(len(train), width))
        rows = [",".join(map(str, row)) + f",{p}" for row, (*_, p) in zip(x, train, strict=True)]
        (tmp_path / f"English_{kind}_train.csv").write_text("\n".join(rows))
    test = {}
    for name, language in (("heard", "English"), ("unheard", "Urdu")):
        clips = [0, 1, 2, 1]
        lines = [f"k{i} voices/{language}/{c}.wav faces/{language}/{3 - c}.jpg" for i, c in enumerate(clips)]
        (tmp_path / f"{language}_test.txt").write_text("\r\n".join(lines))
        files = {}
        for kind, width in widths.items():
            x = rng.normal(size=(3, width))[clips]
            (tmp_path / f"{language}_{kind}.csv").write_text("\n".join(",".join(map(str, row)) for row in x))
            files[kind] = [FeatureFile(f"{language}_{kind}.csv", f"{language}_test.txt")]
        test[name] = CellSpec(f"{language}_test.txt", language=language, **files)
    data = FeatureDataModule(
        voices=[FeatureFile("English_voices_train.csv", "English_train.txt")],
        faces=[FeatureFile("English_faces_train.csv", "English_train.txt")],
        train_languages=["English"], test=test, root=str(tmp_path), val_identities=0,
    )  # fmt: skip
    data.setup("fit")
    assert data.dims == (5, 7)
    assert data.training_set().identities.tolist() == ["id0002", "id0003", "id0004", "id0005"]
    found = data.evaluation_set("test")
    assert len(found.voices) == 6
    assert found.voices.ids[0] == "heard/voices/English/0"
    assert found.cells["unheard"].language == "Urdu"
    assert found.cells["heard"].trials.labels is None
    assert found.cells["heard"].voice_index.tolist() == [0, 1, 2, 1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_configured_in_yaml(root: Path) -> None:
    text = f"""
class_path: datamodules.FeatureDataModule
init_args:
  root: {root}
  voices: [{{path: voice.npz}}]
  faces: [face.npz]
  train_languages: [Alpha]
  exclude_identities: tested.txt
  val_identities: 2
  test:
    heard: Alpha.csv
    unheard: {{trials: Beta.csv, language: Beta}}
"""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=FeatureDataModule)
    data = parser.instantiate_classes(parser.parse_args([f"--data={text}"])).data
    data.setup("fit")
    assert list(data.evaluation_set("test").cells) == ["heard", "unheard"]
    assert data.num_identities == 2
