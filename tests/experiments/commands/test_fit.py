"""fit, validate, test and predict through the command line, in process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from experiments.commands.cli import LENGTH
from experiments.config.missing import check_files
from experiments.run import COMMANDS, main
from experiments.runs.folder import choose_run_dir
from lightning_modules import SCC
from postproc.metrics import eer
from tests.experiments.conftest import TINY, lines


def results(run: Path) -> dict[str, dict[str, float]]:
    return json.loads((run / "results.json").read_text())


def test_fit_leaves_everything_in_the_run_folder(tiny_run: Path) -> None:
    files = {p.relative_to(tiny_run).as_posix() for p in tiny_run.rglob("*") if p.is_file()}
    assert {"config.yaml", "results.json", "scores.parquet", "refinement.json"} <= files
    assert {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "embeddings/voices.npy", "embeddings/faces.csv"} <= files
    record = results(tiny_run)
    assert set(record) == {"heard", "unheard", "overall", "alignment"}
    for name in ("heard", "unheard", "overall"):
        cell = record[name]
        rates = [cell[k] for k in ("eer", "eer_refined", "eer_same_gender", "eer_gender_only", "auc")]
        assert all(0 <= rate <= 1 for rate in rates)
        assert cell["trials"] > 0


def test_results_follow_from_the_saved_scores(tiny_run: Path) -> None:
    scores = pd.read_parquet(tiny_run / "scores.parquet")
    for name, cell in scores.groupby("cell"):
        labels = cell["label"].to_numpy(np.int8)
        raw = eer(cell["distance"].to_numpy(), labels, direction="distance").eer
        refined = eer(cell["refined"].to_numpy(), labels, direction="distance").eer
        assert results(tiny_run)[str(name)]["eer"] == pytest.approx(raw, abs=1e-12)
        assert results(tiny_run)[str(name)]["eer_refined"] == pytest.approx(refined, abs=1e-12)


def test_config_yaml_reproduces_the_run(tiny_run: Path, tmp_path: Path) -> None:
    assert main(["fit", "--config", str(tiny_run / "config.yaml"), f"--run_dir={tmp_path}"]) == 0
    assert results(tmp_path) == results(tiny_run)


def test_denormal_weights_do_not_slow_training_down(tiny_run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormals")
    products = []

    def step(self: SCC, batch: Any) -> dict[str, torch.Tensor]:
        products.append(torch.full((8,), 1e-37).mul(0.01).any().item())
        return loss(self, batch)

    loss = SCC.loss
    monkeypatch.setattr(SCC, "loss", step)
    assert main(["fit", "--config", str(tiny_run / "config.yaml"), f"--run_dir={tmp_path}"]) == 0
    assert products
    assert not any(products)
    assert torch.full((8,), 1e-37).mul(0.01).any()  # the process is left as it was


@pytest.mark.parametrize("checkpoint", ["run", "path"])
def test_test_of_a_checkpoint_gives_the_results_of_fit(tiny_run: Path, tmp_path: Path, checkpoint: str) -> None:
    path = ["--config", str(tiny_run / "config.yaml"), f"--ckpt_path={tiny_run / 'checkpoints' / 'best.ckpt'}"]
    run = [str(tiny_run)] if checkpoint == "run" else path
    assert main(["test", *run, f"--run_dir={tmp_path}"]) == 0
    assert results(tmp_path) == results(tiny_run)


def test_checkpoints_hold_data_and_no_code(tiny_run: Path) -> None:
    for name in ("best", "last"):
        assert "state_dict" in torch.load(tiny_run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def test_no_test_stops_after_training(tmp_path: Path) -> None:
    assert main(["fit", "--config", str(TINY), "--no-test", f"--run_dir={tmp_path}"]) == 0
    assert (tmp_path / "checkpoints" / "best.ckpt").exists()
    assert not (tmp_path / "results.json").exists()


def test_predict_scores_without_results(tiny_run: Path, tmp_path: Path) -> None:
    config = str(tiny_run / "config.yaml")
    assert main(["predict", "--config", config, "--ckpt_path=best", f"--run_dir={tmp_path}"]) == 0
    fit, predicted = (pd.read_parquet(run / "scores.parquet") for run in (tiny_run, tmp_path))
    np.testing.assert_allclose(predicted["distance"], fit["distance"])
    assert not (tmp_path / "results.json").exists()


def test_command_line_overrides_reach_interpolated_values(tmp_path: Path) -> None:
    command = ["fit", "--config", str(TINY), "--vars.identities=12", "--no-test", f"--run_dir={tmp_path}"]
    assert main(command) == 0
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert saved["data"]["init_args"]["identities"] == 12


def test_a_method_is_swapped_by_its_group(tmp_path: Path) -> None:
    command = [
        "fit",
        "--config",
        str(TINY),
        "--model=model/cca.yaml",
        "--data.val_identities=0",
        f"--run_dir={tmp_path}",
    ]
    assert main(command) == 0
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert saved["model"]["class_path"].endswith("RegularisedCCA")
    assert results(tmp_path)["overall"]["eer"] < 0.4


def test_the_csv_logger_writes_into_the_run_folder(tmp_path: Path) -> None:
    command = ["fit", "--config", str(TINY), "--logger=logger/csv.yaml", f"--run_dir={tmp_path}"]
    assert main(command) == 0
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert {"val/eer", "test/heard/eer"} <= set(pd.read_csv(metrics).columns)


def test_wandb_is_offline_without_a_key_and_holds_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no netrc
    run = tmp_path / "run"
    assert main(["fit", "--config", str(TINY), "--logger=logger/wandb.yaml", f"--run_dir={run}"]) == 0
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("no key found, logging offline") == 1
    (folder,) = (run / "wandb").glob("offline-run-*")
    assert folder.name.endswith((run / "wandb_id").read_text())
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(folder)]
    inspected = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in ("val/eer", "test/heard/eer", "test/unheard/eer_refined", "test/overall/eer_same_gender"):
        assert name in inspected, name


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model.tauu=3"], r"model: lightning_modules\.SCC has no option 'tauu'; did you mean tau\?"),
        (["--modell.tau=3"], r"unknown option --modell\.tau=3; did you mean --model\.tau"),
        (["--model.tau=abc"], r"model\.tau: expected float, got '?abc"),
        (
            ["--model=lightning_modules.SCCC"],
            r"no class 'lightning_modules\.SCCC'; did you mean lightning_modules\.SCC\?",
        ),
        (["--trainer.max_epoch=3"], r"unknown option --trainer\.max_epoch=3; did you mean --trainer\.max_epochs"),
        (["--trainer.max_epochs=many"], r"trainer\.max_epochs: expected int, got many"),
        (["--model=model/ccaa.yaml"], r"config model/ccaa\.yaml: no such file.*did you mean model/cca\.yaml\?"),
        (["--vars.identites=3"], r"--vars\.identites: the config has no such value; it has identities"),
        (["--data.clips=${vars.none}"], r"data\.init_args\.clips: Interpolation key 'vars\.none' not found"),
        (["--trainer.accelerator=gpu", "--trainer.devices=8"], r"This machine has \d+ CUDA GPUs"),
        (["--data.identities=1"], r"data: identities 1.*at least 4"),
        (["--run_dir=/proc/nowhere"], r"run folder /proc/nowhere: .*--run_dir"),
    ],
)
def test_bad_input_is_one_line_with_the_way_out(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available() and "--trainer.accelerator=gpu" in arguments:
        pytest.skip("this machine has a GPU")
    assert main(["fit", "--config", str(TINY), f"--run_dir={tmp_path}", *arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert re.search(said, errors[0]), errors[0]


def test_test_without_a_checkpoint_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--config", str(TINY), f"--run_dir={tmp_path}"]) == 2
    assert "--ckpt_path is required: best, last or a path" in capsys.readouterr().err


def test_a_run_folder_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: run {tmp_path}: no such run folder, or no config.yaml in it\n"


def test_unknown_checkpoint_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["test", "--config", str(TINY), f"--run_dir={tmp_path}", "--ckpt_path=nowhere.ckpt"]
    assert main(command) == 2
    assert "no file nowhere.ckpt" in capsys.readouterr().err


def test_top_level_help_lists_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", "--help"], capture_output=True, text=True, check=True
    )
    assert all(f"  {command} " in done.stdout for command in COMMANDS)


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fitt"]) == 2
    assert "did you mean 'fit'" in capsys.readouterr().err


def test_a_value_that_a_saved_config_no_longer_reads_is_refused(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(
        (tiny_run / "config.yaml").read_text().replace("vars:", "vars:\n  fold: 0", 1)
    )
    reads = tmp_path / "reads.yaml"  # and the config of the run comes after it
    reads.write_text(TINY.read_text().replace("seed_everything: 0", "seed_everything: ${vars.fold}"))
    for command in (["fit"], ["test", "--ckpt_path", "best"], ["fit", "--config", str(reads)]):
        options = ["--config", str(tmp_path / "config.yaml"), "--vars.fold=3", f"--run_dir={tmp_path / 'new'}"]
        assert main([*command, *options]) == 2
        assert "vars.fold: no key of" in lines(capsys)
    assert not (tmp_path / "new").exists()


def test_a_folder_with_a_run_is_refused_and_stays_as_it_is(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*") if path.name != ".run.lock"}
    assert main(["fit", "--config", str(TINY), f"--run_dir={tiny_run}"]) == 2
    assert re.search("holds a run already .*--resume auto, or choose another --run_dir", lines(capsys))
    after = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*") if path.name != ".run.lock"}
    assert {p: t for p, t in after.items() if p != tiny_run} == {p: t for p, t in before.items() if p != tiny_run}


def test_fits_of_one_slurm_job_have_a_folder_each_which_a_requeued_one_finds_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "4242")
    folders = []
    for seed in ("1", "2", "1"):
        monkeypatch.setattr("sys.argv", ["run.py", "fit", "--seed_everything", seed])
        folders.append(choose_run_dir(None, "tiny"))
    assert folders[0] == folders[2] != folders[1]
    assert all(folder.parent == tmp_path / "runs" / "tiny" for folder in folders)


def test_a_failed_start_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "junk.ckpt"
    weights.write_bytes(b"junk" * 100)
    folder = tmp_path / "runs" / "new"
    assert main(["fit", "--config", str(TINY), f"--model.init_args.weights={weights}", f"--run_dir={folder}"]) == 2
    assert "junk.ckpt" in lines(capsys)
    assert not folder.parent.exists()


@pytest.mark.parametrize("option", ["--trainer.limit_val_batches=0", "--trainer.max_steps=1"])
def test_without_validation_the_last_checkpoint_is_tested(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(TINY), option, f"--run_dir={tmp_path}"]) == 0
    best = (tmp_path / "checkpoints" / "best.ckpt").is_file()
    assert capsys.readouterr().out.count("testing the last one") == (not best)
    assert (tmp_path / "results.json").is_file()


def test_training_on_takes_the_schedule_of_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = "--model.init_args.scheduler={class_path: lightning_modules.WarmupCosine, init_args: {total_steps: %d}}"
    common = ["fit", "--config", str(TINY), "--no-test", "--model.init_args.optimizer=SGD", "--data.steps_per_epoch=2"]
    first, second = tmp_path / "first", tmp_path / "second"
    rate = "--model.init_args.optimizer.init_args.lr=%g"
    assert main([*common, rate % 0.1, schedule % 2, "--trainer.max_epochs=1", f"--run_dir={first}"]) == 0
    on = ["--ckpt_path", str(first / "checkpoints" / "last.ckpt"), "--trainer.max_epochs=2", f"--run_dir={second}"]
    assert main([*common, rate % 0.3, schedule % 4, *on]) == 0
    assert (
        "training on from step 2: the learning rate and schedule are those of the config, now 0.15"
        in capsys.readouterr().out
    )
    last = torch.load(second / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert last["optimizer_states"][0]["param_groups"][0]["initial_lr"] == 0.3
    assert last["lr_schedulers"][0]["total_steps"] == 4
    plateau = "--model.init_args.scheduler={class_path: lightning.pytorch.cli.ReduceLROnPlateau, "
    plateau += "init_args: {monitor: val/eer, patience: 0, factor: 0.5, threshold: 0.99}}"
    third, fourth = tmp_path / "third", tmp_path / "fourth"
    on[1], on[-1] = str(second / "checkpoints" / "last.ckpt"), f"--run_dir={third}"
    assert main([*common, rate % 0.2, plateau, *on, "--trainer.max_epochs=4"]) == 0  # another kind of schedule
    on[1], on[-1] = str(third / "checkpoints" / "last.ckpt"), f"--run_dir={fourth}"
    assert main([*common, rate % 0.6, plateau, *on, "--trainer.max_epochs=6"]) == 0
    assert pd.read_csv(third / "history.csv")["lr"].tolist() == [0.2, 0.2]
    assert pd.read_csv(fourth / "history.csv")["lr"].tolist() == pytest.approx([0.3, 0.15])


def test_a_fit_with_nothing_left_to_train_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit, run, other = ["fit", "--config", str(TINY), "--data.steps_per_epoch=2"], tmp_path / "run", tmp_path / "other"
    assert main([*fit, "--no-test", f"--run_dir={run}"]) == 0
    config, last = (run / "config.yaml").read_text(), run / "checkpoints" / "last.ckpt"
    for most, said in (
        ("--trainer.max_epochs=2", "2 epochs are trained, and trainer.max_epochs is 2"),
        ("--trainer.max_epochs=1", "2 epochs are trained, and trainer.max_epochs is 1"),
        ("--trainer.max_steps=3", "4 steps are trained, and trainer.max_steps is 3"),
    ):
        for folder, path in ((run, "last"), (other, str(last))):
            assert main([*fit, most, f"--ckpt_path={path}", f"--run_dir={folder}"]) == 2
            assert lines(capsys) == f"error: ckpt_path {path}: {said}; give more to train on, or use the command test"
    assert (run / "config.yaml").read_text() == config
    assert not other.exists()
    resume = [*fit, "--resume=auto", f"--run_dir={run}"]
    for option, key in (("--model.optimizer.lr=0.5", "model.optimizer"), ("--trainer.max_epochs=3", LENGTH[0])):
        assert main([*resume, option]) == 2
        assert f"training ended at step 4, with another value of {key}; give --ckpt_path last to train" in lines(capsys)
    assert (run / "config.yaml").read_text() == config
    (run / "trained.json").unlink()  # killed before its end
    assert main([*fit, "--resume=auto", "--trainer.max_epochs=1", f"--run_dir={run}"]) == 0
    assert "nothing is left to train: 2 epochs are trained, and trainer.max_epochs is 1" in capsys.readouterr().out
    assert (run / "results.json").is_file()


@pytest.mark.parametrize("option", ["max_epochs", "max_steps", "limit_train_batches"])
def test_a_fit_that_trains_nothing_is_refused(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(TINY), f"--trainer.{option}=0", f"--run_dir={tmp_path / 'run'}"]) == 2
    assert f"trainer.{option}: 0 trains nothing" in lines(capsys)
    assert not (tmp_path / "run").exists()


def test_another_data_module_takes_the_place_of_a_file() -> None:
    check_files({"data": "datamodules.SyntheticDataModule"})  # needs no file


def test_a_run_from_the_config_of_another_has_its_own_wandb_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["fit", "--config", str(TINY), "--logger", "logger/wandb.yaml", "--no-test", f"--run_dir={first}"]) == 0
    options = yaml.safe_load((first / "config.yaml").read_text())["logger"]["init_args"]
    assert options["id"] is options["name"] is None
    assert main(["fit", "--config", str(first / "config.yaml"), "--no-test", f"--run_dir={second}"]) == 0
    assert (first / "wandb_id").read_text() != (second / "wandb_id").read_text()
