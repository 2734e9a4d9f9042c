"""One run at a time in a run folder."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from datamodules.schema import DataError
from experiments.run import main
from experiments.runs.lock import locked
from tests.experiments.clips import CLIPS, FACE, PEOPLE, VOICE, make_clips
from tests.experiments.commands.test_split import make_features, people
from tests.faults.processes import SHORT, TINY, TWO_RANKS, finish, paced, start, step, wait_until

pytestmark = pytest.mark.processes


def test_a_second_run_in_the_folder_refuses_and_a_dead_ones_lock_is_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*SHORT, *TWO_RANKS, "--no-test", f"--run_dir={tmp_path}", "--resume=auto"]
    first = start(*command, *paced(0.5))
    wait_until(lambda: step(tmp_path)[0] >= 0, first)
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    owner = f"host {os.uname().nodename}, pid {first.pid}, job None"
    assert error == (
        f"error: run folder {tmp_path} is in use by another run: {owner}; wait for it or choose another --run_dir"
    )
    os.killpg(first.pid, signal.SIGKILL)
    finish(first)
    assert (tmp_path / "run.lock").exists()  # left behind
    assert (
        main(
            [
                "fit",
                "--config",
                str(TINY),
                "--no-test",
                f"--run_dir={tmp_path}",
                "--trainer.max_epochs=1",
                "--resume=auto",
            ]
        )
        == 0
    )
    assert not (tmp_path / "run.lock").exists()


@pytest.mark.parametrize(("job", "taken"), [("17", True), ("18", False), (None, False)])
def test_the_lock_of_another_host_is_taken_by_the_same_requeued_job_alone(
    job: str | None, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.lock").write_text(json.dumps({"host": "elsewhere", "pid": 3, "job": "17"}))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    if taken:
        with locked(tmp_path):
            assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
        assert not (tmp_path / "run.lock").exists()
    else:
        message = f"host elsewhere, pid 3, job 17; if that run is dead, remove {tmp_path}/run.lock"
        with pytest.raises(DataError, match=message), locked(tmp_path):
            pass
        assert (tmp_path / "run.lock").exists()


def test_two_hosts_without_a_job_do_not_take_each_other_for_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.lock").write_text(json.dumps({"host": "elsewhere", "pid": 3, "job": None}))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(DataError, match="elsewhere"), locked(tmp_path):
        pass


def test_of_two_splits_at_once_one_wins_and_the_other_is_one_line(tmp_path: Path) -> None:
    data = make_features(tmp_path / "data", people(40, "English", "Urdu"), clips=30)
    one_wins(["split", str(data), "--test", "6", "--folds", "6", "--val", "2"], data)
    assert len(json.loads((data / "folds.json").read_text())) == 6


def test_of_two_embeds_at_once_one_wins_and_the_other_is_one_line(tmp_path: Path) -> None:
    manifest, out = make_clips(tmp_path / "clips"), tmp_path / "out"
    slow = "--voice.init_args.log=" + str(tmp_path / "log"), "--voice.init_args.seconds=0.5"
    one_wins(["embed", f"--manifest={manifest}", VOICE, FACE, *slow, f"--out={out}", "--batch_size=3"], out)
    assert len(np.load(out / "voices.npy")) == PEOPLE * CLIPS == len((tmp_path / "log").read_text().splitlines())


def one_wins(command: list[str], folder: Path) -> None:
    """Two processes of a command begin together: one ends well, the other in a line that names the folder."""
    ends = [finish(process) for process in [start(*command), start(*command)]]
    (won, output), (lost, refusal) = sorted(ends)
    assert (won, lost) == (0, 2), ends
    errors = [line for line in refusal.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: {folder}: another command is at work in it; wait for it"]
    assert "Traceback" not in output + refusal
