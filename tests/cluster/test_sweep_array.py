"""A sweep as a SLURM array: three points, one of them cancelled and launched again, one preempted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from experiments.sweep.points import Sweep
from tests.cluster.conftest import Slurm, until
from tests.faults.processes import TINY, step

PACE = {
    "trainer.callbacks+": {"value": "tests.faults.processes.Pace"},
    "trainer.callbacks.seconds": {"value": 0.5},
    "trainer.callbacks.rank": {"value": None},
}


class Launch:
    """One sweep of three seeds and its command line."""

    def __init__(self, slurm: Slurm, folder: Path) -> None:
        self.slurm, self.folder, self.out = slurm, folder, folder / "out"
        fixed = {"config": str(TINY), "trainer.max_epochs": 2, "data.steps_per_epoch": 10, "logger": None}
        parameters = {name: {"value": value} for name, value in fixed.items()} | PACE
        content = {"method": "grid", "parameters": parameters | {"seed_everything": {"values": [0, 1, 2]}}}
        (folder / "three.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        (folder / "point.yaml").write_text("{time: 10, cpus_per_task: 1, signal_delay_s: 20}\n")
        self.runs = [self.out / point.id for point in Sweep.read(folder / "three.yaml").points()]

    def __call__(self, *options: str) -> str:
        command = [sys.executable, "-m", "experiments.run", "sweep", f"--config={self.folder / 'three.yaml'}"]
        return self.slurm(*command, f"--out={self.out}", f"--slurm={self.folder / 'point.yaml'}", *options)

    def job(self, run: Path) -> str:
        return json.loads((run / "job.json").read_text())["job"]

    def starts(self) -> list[float]:
        return [json.loads((run / "state.json").read_text())["started"] for run in self.runs]

    def idle(self) -> bool:
        return not self.slurm("squeue", "--noheader").strip()


@pytest.mark.timeout(1200)
def test_cancelled_and_preempted_points_of_an_array_end_after_all(slurm: Slurm, tmp_path: Path) -> None:
    sweep = Launch(slurm, tmp_path)
    said = sweep("--launcher=slurm")
    assert "3 to run by slurm" in said
    assert "3 points" in said
    preempted, cancelled, undisturbed = sweep.runs
    until(lambda: step(preempted)[0] >= 3, f"step 3 of {preempted}")
    slurm("scancel", "--signal=USR1", sweep.job(preempted))
    until(lambda: step(cancelled)[0] >= 3, f"step 3 of {cancelled}")
    slurm("scancel", sweep.job(cancelled))
    until(sweep.idle, f"the end of the array, see {sweep.out}", 500)

    assert "1 killed" in sweep("--status")
    assert "resuming from" in (preempted / "log.txt").read_text()
    for run in (preempted, undisturbed):
        assert json.loads((run / "state.json").read_text())["state"] == "finished"
        assert (run / "results.json").exists()
    before = sweep.starts()

    assert "1 to run by slurm" in sweep("--launcher=slurm")
    until(sweep.idle, f"the end of the second launch, see {sweep.out}", 400)
    after = sweep.starts()
    assert [before[i] == after[i] for i in range(3)] == [True, False, True]
    assert "3 points, 3 finished" in sweep("--status")
    assert "0 to run" in sweep("--launcher=slurm")
    assert sweep.idle()
