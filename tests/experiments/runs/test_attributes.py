"""Estimated ages and genders in an index reach refinements in a test, and stay with the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments.run import main
from experiments.runs.saved import read_reference, read_run
from postproc.cells import ESTIMATES
from tests.datamodules.feature_files_on_disk import columns, ids

STEP = "steps:\n  - {class_path: postproc.AgeMatch, init_args: {weight: 0.5}}\n"


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with feature files whose indexes have ages, a config and a refinement by age."""
    folder, rng = tmp_path_factory.mktemp("aged"), np.random.default_rng(0)
    table = columns(people=12, clips=5)
    person = np.unique(table["identity"], return_inverse=True)[1]
    years = rng.uniform(20, 70, 12)
    for side in ("voice", "face"):
        np.save(folder / f"{side}.npy", rng.normal(size=(len(person), 40)).astype(np.float32))
        age = (years[person] + rng.normal(size=len(person))).round(2)
        fields = {name: table[name] for name in ("identity", "language", "video")}
        pd.DataFrame({"item": ids(table), **fields, "age": age}).to_csv(folder / f"{side}.csv", index=False)
    (folder / "age.yaml").write_text(STEP)
    files = {f"{side}s": [{"path": f"{side}.npy", "index": str(folder / f"{side}.csv")}] for side in ("voice", "face")}
    options = {"root": str(folder), "train_languages": ["Alpha"], "val_identities": 2, **files}
    tested = ["id0008", "id0009", "id0010", "id0011"]
    options["exclude_identities"] = tested
    options["test"] = {"heard": {"identities": tested, "draw": "scrambled", "trials": 40, "language": "Alpha"}}
    data = {"class_path": "datamodules.FeatureDataModule", "init_args": options}
    content = {"trainer": {"accelerator": "cpu", "logger": False}, "data": data, "pictures": False}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="module")
def run(aged: Path) -> Path:
    """A run folder of a model that was tested on them."""
    arguments = ["--config", str(aged / "config.yaml"), "--model", "model/cca.yaml"]
    assert main(["fit", *arguments, f"--run_dir={aged / 'run'}", "--postproc", str(aged / "age.yaml")]) == 0
    return aged / "run"


def test_ages_refine_a_test_and_a_saved_run_alike(aged: Path, run: Path, tmp_path: Path) -> None:
    assert main(["refine", str(run), "--postproc", str(aged / "age.yaml"), "--out", str(tmp_path / "again")]) == 0
    tested, again = (pd.read_parquet(folder / "scores.parquet") for folder in (run, tmp_path / "again"))
    pd.testing.assert_frame_equal(again, tested, check_exact=True)
    assert (tested["refined"] != tested["distance"]).all()
    (trace,) = json.loads((run / "refinement.json").read_text())["heard"]
    assert trace["known"] == {"voice": 1.0, "face": 1.0}


def test_ages_of_a_run_are_those_of_the_index(aged: Path, run: Path) -> None:
    saved, reference = read_run(run).evaluation, read_reference(run)
    for side, spaces in (("voice", reference.voices), ("face", reference.faces)):
        index = pd.read_csv(aged / f"{side}.csv").set_index("item")
        items = saved.items(side)
        np.testing.assert_allclose(items.attributes[:, 0], index.loc[items.ids, "age"], rtol=1e-6)
        assert np.isnan(items.attributes[:, 1]).all()
        by_identity = index.groupby("identity")["age"]
        known = spaces[ESTIMATES][:, 0]
        assert (known >= by_identity.min()[reference.identity].to_numpy() - 1e-4).all()
        assert (known <= by_identity.max()[reference.identity].to_numpy() + 1e-4).all()
