"""On wav and jpg, by command: ``v2_eng_fop.yaml`` ([SCC] Table 3), and FAA on the network of [SCC]."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments.run import main
from tests.datamodules.media_tree import make_test, make_training

TINY = [
    "--logger",
    "null",
    "--pictures",
    "false",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.max_epochs",
    "2",
]
TINY += ["--model.network.width", "24", "--model.network.depth", "1", "--model.network.heads", "3"]
TINY += ["--model.network.frames", "48", "--model.network.image_size", "32"]
TINY += ["--data.media.frames", "48", "--data.media.image_size", "32", "--data.num_workers", "0"]
TINY += ["--data.val_trials", "60", "--data.batch_size", "12", "--data.val_identities", "4"]


def fit_and_test_again(run: list[str], folder: Path) -> dict[str, dict[str, float]]:
    """The records of the cells, which ``test`` from the checkpoint must repeat."""
    assert main(["fit", *run, *TINY, "--run_dir", str(folder / "fit")]) == 0
    checkpoint = ["--ckpt_path", str(folder / "fit/checkpoints/best.ckpt")]
    assert main(["test", *run, *TINY, "--run_dir", str(folder / "again"), *checkpoint]) == 0
    first, again = (json.loads((folder / name / "results.json").read_text()) for name in ("fit", "again"))
    assert first == again
    scores = pd.read_parquet(folder / "again/scores.parquet")
    assert scores["distance"].nunique() > 10  # no collapse
    return {name: record for name, record in first.items() if not name.endswith(("overall", "alignment"))}


@pytest.mark.timeout(900)
def test_linear_fusion_of_the_scc_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_training(tmp_path, "v2", ("English", "Hindi"), people=14, clips=3)
    for language in ("English", "Hindi"):
        make_test(tmp_path / "v2", language, f"voices/{language}", f"faces/{language}", people=6, clips=2)
    monkeypatch.setenv("MAVCELEB_ROOT", str(tmp_path))
    labels = "--data.labels={English: v2/English_labels.txt, Hindi: v2/Hindi_labels.txt}"
    cpu = ["--trainer.accelerator", "cpu", "--trainer.precision", "32", "--trainer.devices", "1"]
    for config in ("v2_eng_fop.yaml", "v2_hindi_fop.yaml"):
        run = ["--config", config, "--data.steps_per_epoch", "4", labels, *cpu]
        found = fit_and_test_again(run, tmp_path / config)
        assert list(found) == ["heard", "unheard"]
        assert all(record["eer_refined"] in (None, record["eer"]) for record in found.values())  # no post-processing


@pytest.mark.timeout(900)
def test_faa_on_the_scc_network(tmp_path: Path) -> None:
    smaller = ["--data.identities", "12", "--data.clips", "3", "--data.steps_per_epoch", "null"]
    faa = ["--model", "model/faa_media.yaml", "--model.clusters", "[6]", "--model.scoring", "[matching, cosine]"]
    found = fit_and_test_again(["--config", "demo_media.yaml", *faa, *smaller], tmp_path)
    assert list(found) == ["heard", "unheard", "cosine/heard", "cosine/unheard"]
