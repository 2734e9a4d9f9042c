"""A `fit` that is told to stop leaves its step behind and, resumed, ends as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from experiments.runs.checkpoints import read_checkpoint
from tests.faults.processes import SHORT, TWO_RANKS, finish, losses, paced, run, start, step, wait_until

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    status, output = run(*SHORT, f"--run_dir={folder}")
    assert status == 0, output
    return folder


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_the_step_and_the_resumed_run_ends_as_the_uninterrupted_one(
    number: signal.Signals, status: int, uninterrupted: Path, tmp_path: Path
) -> None:
    command = [*SHORT, *paced(0.1), f"--run_dir={tmp_path}", "--resume=auto"]
    process = start(*command)
    wait_until(lambda: step(tmp_path)[0] >= 11, process)  # inside the second epoch
    process.send_signal(number)
    returned, output = finish(process)
    assert returned == status, output
    assert f"stopped by {number.name} at step" in output
    assert "Traceback" not in output
    stopped_at = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"]
    assert 11 <= stopped_at < 16
    assert not (tmp_path / "results.json").exists()
    assert not (tmp_path / "run.lock").exists()

    returned, output = run(*command)
    assert returned == 0, output
    assert f"resuming from {tmp_path}/checkpoints/last.ckpt" in output
    expected, found = losses(uninterrupted), losses(tmp_path)
    assert set(found) == set(expected) == set(range(24))
    assert found == pytest.approx(expected, rel=1e-6)
    results = [json.loads((folder / "results.json").read_text()) for folder in (uninterrupted, tmp_path)]
    assert results[0] == results[1]
    whole, stopped = (pd.read_csv(folder / "history.csv") for folder in (uninterrupted, tmp_path))
    # the second epoch is the one that was stopped: all its batches count
    assert stopped["train/loss"].tolist() == pytest.approx(whole["train/loss"].tolist(), rel=1e-5)
    assert 8 * 0.1 <= stopped["seconds"][1] < 60


def test_resume_auto_after_the_end_of_training_only_tests(uninterrupted: Path) -> None:
    before = (uninterrupted / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    (uninterrupted / "results.json").rename(uninterrupted / "first.json")
    status, output = run(*SHORT, f"--run_dir={uninterrupted}", "--resume=auto")
    assert status == 0, output
    assert "training ended at step 24" in output
    assert (uninterrupted / "results.json").read_text() == (uninterrupted / "first.json").read_text()
    assert (uninterrupted / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_a_signal_while_the_results_are_computed_does_not_wait_for_them(tmp_path: Path) -> None:
    command = [*SHORT, "--trainer.max_epochs=1", f"--run_dir={tmp_path}", "--resume=auto"]
    process = start(*command, "--trainer.callbacks+=tests.faults.processes.Dawdle")
    wait_until((tmp_path / "testing").exists, process)
    process.send_signal(signal.SIGTERM)
    returned, output = finish(process, timeout=60)
    assert returned == 143, output
    assert "stopped by SIGTERM outside of training" in output
    assert "Traceback" not in output
    assert not (tmp_path / "results.json").exists()
    returned, output = run(*command)
    assert returned == 0, output
    assert "training ended at step 8" in output
    assert (tmp_path / "results.json").exists()


def test_a_signal_to_one_of_two_ranks_stops_both_at_the_same_step(tmp_path: Path) -> None:
    command = [*SHORT, *TWO_RANKS, f"--run_dir={tmp_path}", "--resume=auto"]
    process = start(*command, *paced(0.1))
    wait_until(lambda: step(tmp_path)[0] >= 11 and step(tmp_path, rank=1)[0] >= 11, process)
    os.kill(step(tmp_path, rank=1)[1], signal.SIGTERM)
    returned, output = finish(process)
    assert returned == 143, output
    assert 11 <= read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] < 16
    returned, output = run(*command)
    assert returned == 0, output
    reference = tmp_path / "reference"
    returned, output = run(*SHORT, *TWO_RANKS, f"--run_dir={reference}")
    assert returned == 0, output
    resumed = losses(tmp_path)
    assert {s: resumed[s] for s in range(24)} == pytest.approx(losses(reference), rel=1e-5)


def test_max_time_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    command = [*SHORT, *paced(0.5), f"--run_dir={tmp_path}", "--resume=auto", "--no-test"]
    status, output = run(*command, "--trainer.max_time=00:00:00:03")
    assert status == 0, output
    reached = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"]
    assert 0 < reached < 24
    status, output = run(*SHORT, f"--run_dir={tmp_path}", "--resume=auto", "--no-test")
    assert status == 0, output
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 24
