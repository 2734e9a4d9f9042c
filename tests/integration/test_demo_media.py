"""demo_media.yaml: from nothing to results on synthetic wav and jpg, in one command."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from experiments.run import main
from tests import CONFIGS


def test_a_shrunken_demo_leaves_results_with_controls(tmp_path: Path) -> None:
    smaller = ["--data.identities=12", "--data.clips=2", "--data.val_identities=4", "--data.val_trials=40"]
    smaller += ["--data.batch_size=8", "--data.steps_per_epoch=4", "--data.num_workers=0", "--trainer.max_epochs=2"]
    quiet = ["--logger=logger/csv.yaml", "--pictures=false", "--trainer.enable_progress_bar=false"]
    assert main(["fit", "--config=demo_media.yaml", *smaller, *quiet, f"--run_dir={tmp_path}"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    for name in ("heard", "unheard"):
        assert all(0 < results[name][rate] < 1 for rate in ("eer", "eer_same_gender"))
        assert 0.2 < results[name]["eer_gender_only"] < 0.4
        assert 0.4 < results[name]["eer_chance"] < 0.6
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == results["overall"]["trials"]


def test_the_schedule_fits_the_epochs() -> None:
    demo, data, model = (
        yaml.safe_load((CONFIGS / name).read_text())
        for name in ("demo_media.yaml", "data/demo_media.yaml", "model/scc_media_tiny.yaml")
    )
    steps = demo["trainer"]["max_epochs"] * data["init_args"]["steps_per_epoch"]
    assert model["init_args"]["scheduler"]["init_args"]["total_steps"] == steps


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_learns(tmp_path: Path) -> None:
    assert main(["fit", "--config=demo_media.yaml", "--logger=logger/csv.yaml", f"--run_dir={tmp_path}"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    for name in ("heard", "unheard"):
        assert results[name]["eer"] < 0.25 < results[name]["eer_gender_only"]
        assert results[name]["eer_same_gender"] < 0.42
