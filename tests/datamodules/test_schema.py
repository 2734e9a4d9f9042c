"""Scored test conditions from plain arrays, and the public names of the package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import datamodules
from datamodules.schema import DataError, ScoredCell

LISTS: dict[str, Any] = {
    "distances": [0.2, 0.9],
    "voice_index": [0, 0],
    "face_index": [0, 1],
    "voices": [[1.0, 0.0]],
    "faces": [[0.8, 0.6], [0.0, 1.0]],
}


def test_lists_become_arrays_and_one_array_is_the_space_of_the_model() -> None:
    cell = ScoredCell(**LISTS)
    assert [str(array.dtype) for array in (cell.distances, cell.voice_index)] == ["float64", "int64"]
    assert cell.face_index.tolist() == [0, 1]
    assert {space: x.tolist() for space, x in cell.faces.items()} == {"model": LISTS["faces"]}


def test_arrays_are_kept_as_they_are() -> None:
    x, index = np.ones((2, 3), dtype=np.float32), np.array([0, 1])
    cell = ScoredCell(np.zeros(2), index, index, {"model": x, "input": x}, x)
    assert all(array is x for array in (*cell.voices.values(), cell.faces["model"]))
    assert cell.voice_index is index
    assert str(ScoredCell(x[:, 0], index, index, x, x).distances.dtype) == "float32"
    assert replace(cell, distances=np.ones(2)).faces["model"] is x


def test_no_trials_are_fine() -> None:
    assert len(ScoredCell([], [], [], [[1.0]], [[1.0]]).voice_index) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distances": [0.1]}, "1 distances, 2 voice rows and 2 face rows"),
        ({"distances": ["a", "b"]}, r"ScoredCell\.distances: .*give numbers of shape \(trials,\)"),
        ({"voice_index": [0.0, 0.0]}, r"ScoredCell\.voice_index: float64 .*whole numbers"),
        ({"face_index": [0, 2]}, r"ScoredCell\.faces\['model'\]: a trial names row 2, but there are 2 rows"),
        ({"voice_index": [0, -1]}, r"ScoredCell\.voices\['model'\]: a trial names row -1"),
        ({"voices": {"input": [1.0, 0.0]}}, r"ScoredCell\.voices\['input'\]: .*\(items, width\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ScoredCell(**{**LISTS, **change})


def test_every_public_name_loads_and_the_old_one_says_the_new_one() -> None:
    assert all(getattr(datamodules, name) is not None for name in dir(datamodules))
    with pytest.warns(DeprecationWarning, match="FeatureFile"):
        assert datamodules.Pack is datamodules.FeatureFile
