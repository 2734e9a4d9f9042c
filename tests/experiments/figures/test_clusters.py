"""Pictures are drawn from a run folder, and what cannot be drawn is said, never raised."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.callbacks.pictures import Pictures
from experiments.figures import clusters as pictures
from experiments.figures.clusters import PICTURES, draw_run
from experiments.run import main
from experiments.runs.saved import read_run
from tests.experiments.saved import save_run, world

WITHOUT_STEPS = {"det", "histograms", "confusion", "map"}


def test_every_picture_of_a_chained_run_is_drawn(tiny_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    again.symlink_to(tiny_run)
    run = read_run(again)
    traces = json.loads((tiny_run / "refinement.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = draw_run(run, traces)
    assert {path.stem for path in files} == {f"{cell}_{picture}" for cell in run.scores for picture in PICTURES}
    for path in files:
        assert len(np.unique(np.asarray(Image.open(path).convert("L")))) > 10  # not blank
        path.unlink()


def test_what_cannot_be_drawn_is_one_warning_that_says_why(tmp_path: Path) -> None:
    run = read_run(save_run(tmp_path / "a", world({"heard": "English"})))
    with pytest.warns(UserWarning, match="left out") as said:
        files = draw_run(run, {"heard": [{"step": "ChainingCluster", "unchanged": "one cluster"}]})
    assert {path.stem.removeprefix("heard_") for path in files} == WITHOUT_STEPS
    assert sorted(str(w.message) for w in said) == [
        "picture elbow of test condition 'heard' is left out: no step computed an elbow (one cluster)",
        "picture prototypes of test condition 'heard' is left out: no step computed prototypes (one cluster)",
    ]
    unlabelled = read_run(save_run(tmp_path / "b", world({"heard": "English"}, labelled=False)))
    with pytest.warns(UserWarning, match="the trial list has no labels"):
        assert [path.stem for path in draw_run(unlabelled, {})] == ["heard_map"]


def test_a_picture_that_breaks_does_not_break_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(pictures, "PICTURES", {"elbow": broken})
    run = read_run(save_run(tmp_path / "a", world({"heard": "English"})))
    with pytest.warns(UserWarning, match="picture elbow of test condition 'heard' failed: KeyError: 'x'"):
        assert draw_run(run, {}) == []
    (tmp_path / "a" / "pictures").write_text("a file is in the way")
    monkeypatch.setattr(pictures, "PICTURES", {"det": PICTURES["det"]})
    with pytest.warns(UserWarning, match=r"failed: CannotWrite: .*pictures: cannot be written \(File exists\)"):
        assert draw_run(run, {}) == []


def test_outliers_are_those_of_the_trace(tiny_run: Path) -> None:
    run = read_run(tiny_run)
    for name, traces in json.loads((tiny_run / "refinement.json").read_text()).items():
        cell = pictures.scored_cell(run.evaluation, name, run.scores[name], run.embeddings)
        entries = [e for e in traces[0]["clusters"] if e["identity"] is None]
        for modality in ("voice", "face"):
            dropped = sum(e["size"] - e["kept"] for e in entries if e["modality"] == modality)
            found = pictures._outliers(cell, modality, traces[0]["assignment"], traces)
            assert np.count_nonzero(found) == dropped > 0


def test_the_callback_draws_after_a_test(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from experiments.commands import fit as cli

    original = cli.ExperimentCLI.instantiate_trainer

    def with_pictures(self: cli.ExperimentCLI, **kwargs: object) -> object:
        trainer = original(self, **kwargs)
        trainer.callbacks.append(Pictures(self.run_dir, self.config_init["postproc"]))
        return trainer

    monkeypatch.setattr(cli.ExperimentCLI, "instantiate_trainer", with_pictures)
    config = str(tiny_run / "config.yaml")
    assert main(["test", "--config", config, "--ckpt_path", "best", f"--run_dir={tmp_path / 'out'}"]) == 0
    names = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    assert {f"heard_{picture}.png" for picture in PICTURES} <= names
