"""What a refinement sees of a test condition: rows of its items, at unit length, and nothing it could spoil."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.schema import Cell, EvaluationSet, Items, Modality, Trials
from postproc import cells
from postproc.cells import checked, scored_cell, unit

CLIPS = np.random.default_rng(0).normal(size=(5, 3))


def condition(voice: list[int]) -> EvaluationSet:
    """Trials of some of five voices with one face."""
    ids = np.array([f"c{i}" for i in range(5)])
    same = np.full(5, "x")
    items = Items(ids, same, same, same, same, features=CLIPS)
    keys = np.array([f"t{i}" for i in range(len(voice))])
    trials = Trials(keys, ids[voice], np.full(len(voice), "c0"), np.zeros(len(voice), dtype=np.int64), "made")
    cell = Cell("heard", "x", trials, np.array(voice), np.zeros(len(voice), dtype=np.int64))
    return EvaluationSet(items, items, {"heard": cell})


def test_items_of_a_condition_are_rows_in_order_and_all_of_them_are_not_copied() -> None:
    embeddings: dict[Modality, NDArray[np.floating]] = {"voice": CLIPS + 1, "face": CLIPS}
    some = scored_cell(condition([4, 1, 4]), "heard", np.zeros(3), embeddings)
    assert some.voice_index.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(some.voices["model"], CLIPS[[1, 4]] + 1)
    np.testing.assert_array_equal(some.voices["input"], CLIPS[[1, 4]])
    whole = scored_cell(condition([4, 1, 0, 3, 2]), "heard", np.zeros(5), embeddings)
    assert whole.voice_index.tolist() == [4, 1, 0, 3, 2]
    assert whole.voices["model"].base is embeddings["voice"]
    with pytest.raises(ValueError, match="read-only"):
        whole.voices["input"][0] = 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embeddings_are_checked_without_a_change(dtype: type[np.floating], monkeypatch: pytest.MonkeyPatch) -> None:
    x = CLIPS.astype(dtype)
    given = x.copy()
    length = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_array_equal(checked(x, "voice", "model"), x / length)
    monkeypatch.setattr(cells, "_CHUNK", 2)
    np.testing.assert_array_equal(checked(x, "voice", "model"), x / length)
    np.testing.assert_array_equal(checked(x, "voice", "model", normalise=False), given)
    np.testing.assert_array_equal(x, given)
    assert not unit(np.zeros((3, 2))).any()
