"""``vox1_faa.yaml`` on the real public lists of both splits, over synthetic embeddings under their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.datasets.voxceleb.people import Split
from experiments.run import main
from tests.datamodules.voxceleb_world import write_feature_files

QUICK = ["--logger", "null", "--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "3"]
# two videos of each of 900 people, every pair and gallery judged by cosine; the galleries of 20,000 still take minutes
QUICK += ["--model.clusters", "[500]", "--model.matching", "null", "--model.scoring", "cosine"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("split", "cells", "tasks"), [("pins", 10, 14), ("wen", 1, 10)])
def test_all_tasks_of_a_split_from_a_checkpoint(
    split: Split,
    cells: int,
    tasks: int,
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    write_feature_files(shared_data / "voxceleb", split, tmp_path, noise=0.3, portraits=False)
    monkeypatch.setenv("VOXCELEB_FEATURES", str(tmp_path))
    monkeypatch.setenv("VOICEFACE_DATA", str(shared_data))
    run = ["--config", "vox1_faa.yaml", "--vars.split", split, *QUICK]
    assert main(["fit", *run, "--run_dir", str(tmp_path / "fit"), "--no-test"]) == 0
    checkpoint = ["--ckpt_path", str(tmp_path / "fit/checkpoints/last.ckpt")]
    assert main(["test", *run, "--run_dir", str(tmp_path / "test"), *checkpoint]) == 0
    results = json.loads((tmp_path / "test/results.json").read_text())
    results.pop("alignment")
    found = results.pop("tasks")
    assert len(found) == tasks
    assert all(record["score"] > 1.2 * record["score_chance"] for record in found.values())
    assert len(results) == cells  # and no mean over strata
    assert all(record["eer"] < 0.45 for record in results.values())
    printed = capsys.readouterr().out
    assert all(name.startswith(f"{split}/") and name in printed for name in (*results, *found))
    # published numbers are printed next to ours only for the split they were measured on
    assert ("PAEFF" in printed) == (split == "pins")
    assert ("Wen et al." in printed) == (split == "wen")
