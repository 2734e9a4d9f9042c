"""TensorBoard and MLflow beside CSV: offline, and all with the same names."""

from __future__ import annotations

import csv
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.run import main
from experiments.runs import trackers
from tests import TINY


def _fit(tracker: str, folder: Path) -> None:
    command = ["fit", "--config", str(TINY), f"--logger=logger/{tracker}.yaml", f"--run_dir={folder / tracker}"]
    assert main([*command, "--pictures=false"]) == 0


@pytest.mark.processes  # three fits, and imports of two large packages
def test_trackers_get_the_same_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing import event_accumulator  # takes seconds to import

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for tracker in ("csv", "tensorboard", "mlflow"):
        _fit(tracker, tmp_path)
    with next((tmp_path / "csv").rglob("metrics.csv")).open() as file:
        expected = {name for row in csv.DictReader(file) for name, value in row.items() if value} - {"step"}
    assert {"val/eer", "test/heard/eer", "test/overall/eer_refined"} <= expected
    board = set()
    for events in (tmp_path / "tensorboard/tensorboard").glob("events*"):
        read = event_accumulator.EventAccumulator(str(events)).Reload()
        board |= set(read.Tags()["scalars"])
    assert board == expected
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert {name for (name,) in store.execute("SELECT DISTINCT key FROM metrics")} == expected
        assert dict(store.execute("SELECT key, value FROM params"))["seed_everything"] == "0"


def test_a_missing_tracker_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    command = ["fit", "--config", str(TINY), "--logger=logger/mlflow.yaml", f"--run_dir={tmp_path / 'run'}"]
    assert main(command) == 2
    assert "mlflow is not installed: pip install 'voiceface[trackers]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_command_that_sends_an_offline_run_is_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = SimpleNamespace(dir="my runs/wandb/offline-run-1/files", offline=True, finish=lambda exit_code: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=run))
    trackers.finish_wandb(failed=False)
    assert "`wandb sync 'my runs/wandb/offline-run-1'` sends it" in capsys.readouterr().out
