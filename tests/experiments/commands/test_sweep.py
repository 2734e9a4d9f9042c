"""A sweep file becomes points; points are run, skipped, retried and shown."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from submitit.slurm.slurm import _make_sbatch_string

from datamodules.schema import DataError
from experiments.config.files import packaged
from experiments.config.overrides import expand_arguments
from experiments.run import main
from experiments.sweep.launch import slurm_settings
from experiments.sweep.points import Point, Sweep
from experiments.sweep.run import fit_of
from tests.experiments.conftest import TINY


def write(folder: Path, method: str = "grid", parameters: Any = None, **other: Any) -> Path:
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump({"method": method, "parameters": parameters, **other}, sort_keys=False))
    return path


def points(folder: Path, *given: Any, **options: Any) -> list[dict[str, Any]]:
    return [point.overrides for point in Sweep.read(write(folder, *given, **options)).points()]


def test_a_grid_is_every_combination_and_a_mapping_sets_several_keys(tmp_path: Path) -> None:
    method = {"values": [{"model": "model/fop.yaml", "data.batch_size": 32}, {"model": "model/cca.yaml"}]}
    found = points(
        tmp_path, "grid", {"seed_everything": {"values": [0, 1]}, "method": method, "logger": {"value": None}}
    )
    assert found == [
        {"seed_everything": seed, "model": f"model/{model}.yaml", **batch, "logger": None}
        for seed in (0, 1)
        for model, batch in (("fop", {"data.batch_size": 32}), ("cca", {}))
    ]


def test_an_id_follows_from_the_overrides_alone() -> None:
    assert Point({"a": 1, "b": [2, "x"]}).id == Point({"b": [2, "x"], "a": 1}).id
    assert len({Point(o).id for o in ({"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": 1.5})}) == 5


def test_arguments_put_what_is_overridden_before_what_overrides() -> None:
    overrides = {"data.batch_size": 8, "model": "model/cca.yaml", "vars.fold": 0, "config": "a.yaml", "logger": None}
    arguments = Point(overrides | {"data.train_languages": ["A", "B"]}).arguments
    assert arguments[:3] == ["--config=a.yaml", "--model=model/cca.yaml", "--logger=null"]
    assert arguments[-1] == '--data.train_languages=["A", "B"]'


def test_more_random_draws_keep_the_earlier_ones(tmp_path: Path) -> None:
    parameters = {"model.tau": {"min": 0.1, "max": 1.0}, "data.batch_size": {"values": [8, 16, 32]}}
    few, many, other = (
        points(tmp_path, "random", parameters, run_cap=cap, seed=seed) for cap, seed in ((5, 0), (9, 0), (5, 1))
    )
    assert len(many) == 9
    assert many[:5] == few
    assert other != few


def test_distributions_have_the_means_they_should(tmp_path: Path) -> None:
    parameters = {
        "whole": {"min": 1, "max": 4},
        "log": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "exponent": {"distribution": "log_uniform", "min": -2.0, "max": 0.0},
        "normal": {"distribution": "normal", "mu": 3.0, "sigma": 0.5},
        "chosen": {"values": ["rare", "usual"], "probabilities": [0.1, 0.9]},
    }
    drawn = points(tmp_path, "random", parameters, run_cap=2000)
    assert {point["whole"] for point in drawn} == {1, 2, 3, 4}
    assert np.mean([np.log10(point["log"]) for point in drawn]) == pytest.approx(-3, abs=0.05)
    assert np.mean([np.log(point["exponent"]) for point in drawn]) == pytest.approx(-1, abs=0.05)
    assert np.mean([point["normal"] for point in drawn]) == pytest.approx(3, abs=0.05)
    assert np.mean([point["chosen"] == "usual" for point in drawn]) == pytest.approx(0.9, abs=0.03)


def test_limits_that_no_distribution_has_are_named(tmp_path: Path) -> None:
    parameters = {"model.tau": {"distribution": "log_uniform_values", "min": 0, "max": 1}}
    with pytest.raises(DataError, match=r"model\.tau: no log_uniform_values distribution has min 0 and max 1"):
        points(tmp_path, "random", parameters, run_cap=1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"method": "grdi"}, r"method 'grdi' is unknown; use one of grid, random, bayes"),
        ({"paramters": {}}, r"paramters: no such key; did you mean parameters\?"),
        ({"method": "random"}, r"method random needs run_cap"),
        ({"parameters": {"a": {"min": 0, "max": 1}}}, r"parameters\.a: a grid takes value or values"),
        ({"parameters": {"a": {"values": []}}}, r"parameters\.a: values must be a list with at least one value"),
        ({"parameters": {"a": 3}}, r"parameters\.a: expected value, values, or a distribution"),
        (
            {"parameters": {"a": {"parameters": {}}}},
            r"parameters\.a: nested parameters are not supported; write dotted keys",
        ),
        (
            {"method": "random", "run_cap": 1, "parameters": {"a": {"distribution": "unifrom", "min": 0, "max": 1}}},
            r"distribution 'unifrom' is unknown; did you mean uniform\?",
        ),
        (
            {"method": "random", "run_cap": 1, "parameters": {"a": {"distribution": "normal", "mu": 0}}},
            r"distribution normal needs mu and sigma",
        ),
    ],
)
def test_a_bad_sweep_file_is_one_line(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({"method": "grid", "parameters": {"a": {"value": 1}}} | content))
    with pytest.raises(DataError, match=said) as error:
        Sweep.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_further_arguments_go_to_every_point_and_win(tmp_path: Path) -> None:
    method = {"values": [{"model": "a.yaml", "data.batch_size": 32}, {"model": "b.yaml"}]}
    path = write(tmp_path, "grid", {"data.batch_size": {"value": 8}, "method": method})
    found = Sweep.read(path, ["--data.batch_size=64", "--data=demo.yaml"]).points()
    assert [point.overrides for point in found] == [
        {"model": f"{name}.yaml", "data.batch_size": "64", "data": "demo.yaml"} for name in "ab"
    ]
    assert found[0].arguments == ["--model=a.yaml", "--data=demo.yaml", "--data.batch_size=64"]
    assert {point.id for point in found}.isdisjoint(point.id for point in Sweep.read(path).points())


def test_a_wrong_option_of_a_sweep_is_named(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--config", str(three), "--paralel", "3"]) == 2
    assert "--paralel: neither an option of sweep nor an argument of all points" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "count"), [("v1_table", 72), ("v1_table_media", 6), ("v2_table", 6), ("languages", 54)]
)
def test_shipped_sweeps_name_configs_that_exist(name: str, count: int) -> None:
    found = Sweep.read(packaged() / "sweeps" / f"{name}.yaml").points()
    assert len({point.id for point in found}) == count
    for point in found:
        expand_arguments(point.arguments)  # an unknown file raises


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three seeds, of which the second fails."""
    parameters = {
        "config": {"value": str(TINY)},
        "point": {
            "values": [{"seed_everything": 0}, {"seed_everything": 1, "data.identities": 1}, {"seed_everything": 2}]
        },
        "logger": {"value": None},
        "trainer.max_epochs": {"value": 1},
    }
    return write(tmp_path, "grid", parameters)


def started(out: Path) -> dict[str, float]:
    return {run.parent.name: json.loads(run.read_text())["started"] for run in out.glob("*/state.json")}


@pytest.mark.processes
@pytest.mark.timeout(900)
def test_finished_points_are_skipped_and_failed_ones_retried(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    command = ["sweep", "--config", str(three), f"--out={out}"]
    assert main([*command, "--parallel=2"]) == 2
    captured = capsys.readouterr()
    assert "sweep: 3 points, 3 new; 3 to run by local" in captured.out
    assert "1 of 3 points failed, the first:" in captured.err
    assert "data: identities 1" in captured.err
    assert "points 3/3" in captured.err
    index = json.loads((out / "index.json").read_text())["points"]
    assert {run.name for run in out.iterdir() if run.is_dir()} == set(index)
    (failed,) = (name for name, overrides in index.items() if "data.identities" in overrides)
    before = started(out)

    assert main([*command, "--status"]) == 0
    assert "3 points, 1 failed, 2 finished" in capsys.readouterr().out
    assert started(out) == before

    assert main([*command, "--parallel=1"]) == 2
    assert "1 failed, 2 finished; 1 to run" in capsys.readouterr().out
    after = started(out)
    assert {name for name in after if after[name] != before[name]} == {failed}


def test_a_point_whose_process_is_gone_is_killed_and_one_that_lives_is_left_alone(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    first, second, third = (point.id for point in Sweep.read(three).points())
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    says = "print('here', flush=True); input()"  # a fit notes itself, so it is there before its note is
    alive = subprocess.Popen([sys.executable, "-c", says], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert alive.stdout is not None
    alive.stdout.readline()
    try:
        for name, process in ((first, dead), (second, alive)):
            (out / name).mkdir(parents=True)
            noted = {"state": "running", "host": os.uname().nodename, "pid": process.pid, "started": 0}
            (out / name / "state.json").write_text(json.dumps(noted))
        assert main(["sweep", "--config", str(three), f"--out={out}", "--status"]) == 0
    finally:
        alive.communicate()
    said = capsys.readouterr().out
    assert "3 points, 1 killed, 1 new, 1 running" in said
    assert third in said


def test_debug_runs_here_and_stops_at_the_first_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = {"config": {"value": str(TINY)}, "data.identities": {"values": [1, 2]}}  # neither makes a world
    out = tmp_path / "runs"
    path = write(tmp_path, "grid", parameters)
    assert main(["sweep", "--config", str(path), f"--out={out}", "--launcher=debug"]) == 2
    assert "data: identities 1" in capsys.readouterr().err
    assert len(started(out)) == 1


def test_dry_run_prints_the_commands_and_runs_nothing(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert main(["sweep", "--config", str(three), f"--out={out}", "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"python -m experiments.run fit --config={TINY} --seed_everything=") for line in lines)
    assert all(f"--run_dir={out}/" in line for line in lines)
    assert not out.exists()


def test_bayes_goes_through_agents_and_needs_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no netrc
    parameters = {"config": {"value": "demo.yaml"}, "model.tau": {"min": 0.1, "max": 1.0}}
    path = write(tmp_path, "bayes", parameters, run_cap=4, metric={"name": "val/eer", "goal": "minimize"})
    command = ["sweep", "--config", str(path), f"--out={tmp_path / 'runs'}"]
    assert main([*command, "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "# 4 times: " in said
    assert "wandb agent --count 1 --project=voiceface SWEEP_ID" in said
    handed = yaml.safe_load(said)
    assert handed["command"][-2:] == ["fit", "${args}"]
    assert handed["parameters"] == parameters
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: W&B agents need a key")
    assert error.count("\n") == 1


def test_wandb_takes_no_mapping_as_a_value(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "--config", str(three), f"--out={tmp_path}", "--launcher=wandb", "--dry_run"]
    assert main(command) == 2
    assert "parameters.point: W&B takes plain values" in capsys.readouterr().err


def test_unknown_slurm_settings_are_named(tmp_path: Path) -> None:
    settings = tmp_path / "point.yaml"
    settings.write_text("partion: gpu\n")
    with pytest.raises(DataError, match=r"partion: submitit has no such parameter; did you mean partition\?"):
        slurm_settings(settings)


def test_the_shipped_settings_make_an_array_of_a_gpu_for_each_point(tmp_path: Path) -> None:
    script = _make_sbatch_string("fit", tmp_path, map_count=72, **slurm_settings(packaged() / "slurm" / "trial.yaml"))
    asked = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")}
    assert {"array=0-71%16", "gpus-per-node=1", "cpus-per-task=4", "mem=16GB", "time=120"} <= asked
    assert {line for line in asked if line.startswith("signal=")} == {
        "signal=USR1@120"
    }  # which is the signal that the job expects


def many(folder: Path, count: int) -> list[str]:
    """A sweep of points of which every tenth has failed and the others have results; its command, with --status."""
    path = write(folder, "grid", {"config": {"value": "demo.yaml"}, "seed_everything": {"values": list(range(count))}})
    record = {"trials": 1000, "eer": 0.25, "eer_refined": 0.22} | {f"eer_{i}": 0.2 for i in range(20)}
    results = json.dumps(dict.fromkeys(("overall", "heard", "unheard"), record))
    for i, point in enumerate(Sweep.read(path).points()):
        fit = fit_of(point, (folder / "out").resolve())
        fit.folder.mkdir(parents=True)
        (fit.folder / "command.json").write_text(json.dumps(fit.command))
        (fit.folder / "state.json").write_text(json.dumps({"state": "finished" if i % 10 else "failed"}))
        if i % 10:
            (fit.folder / "results.json").write_text(results)
    return ["sweep", f"--config={path}", f"--out={folder / 'out'}", "--status"]


def test_the_status_opens_two_files_of_a_point_and_none_of_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, opened, original = many(tmp_path, 20), [], os.open
    shutil.rmtree(next(path.parent for path in tmp_path.glob("out/*/results.json")))
    finished = [path.parent for path in tmp_path.glob("out/*/results.json")]
    read = {folder / name for folder in finished for name in ("command.json", "results.json")}
    read |= {path for path in tmp_path.glob("out/*/state.json") if path.parent not in finished}

    def noting(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).startswith(str(tmp_path / "out")):
            opened.append(Path(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", noting)
    assert main(command) == 0
    assert "20 points, 2 failed, 17 finished, 1 new" in capsys.readouterr().out
    assert sorted(opened) == sorted(read)


@pytest.mark.perf
def test_the_status_of_ten_thousand_points_takes_little_more_than_reading_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = many(tmp_path, 10_000)
    files = [path for pattern in ("command", "state", "results") for path in tmp_path.glob(f"out/*/{pattern}.json")]
    spent: dict[str, list[float]] = {"status": [], "reading": []}
    for _ in range(4):
        start = time.process_time()
        assert main(command) == 0
        middle = time.process_time()
        for path in files:
            json.loads(path.read_text())
        spent["status"].append(middle - start)
        spent["reading"].append(time.process_time() - middle)
        assert "10000 points, 1000 failed, 9000 finished" in capsys.readouterr().out
    assert min(spent["status"]) < 2.3 * min(spent["reading"])
