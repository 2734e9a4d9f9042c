"""``refine`` gives from the run folder alone what the callback gave in the run."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from datamodules.schema import DataError
from experiments.config.build import read_steps, strategy_options
from experiments.config.files import packaged
from experiments.protocol.file import Protocol
from experiments.run import main
from experiments.runs.saved import read_reference, read_run, write_reference
from postproc.cells import scored_cell
from postproc.clustering.partitions import Clustering
from postproc.reference import Reference
from tests.experiments.saved import embeddings_of, save_run, world

CHAINING_INPUT = """
steps:
  - class_path: postproc.ChainingCluster
    init_args: {n_identities: 3, space: input, t_alpha: {quantile: 0.5}}
"""
GENDER = """
steps:
  - class_path: postproc.steps.gender.GenderProbe
    init_args: {weight: 0.5}
"""


def test_it_equals_what_the_callback_computed(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["refine", str(tiny_run), "--out", str(tmp_path / "out")]) == 0
    in_run, again = (pd.read_parquet(folder / "scores.parquet") for folder in (tiny_run, tmp_path / "out"))
    pd.testing.assert_frame_equal(again, in_run, check_exact=True)
    assert (in_run["refined"] != in_run["distance"]).any()
    for name in ("results.json", "refinement.json"):
        assert json.loads((tmp_path / "out" / name).read_text()) == json.loads((tiny_run / name).read_text())
    assert "overall" in capsys.readouterr().out


def test_training_identities_of_a_normal_fit_are_kept(tiny_run: Path, tmp_path: Path) -> None:
    assert "keep_reference: null" in (tiny_run / "config.yaml").read_text(encoding="utf-8")
    (tmp_path / "gender.yaml").write_text(GENDER)
    step = ["--postproc", str(tmp_path / "gender.yaml")]
    assert main(["refine", str(tiny_run), *step, "--out", str(tmp_path / "refined")]) == 0
    assert main(["test", str(tiny_run), *step, f"--run_dir={tmp_path / 'tested'}"]) == 0
    refined, tested = (pd.read_parquet(tmp_path / name / "scores.parquet") for name in ("refined", "tested"))
    pd.testing.assert_frame_equal(refined, tested, check_exact=True)
    assert (refined["refined"] != refined["distance"]).any()


def test_several_strategies_stand_beside_each_other(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "by_input.yaml").write_text(CHAINING_INPUT)
    strategies = ["--postproc", "postproc/none.yaml", "--postproc", str(tmp_path / "by_input.yaml")]
    assert main(["refine", str(tiny_run), *strategies, "--out", str(tmp_path / "out")]) == 0
    none, by_input = (pd.read_parquet(tmp_path / "out" / name / "scores.parquet") for name in ("none", "by_input"))
    np.testing.assert_array_equal(none["refined"], none["distance"])
    assert (by_input["refined"] != by_input["distance"]).any()
    with_clusters = json.loads((tmp_path / "out" / "by_input" / "refinement.json").read_text())
    assert {trace["step"] for cell in with_clusters.values() for trace in cell} == {"ChainingCluster"}


def test_matching_and_retrieval_go_over_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run, out = save_run(tmp_path / "run", world({"heard": "English"})), tmp_path / "out"
    tasks = {"match/v2f": {"task": "matching", "score": 0.75}}
    arguments = ["refine", str(run), "--postproc", "postproc/none.yaml", "--out", str(out)]
    (run / "results.json").write_text(json.dumps({"tasks": tasks}))
    assert main(arguments) == 0
    assert json.loads((out / "results.json").read_text())["tasks"] == tasks
    (run / "results.json").write_text("[")
    assert main(arguments) == 2
    assert re.search(r"results\.json: .*; run test again", capsys.readouterr().err)


def test_a_saved_run_reads_back_exactly(tmp_path: Path) -> None:
    before = world({"heard": "English", "a/unheard": "Urdu"})
    run = read_run(save_run(tmp_path / "run", before, refined=False))
    assert run.refined == {}
    assert list(run.evaluation.cells) == ["heard", "a/unheard"]
    embeddings = embeddings_of(before)
    for name, cell in before.cells.items():
        ours = scored_cell(run.evaluation, name, run.scores[name], run.embeddings)
        oracle = scored_cell(before, name, run.scores[name], embeddings)
        for side in ("voices", "faces"):
            assert sorted(getattr(ours, side)) == ["input", "model"]
            for space, x in getattr(oracle, side).items():
                np.testing.assert_array_equal(getattr(ours, side)[space], x)
                assert len(x) < len(embeddings["voice"])
        np.testing.assert_array_equal(ours.voice_index, oracle.voice_index)
        np.testing.assert_array_equal(ours.face_index, oracle.face_index)
        np.testing.assert_array_equal(run.evaluation.cells[name].trials.labels, cell.trials.labels)
        assert run.evaluation.cells[name].language == cell.language


def test_steps_that_learn_take_the_saved_reference(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = save_run(tmp_path / "run", world({"heard": "English"}))
    (tmp_path / "gender.yaml").write_text(GENDER)
    arguments = ["refine", str(run), "--postproc", str(tmp_path / "gender.yaml"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "reference.npz: no such file; a step learns from training identities" in capsys.readouterr().err
    evaluation = world({"heard": "English"}, seed=1)
    items, learnt = evaluation.voices, embeddings_of(evaluation)
    spaces = [{"model": learnt[m], "input": evaluation.items(m).features} for m in ("voice", "face")]
    others = np.char.replace(items.identity, "id", "train")
    reference = Reference(*spaces, others, items.language, items.gender, np.arange(len(items)) % 2 == 0)
    write_reference(run, replace(reference, identity=items.identity))  # as a test of another fold leaves it
    assert main(arguments) == 2
    assert "would learn from 6 of its identities: id00, id01, id02, id03, id04, ...;" in capsys.readouterr().err
    write_reference(run, replace(reference, identity=items.identity), ["heard"])  # a test of training identities
    assert main(arguments) == 0
    write_reference(run, reference)
    again = read_reference(run)
    for space, x in spaces[1].items():
        np.testing.assert_array_equal(again.faces[space], x)
    np.testing.assert_array_equal(again.gender, items.gender)
    np.testing.assert_array_equal(again.seen, reference.seen)
    assert main(arguments) == 0
    table = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert (table["refined"] != table["distance"]).any()


def test_unlabelled_runs_are_refined_without_results(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", world({"heard": "English"}, labelled=False))
    out = tmp_path / "out"
    assert main(["refine", str(run), "--postproc", "postproc/chaining.yaml", "--out", str(out)]) == 0
    assert not (out / "results.json").exists()
    assert pd.read_parquet(out / "scores.parquet")["label"].isna().all()


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = save_run(tmp_path / "run", world({"heard": "English"}))
    typo, bad = tmp_path / "typo.yaml", tmp_path / "bad.yaml"
    typo.write_text(CHAINING_INPUT.replace("n_identities", "n_identites"))
    bad.write_text(CHAINING_INPUT.replace("n_identities: 3", "alpha: 3"))
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / "embeddings" / "voices.npy").write_bytes(b"")
    cases = [
        ([str(run)], "config .*config.yaml: no such file"),
        ([str(run), "--postproc", str(typo)], "typo.yaml: .*n_identites.*did you mean .*n_identities"),
        ([str(run), "--postproc", str(bad)], "bad.yaml: alpha: 3"),
        ([str(tmp_path / "none"), "--postproc", "postproc/none.yaml"], "no such run folder"),
        ([str(tmp_path / "none")], "none: no such run folder"),
        ([str(broken), "--postproc", "postproc/none.yaml"], "voices.npy: .*run test again"),
        ([str(run), "--postproc", "postproc/none.yaml", "--postproc", "postproc/none.yaml"], "must differ"),
    ]
    for arguments, message in cases:
        assert main(["refine", *arguments]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1, error
        assert re.search(message, error), error


def test_options_of_a_strategy_name_its_defaults_too(tmp_path: Path) -> None:
    file = tmp_path / "blocks.yaml"
    file.write_text("steps: [{class_path: postproc.BlockAverage}]")
    (bare,) = strategy_options(file, 0)
    assert bare["clustering"] | {"class": ""} == vars(Clustering()) | {"class": ""}
    ks = json.dumps(bare["clustering"]["ks"])
    file.write_text(
        f"# said\nsteps: [{{class_path: postproc.BlockAverage, init_args: {{clustering: {{ks: {ks}, seed: 0}}}}}}]"
    )
    assert strategy_options(file, 1) == [bare]
    file.write_text("steps: [{class_path: postproc.BlockAverage, init_args: {clustering: {ks: [3, 4]}}}]")
    assert strategy_options(file, 2)[0]["clustering"]["ks"] == [3, 4]


def test_one_alternative_of_a_file_is_read_by_its_name(tmp_path: Path) -> None:
    switches = packaged() / "postproc" / "chaining_switches.yaml"
    (step,) = read_steps(switches, alternative="confident_half")
    (paper,) = read_steps(switches, alternative="all_pairs")
    changed = {key for key, value in vars(step).items() if value != vars(paper)[key]} - {"_probes"}
    assert changed == {"pairs", "t_m"}
    assert strategy_options(switches, 0, "confident_half") != strategy_options(switches, 0, "all_pairs")
    with pytest.raises(DataError, match=r"no alternative confident_hlf; did you mean confident_half\?"):
        read_steps(switches, alternative="confident_hlf")
    plain = packaged() / "postproc" / "chaining.yaml"
    with pytest.raises(DataError, match="no alternative knee"):
        read_steps(plain, alternative="knee")
    protocol = Protocol.read(packaged() / "protocols" / "chaining.yaml")
    named = {text.partition("#")[2] for text in protocol.refinements.values()} - {""}
    assert named == set(yaml.safe_load(switches.read_text())["steps"][0]["init_args"]["alternatives"])
