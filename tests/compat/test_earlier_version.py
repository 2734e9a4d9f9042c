"""A run and an export of version 0.1 (before the present layout) are read, and give the scores they gave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from experiments import load
from experiments.run import main

HERE = Path(__file__).parent
EXPORT = HERE / "export"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, for commands write into a run folder."""
    return Path(shutil.copytree(HERE / "run", tmp_path_factory.mktemp("runs") / "tiny"))


def same_results(folder: Path) -> None:
    """Scores and records of a folder are those of the stored run."""
    stored, new = (pd.read_parquet(path / "scores.parquet") for path in (HERE / "run", folder))
    pd.testing.assert_frame_equal(new, stored, rtol=0, atol=1e-6)
    records: list[dict[str, Any]] = [json.loads((path / "results.json").read_text()) for path in (HERE / "run", folder)]
    for cell in ("heard", "unheard", "overall"):
        for key, value in records[0][cell].items():
            assert records[1][cell][key] == (value if value is None else pytest.approx(value)), (cell, key)


def test_its_checkpoint_is_tested(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["test", "--config", str(run / "config.yaml"), "--ckpt_path=best", f"--run_dir={tmp_path}"]
    assert main(command) == 2  # it does not say whom it has learnt from
    assert "best.ckpt: nothing says whom these weights have learnt from" in capsys.readouterr().err
    assert main([*command, "--trust_weights=true"]) == 0
    same_results(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["trusted_weights"] == ["best.ckpt"]


def test_its_scores_are_refined(run: Path, tmp_path: Path) -> None:
    assert main(["refine", str(run), "--out", str(tmp_path)]) == 0
    same_results(tmp_path)


def test_it_is_reported(run: Path, tmp_path: Path) -> None:
    assert main(["report", str(run), "--out", str(tmp_path / "report.md")]) == 0
    assert "31.7" in (tmp_path / "report.md").read_text()  # EER after the refinement, mean of both languages


def test_it_is_exported(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), "--out", str(tmp_path)]) == 0
    stored, new = (load_file(folder / "model.safetensors") for folder in (EXPORT, tmp_path))
    assert stored.keys() == new.keys()
    assert all((stored[name] == new[name]).all() for name in stored)
    specs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in (EXPORT, tmp_path)]
    assert specs[0]["inputs"] == specs[1]["inputs"]
    assert specs[0]["model"]["init_args"].items() <= specs[1]["model"]["init_args"].items()


@pytest.mark.parametrize("name", ["run", "run/checkpoints/best.ckpt", "export"])
def test_it_is_loaded(name: str) -> None:
    model, saved = load(HERE / name, device="cpu"), HERE / "run" / "embeddings"
    voices = model.embed_voices(np.load(saved / "voices_input.npy"))
    faces = model.embed_faces(np.load(saved / "faces_input.npy"))
    np.testing.assert_allclose(voices, np.load(saved / "voices.npy"), atol=1e-6)
    np.testing.assert_allclose(faces, np.load(saved / "faces.npy"), atol=1e-6)
    scores = pd.read_parquet(HERE / "run" / "scores.parquet")
    v, f = voices[scores["voice_row"]], faces[scores["face_row"]]
    distance = model.distance(v, f)
    assert distance.dtype == np.float32
    np.testing.assert_allclose(distance, scores["distance"], atol=1e-6)
    np.testing.assert_array_equal(np.diag(model.distance(v[:9, None], f[None, :9])), distance[:9])
    if name == "export":
        assert model.results is None
    else:
        assert model.results is not None
        assert model.results["cells"]["overall"]["eer_refined"] == pytest.approx(0.31667, abs=1e-5)


def test_an_embedding_model_without_a_known_encoder_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.wav", "a.jpg"):
        (tmp_path / name).touch()
    command = ["score", str(EXPORT), "--voices", str(tmp_path / "a.wav"), "--faces", str(tmp_path / "a.jpg")]
    assert main(command) == 2
    assert "name their encoder: --voice encoder/NAME.yaml" in capsys.readouterr().err
