"""Estimated ages and genders come from the index of a feature file to the test conditions and training clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.features.table import FeatureTable
from datamodules.io.feature_files import FeatureFile
from datamodules.schema import DataError
from tests.datamodules.feature_files_on_disk import ids, write_npz


def with_index(folder: Path, **columns: object) -> FeatureFile:
    arrays = write_npz(folder / "p.npz")
    np.save(folder / "p.npy", arrays["x"])
    pd.DataFrame({"item": ids(arrays), **columns}).to_csv(folder / "p.csv", index=False)
    return FeatureFile(f"{folder}/p.npy", f"{folder}/p.csv")


def test_ages_and_genders_of_the_index_are_read_and_cached(tmp_path: Path) -> None:
    ages = [20.5 + i for i in range(47)] + [""]
    file = with_index(tmp_path, age=ages, female=np.linspace(0, 1, 48))
    for _ in range(2):  # the second time from the cache
        attributes = FeatureTable([file], "voice").items.attributes
        assert attributes is not None
        np.testing.assert_allclose(attributes[:47, 0], ages[:47])
        assert np.isnan(attributes[47, 0])
        np.testing.assert_allclose(attributes[:, 1], np.linspace(0, 1, 48), atol=1e-6)


def test_one_column_is_enough_and_may_have_another_name(tmp_path: Path) -> None:
    file = with_index(tmp_path, woman=0.25)
    file.columns = {"female": "woman"}
    attributes = FeatureTable([file], "voice").items.attributes
    assert attributes is not None
    assert np.isnan(attributes[:, 0]).all()
    assert (attributes[:, 1] == 0.25).all()
    assert FeatureTable([with_index(tmp_path, gender="")], "voice").items.attributes is None


def test_the_first_file_of_several_that_has_estimates_gives_them(tmp_path: Path) -> None:
    first = write_npz(tmp_path / "a.npz", width=3)
    order = np.random.default_rng(1).permutation(48)
    np.save(tmp_path / "b.npy", first["x"][order])
    pd.DataFrame({"item": np.array(ids(first))[order], "age": order}).to_parquet(tmp_path / "b.parquet")
    second = FeatureFile(f"{tmp_path}/b.npy", f"{tmp_path}/b.parquet")
    attributes = FeatureTable([f"{tmp_path}/a.npz", second], "voice").items.attributes
    assert attributes is not None
    np.testing.assert_array_equal(attributes[:, 0], np.arange(48))


@pytest.mark.parametrize(
    ("column", "value"), [("age", "old"), ("age", -1.0), ("age", 151.0), ("female", 1.5), ("age", "inf")]
)
def test_estimates_out_of_range_are_named(tmp_path: Path, column: str, value: object) -> None:
    values: list[object] = [0.5] * 48
    values[6] = value
    with pytest.raises(DataError, match=rf"p\.csv, row 7: {column} is '{value}'; write a number from 0 to"):
        FeatureTable([with_index(tmp_path, **{column: values})], "voice")
