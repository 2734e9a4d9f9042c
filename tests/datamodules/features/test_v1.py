"""FeatureDataModule on the real MAV-Celeb V1 files: counts, splits, and each item embedded once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import FeatureDataModule
from datamodules.schema import DataError


def fold(root: Path, number: int = 0, **options: Any) -> FeatureDataModule:
    lists = f"trials/v1_fold{number}"
    settings: dict[str, Any] = {
        "voices": ["v1_voices_ecapa192.npz"],
        "faces": ["v1_faces_facenet512.npz"],
        "root": str(root / "mavceleb"),
        "genders": "v1_gender.csv",
        "train_languages": ["English"],
        "exclude_identities": f"trials/folds.json#{number}",
        "test": {"heard": f"{lists}_English.csv", "unheard": f"{lists}_Urdu_scrambled.csv"},
    }
    return FeatureDataModule(**settings | options)


def test_counts_of_fold_0(shared_data: Path) -> None:
    data = fold(shared_data)
    held_out = set(json.loads((shared_data / "mavceleb/trials/folds.json").read_text())["0"])
    train, validation, test = data.training_set(), data.evaluation_set("validate"), data.evaluation_set("test")
    assert data.dims == (192, 512)
    assert data.num_identities == 52
    assert set(np.unique(train.language)) == {"English"}
    assert not held_out & set(train.identities)
    assert set(test.voices.identity) == set(test.faces.identity) == held_out
    assert not set(validation.voices.identity) & (held_out | set(train.identities))
    people = np.unique(validation.voices.identity, return_index=True)[1]
    assert sorted(validation.voices.gender[people]) == ["F"] * 3 + ["M"] * 3
    assert {name: len(cell.trials) for name, cell in test.cells.items()} == {"heard": 1000, "unheard": 1000}
    assert len(set(test.voices.ids)) == len(test.voices)
    assert len(set(test.faces.ids)) == len(test.faces)


def test_cells_point_at_the_items_their_lists_name(shared_data: Path) -> None:
    test = fold(shared_data).evaluation_set("test")
    for cell in test.cells.values():
        voices, faces = test.voices.ids[cell.voice_index], test.faces.ids[cell.face_index]
        assert [f"{v}.wav" for v in voices] == cell.trials.voices.tolist()
        assert [f"{f}.jpg" for f in faces] == cell.trials.faces.tolist()
        same = test.voices.identity[cell.voice_index] == test.faces.identity[cell.face_index]
        np.testing.assert_array_equal(same.astype(np.int8), cell.trials.labels)


def test_voices_of_two_feature_files_are_joined_by_item_at_unit_length(shared_data: Path) -> None:
    one = fold(shared_data)
    both = fold(shared_data, voices=["v1_voices_ecapa192.npz", "v1_voices_resnet256.npz"])
    assert both.dims == (192 + 256, 512)
    x = np.asarray(both.evaluation_set("test").voices.features)
    first = np.asarray(one.evaluation_set("test").voices.features)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(x[:, :192] / np.linalg.norm(x[:, :192], axis=1, keepdims=True), first, atol=1e-5)


def test_the_pairs_are_the_rows_of_the_training_identities_in_the_training_language(shared_data: Path) -> None:
    train = fold(shared_data).training_set()
    files = [np.load(shared_data / "mavceleb" / f) for f in ("v1_voices_ecapa192.npz", "v1_faces_facenet512.npz")]
    rows = np.flatnonzero(np.isin(files[0]["identity"], train.identities) & (files[0]["language"] == "English"))
    assert len(rows) == len(train.identity)
    assert train.identities[train.identity].tolist() == files[0]["identity"][rows].tolist()
    sources = ((train.voices, train.voice_rows), (train.faces, train.face_rows))
    for file, (source, own) in zip(files, sources, strict=True):
        x = file["x"][rows]
        np.testing.assert_allclose(source.read(own).numpy(), x / np.linalg.norm(x, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"exclude_identities": None}, r"id0019"),
        ({"train_languages": ["English", "Urdu"]}, r"unheard"),
        ({"train_languages": ["Urdu"]}, r"heard"),
        ({"train_languages": ["Englisch"]}, r"Englisch.*English"),
        ({"voices": ["v1_voices_ecapa.npz"]}, r"v1_voices_ecapa\.npz"),
        ({"test": {"heard": "trials/v1_fold0_English.csv", "unheard": "trials/nope.csv"}}, r"nope\.csv"),
        ({"exclude_identities": "trials/folds.json#9"}, r"folds\.json"),
    ],
)
def test_a_bad_split_is_refused_in_one_line(shared_data: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        fold(shared_data, **options).setup("fit")
    assert "\n" not in str(error.value)
