"""Pictures are drawn from a run folder, and what cannot be drawn is said, never raised."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.callbacks.pictures import Pictures
from experiments.figures import clusters, drawing, pictures
from experiments.figures.pictures import PICTURES, draw_run
from experiments.figures.scores import accepted
from experiments.run import main
from experiments.runs.saved import read_run
from tests.experiments.saved import save_run, world

WITHOUT_STEPS = ["det", "histograms", "confusion", "map"]


def test_every_picture_of_a_chained_run_is_drawn_into_six_files(tiny_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(tiny_run, again)
    run = read_run(again)
    traces = json.loads((tiny_run / "refinement.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = draw_run(run, traces)
    assert [path.stem for path in files] == [*PICTURES, "training"]
    assert len(files) <= 6
    for path in files:
        assert len(np.unique(np.asarray(Image.open(path).convert("L")))) > 10  # not blank


def test_what_cannot_be_drawn_is_one_warning_that_says_why(tmp_path: Path) -> None:
    run = read_run(save_run(tmp_path / "a", world({"heard": "English"})))
    with pytest.warns(UserWarning, match="left out") as said:
        files = draw_run(run, {"heard": [{"step": "ChainingCluster", "unchanged": "one cluster"}]})
    assert [path.stem for path in files] == WITHOUT_STEPS
    reason = "picture clusters of test condition 'heard' is left out: no step computed clusters (one cluster)"
    assert [str(w.message) for w in said] == [reason]
    unlabelled = read_run(save_run(tmp_path / "b", world({"heard": "English"}, labelled=False)))
    with pytest.warns(UserWarning, match="the trial list has no labels"):
        assert [path.stem for path in draw_run(unlabelled, {})] == ["map"]


def test_a_picture_that_breaks_does_not_break_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    run = read_run(save_run(tmp_path / "a", world({"heard": "English"})))
    for collect, draw, where in ((broken, broken, " of test condition 'heard'"), (lambda *_: 0, broken, "")):
        monkeypatch.setattr(pictures, "PICTURES", {"clusters": (collect, draw)})
        with pytest.warns(UserWarning, match=f"picture clusters{where} failed: KeyError: 'x'"):
            assert draw_run(run, {}) == []
    (tmp_path / "a" / "pictures").write_text("a file is in the way")
    monkeypatch.setattr(pictures, "PICTURES", {"det": (pictures.scored, pictures.draw_scores_det)})
    with pytest.warns(
        UserWarning, match=r"picture det failed: CannotWrite: .*pictures: cannot be written \(File exists\)"
    ):
        assert draw_run(run, {}) == []


def test_main_conditions_are_shown(tmp_path: Path) -> None:
    names = ["heard", "balanced/heard", "b", "c", "d"]
    run = read_run(save_run(tmp_path, world(dict.fromkeys(names, "English"))))
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "PICTURES", {"map": (lambda run, name, traces: seen.append(name), lambda _: None)})
        draw_run(run, {})
    assert seen == ["heard", "b", "c"]


def test_confusion_is_ordered_by_gender_and_counts_every_trial(tmp_path: Path) -> None:
    run = read_run(save_run(tmp_path, world({"heard": "English"})))
    of = accepted(run, "heard", ())
    assert of.identities == ["id00", "id02", "id04", "id01", "id03", "id05"]  # even ones are female
    assert of.women == 3
    assert of.count.sum() == len(run.scores["heard"])
    assert (of.accepted["raw"] <= of.count).all()


def test_prototypes_name_identities_and_mark_rewarded_pairs(tiny_run: Path) -> None:
    run = read_run(tiny_run)
    for name, (trace, *_) in json.loads((tiny_run / "refinement.json").read_text()).items():
        cell = run.evaluation.cells[name]
        found = clusters.prototypes_of(trace, run, name)
        trials = np.asarray(trace["action"]) == clusters.REWARDED
        assert any(p.rewarded.any() for p in found) == trials.any()
        for prototypes in found:
            above = prototypes.cosine > trace["t_alpha"]
            assert not (prototypes.rewarded & ~above).any()
            assert {*prototypes.voices, *prototypes.faces} <= {*run.evaluation.voices.identity[cell.voice_index]}


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("turn", [0.0, 0.5, 1.57])
def test_numbers_of_clusters_hide_neither_each_other_nor_an_only_item(gap: float, turn: float) -> None:
    """Two means near each other, one of them of an only item, and a third far away."""
    near = gap * np.array([np.cos(turn), np.sin(turn)])
    place = np.array([(0, 0), near - np.array([0, 0.2]), near + np.array([0, 0.2]), (1, 1), (1, 1)])
    names, cluster = np.array(list("abbcc")), np.array([[0, 0], [0, 1], [0, 1], [1, 0], [1, 0]])
    points = clusters.Points(place, names, np.array(list("FFFMM")), cluster, np.zeros(5, dtype=bool))
    figure = clusters.draw_map({"heard": {"voice": points, "face": points}})
    figure.draw_without_rendering()
    for axes in figure.axes:
        numbers = {text.get_text(): text.get_window_extent() for text in axes.texts}
        assert len(numbers) == 3
        assert not numbers["0.0"].overlaps(numbers["0.1"])
        only = axes.transData.transform(place[0])
        assert not any(box.padded(2).contains(*only) for box in numbers.values())


def test_narrow_matrices_fill_their_panel() -> None:
    shown = [drawing.Prototypes(np.zeros(shape), None, [], []) for shape in ((9, 2), (3, 2))]
    panels = clusters.draw_clusters({"heard": clusters.Clustered({}, shown)}).axes
    assert [panel.get_aspect() for panel in panels] == ["auto", 1.0]


def test_outliers_are_those_of_the_trace(tiny_run: Path) -> None:
    run = read_run(tiny_run)
    for name, traces in json.loads((tiny_run / "refinement.json").read_text()).items():
        cell = clusters.scored_cell(run.evaluation, name, run.scores[name], run.embeddings)
        entries = [e for e in traces[0]["clusters"] if e["identity"] is None]
        for modality in ("voice", "face"):
            dropped = sum(e["size"] - e["kept"] for e in entries if e["modality"] == modality)
            found = clusters._outliers(cell, modality, traces[0]["assignment"], traces)
            assert np.count_nonzero(found) == dropped > 0


def test_the_callback_draws_after_a_test(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from experiments.commands import cli

    original = cli.ExperimentCLI.instantiate_trainer

    def with_pictures(self: cli.ExperimentCLI, **kwargs: object) -> object:
        trainer = original(self, **kwargs)
        trainer.callbacks.append(Pictures(self.run_dir, self.config_init["postproc"]))
        return trainer

    monkeypatch.setattr(cli.ExperimentCLI, "instantiate_trainer", with_pictures)
    config = str(tiny_run / "config.yaml")
    assert main(["test", "--config", config, "--ckpt_path", "best", f"--run_dir={tmp_path / 'out'}"]) == 0
    names = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    assert names == {f"{picture}.png" for picture in PICTURES}
