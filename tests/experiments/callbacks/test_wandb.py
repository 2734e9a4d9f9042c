"""What W&B gets, read back from offline runs; and the environment of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from experiments.callbacks.record import git_state
from experiments.callbacks.wandb import MOST_ROWS, log_artifacts, log_tables
from experiments.report.build import build_report
from experiments.run import main
from tests import warm
from tests.experiments.conftest import TINY
from tests.experiments.saved import save_tested

pytestmark = pytest.mark.processes


def inspect(folder: Path, summary: bool = True) -> Any:
    """An offline run as W&B's own reader sees it."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    command[5:5] = ["--summary"] * summary
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(text) if summary else [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fit that logged offline, in a group."""
    run = tmp_path_factory.mktemp("wandb") / "run"
    environment = {k: v for k, v in os.environ.items() if k not in ("WANDB_API_KEY", "WANDB_MODE")}
    environment |= {"WANDB_RUN_GROUP": "sweep-one", "HOME": str(run.parent)}  # no netrc there
    fit = ["fit", "--config", str(TINY), "--logger=logger/wandb.yaml", "--trainer.log_every_n_steps=1"]
    # a process of its own: wandb reads its environment once
    assert warm.run(*fit, "--pictures=true", f"--run_dir={run}", environment=environment).returncode == 0
    return run


def only_run(run: Path) -> Path:
    (folder,) = (run / "wandb").glob("offline-run-*")
    return folder


def test_the_summary_holds_the_names_of_the_issue(offline: Path) -> None:
    found = inspect(only_run(offline))
    summary, results = found["summary"], json.loads((offline / "results.json").read_text())
    for cell in ("heard", "unheard", "overall"):
        for rate in ("eer", "eer_refined", "eer_same_gender"):
            assert summary[f"test/{cell}/{rate}"] == pytest.approx(results[cell][rate])
    assert {"train/loss", "val/eer", "test/heard/clusters/voice_gender_purity"} <= set(summary)
    assert {f"pictures/{name}" for name in ("det", "clusters", "map")} <= set(summary)
    assert summary["tables/heard"]["_type"] == "table-file"


def test_the_config_is_whole_and_knows_the_code(offline: Path) -> None:
    config = inspect(only_run(offline))["config"]
    assert config["model"]["class_path"].endswith("SCC")
    assert config["data"]["init_args"]["identities"] == 16
    saved = json.loads((offline / "environment.json").read_text())
    assert config["environment"]["git"] == saved["git"]


def test_histories_are_there_and_the_group(offline: Path) -> None:
    records = inspect(only_run(offline), summary=False)
    histories = [json.dumps(record) for record in records if record["type"] == "history"]
    for name, least in (("train/loss", 4), ("val/eer", 2)):
        assert sum(name in text for text in histories) >= least
    (run,) = (record["run"] for record in records if record["type"] == "run")
    assert run["run_group"] == "sweep-one"
    assert run["run_id"] == (offline / "wandb_id").read_text()


def test_a_resumed_run_is_the_same_run(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(offline.parent))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    before = (offline / "wandb_id").read_text()
    again = ["--no-test", f"--ckpt_path={offline}/checkpoints/last.ckpt", "--trainer.max_epochs=3"]
    command = ["fit", "--config", str(TINY), "--logger=logger/wandb.yaml", f"--run_dir={offline}", *again]
    assert main(command) == 0
    runs = list((offline / "wandb").glob("offline-run-*"))
    assert all(folder.name.endswith(before) for folder in runs)


def test_tables_are_capped_and_say_of_how_many(tmp_path: Path) -> None:
    import wandb

    run_dir = save_tested(tmp_path / "run", "English", "HeadPair", 0)
    scores = pd.read_parquet(run_dir / "scores.parquet")
    pd.concat([scores] * 5, ignore_index=True).to_parquet(run_dir / "scores.parquet")
    with wandb.init(mode="offline", dir=str(tmp_path), settings=wandb.Settings(silent=True)) as run:
        log_tables(run, run_dir)
    summary = inspect(only_run(tmp_path))["summary"]
    assert summary["tables/heard/trials"] == 1500
    assert summary["tables/heard"]["nrows"] == MOST_ROWS


def test_tables_hold_no_formulas_and_obey_no_name(tmp_path: Path) -> None:
    run_dir = save_tested(tmp_path / "run", "English", "HeadPair", 0)
    scores = pd.read_parquet(run_dir / "scores.parquet")
    scores["voice"] = "=cmd()\x1b[2J"
    scores.loc[scores["cell"] == "heard", "cell"] = "he\x07ard"
    scores.to_parquet(run_dir / "scores.parquet")
    logged: dict[str, Any] = {}
    log_tables(SimpleNamespace(log=logged.update), run_dir)
    assert {"tables/he\\x07ard", "tables/unheard"} <= set(logged)
    assert set(logged["tables/unheard"].get_column("voice")) == {"'=cmd()\\x1b[2J"}


def test_scores_and_report_become_artifacts(tmp_path: Path) -> None:
    import wandb

    run_dir = save_tested(tmp_path / "run", "English", "HeadPair", 0)
    with wandb.init(mode="offline", dir=str(tmp_path), settings=wandb.Settings(silent=True)) as run:
        log_artifacts(run, run_dir, lambda: build_report([run_dir], "html")[0])
    records = [json.dumps(record) for record in inspect(only_run(tmp_path), summary=False)]
    for name in (f"scores-{run.id}", f"report-{run.id}", "scores.parquet", "report.html"):
        assert any(name in text for text in records), name


def test_git_state_counts_what_is_not_committed(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    clean = git_state(tmp_path)
    assert clean is not None
    assert (len(clean["commit"]), clean["dirty"], clean["diff_lines"], clean["untracked"]) == (40, False, 0, 0)
    (tmp_path / "a.txt").write_text("one\nthree\nfour\n")
    (tmp_path / "b.txt").write_text("new")
    dirty = git_state(tmp_path)
    assert dirty == clean | {"dirty": True, "diff_lines": 3, "untracked": 1}
    (tmp_path / "inside").mkdir()
    assert git_state(tmp_path / "inside") is None
