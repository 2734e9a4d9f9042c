"""Lists of identities in every format, and validation identities drawn by gender."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.io.identities import gender_letter, read_genders, read_identities
from datamodules.sampling.splits import draw_balanced
from datamodules.schema import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "people.txt").write_text("b\r\n\r\na\n b \n")
    (tmp_path / "folds.json").write_text(json.dumps({"0": ["b", "a"], "1": ["c"]}))
    (tmp_path / "list.json").write_text('["b", "a"]')
    table = pd.DataFrame({"identity": ["a", "b", "c", "b"], "split": ["test", "test", "train", "test"]})
    table.to_csv(tmp_path / "manifest.csv", index=False)
    table.to_parquet(tmp_path / "manifest.parquet")
    (tmp_path / "broken.json").write_text("{")
    return tmp_path


@pytest.mark.parametrize(
    "source", ["people.txt", "folds.json#0", "list.json", "manifest.csv#split=test", "manifest.parquet#split=test"]
)
def test_files_of_identities(folder: Path, source: str) -> None:
    assert read_identities(str(folder / source), "data.x") == ["a", "b"]


def test_identities_by_name_and_whole_tables(folder: Path) -> None:
    assert read_identities(["b", "a", "b"], "data.x") == ["a", "b"]
    assert read_identities(str(folder / "manifest.csv"), "data.x") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("folds.json", "name the list in it as"),
        ("folds.json#7", "no key 7; there are 0, 1"),
        ("list.json#0", "no key 0"),
        ("broken.json", "not JSON"),
        ("manifest.csv#splt=test", "no column splt; did you mean split?"),
        ("manifest.csv#split=dev", "names no identity"),
        ("peeple.txt", "did you mean people.txt?"),
    ],
)
def test_what_is_wrong(folder: Path, source: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        read_identities(str(folder / source), "data.exclude_identities")
    assert "data.exclude_identities" in str(error.value)


def test_genders_in_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("id,gender\na,Male\nb,f\nc,\nd,M\n")
    assert read_genders(str(tmp_path / "g.csv")) == {"a": "M", "b": "F", "c": "", "d": "M"}
    with pytest.raises(DataError, match="gender 'x' is unknown"):
        gender_letter("x", "file")
    (tmp_path / "g.csv").write_text("person,gender\na,Male\n")
    with pytest.raises(DataError, match="expected identity, gender"):
        read_genders(str(tmp_path / "g.csv"))


def test_drawn_identities_are_balanced_reproducible_and_depend_on_the_seed() -> None:
    people = np.array([f"p{i}" for i in range(20)])
    genders = {person: "M" if i < 15 else "F" for i, person in enumerate(people)}
    drawn = draw_balanced(people, genders, 6, 0)
    assert [genders[person] for person in drawn].count("F") == 3
    assert draw_balanced(people[::-1], genders, 6, 0).tolist() == drawn.tolist()
    assert draw_balanced(people, genders, 6, 1).tolist() != drawn.tolist()
    everyone = draw_balanced(people, genders, 14, 0)
    assert [genders[person] for person in everyone].count("F") == 5  # there are no more
    assert len(set(draw_balanced(people, {}, 6, 0))) == 6
