"""Fusion with other runs, matched by key."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from datamodules.schema import DataError
from postproc import Fusion
from tests.postproc.synthetic_people import World


@pytest.fixture
def other(tmp_path: Path) -> SimpleNamespace:
    cell, _ = World(9).cell(trials=50)
    keys = np.array([f"k{i}" for i in range(50)])
    scores = np.random.default_rng(0).normal(size=50)
    path = tmp_path / "scores.parquet"
    table = pd.DataFrame({"cell": "heard", "key": keys, "distance": scores, "refined": np.nan})
    table.sample(frac=1, random_state=1).to_parquet(path)
    return SimpleNamespace(cell=cell, keys=keys, scores=scores, path=str(path), table=table)


def test_fusion_matches_other_runs_by_key(other: SimpleNamespace) -> None:
    step = Fusion([other.path])
    assert "not matched" in step(other.cell).trace["unchanged"]
    fused = step.for_cell("heard", other.keys)(other.cell).distances
    own = other.cell.distances
    expected = ((own - own.mean()) / own.std() + (other.scores - other.scores.mean()) / other.scores.std()) / 2
    np.testing.assert_allclose(fused, expected)
    alone = Fusion([other.path], normalise="rank", weights=[1, 0]).for_cell("heard", other.keys)(other.cell).distances
    np.testing.assert_array_equal(np.argsort(alone), np.argsort(own))


def test_fusion_names_what_does_not_match(other: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no test condition unheard, only heard"):
        Fusion([other.path]).for_cell("unheard", other.keys)
    with pytest.raises(DataError, match="1 trials of heard have no finite distance, first zz"):
        Fusion([other.path]).for_cell("heard", np.array([*other.keys[:-1], "zz"]))
    with pytest.raises(DataError, match="50 trials of heard have no finite refined"):
        Fusion([other.path], column="refined").for_cell("heard", other.keys)
    with pytest.raises(DataError, match=r"none\.parquet: unreadable as scores"):
        Fusion([str(tmp_path / "none.parquet")]).for_cell("heard", other.keys)
    pd.concat([other.table, other.table[:1]]).to_parquet(tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="key k0 of heard occurs twice"):
        Fusion([str(tmp_path / "twice.parquet")]).for_cell("heard", other.keys)
