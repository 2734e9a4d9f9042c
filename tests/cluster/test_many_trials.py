"""A sweep of 64 points as a SLURM array in which seven meet with mishaps; called again, it ends complete."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from experiments.run import main
from experiments.sweep.points import Sweep
from tests.cluster import mishaps
from tests.cluster.conftest import Slurm, until
from tests.cluster.warm_job import write_python
from tests.faults.processes import TINY

POINTS, NEVER_STARTED = 64, 63
FIXED = {
    **{"trainer.max_epochs": 1, "data.steps_per_epoch": 4, "logger": None},
    **{"trainer.enable_model_summary": False, "trainer.callbacks+": "tests.cluster.mishaps.Mishaps"},
}


class Launch:
    """The sweep and its command line, in this process."""

    def __init__(self, slurm: Slurm, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.slurm, self.folder, self.capsys = slurm, folder, capsys
        self.out, self.starts = folder / "out", folder / "starts"
        self.starts.mkdir()
        config = yaml.safe_load(TINY.read_text())
        del config["postproc"]  # takes longer than all the rest
        (folder / "tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        fixed = {"config": str(folder / "tiny.yaml"), **FIXED, "trainer.callbacks.folder": str(self.starts)}
        parameters = {name: {"value": value} for name, value in fixed.items()}
        content = {"method": "grid", "parameters": parameters | {"seed_everything": {"values": list(range(POINTS))}}}
        (folder / "many.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        (folder / "point.yaml").write_text("{time: 10, cpus_per_task: 1, signal_delay_s: 20}\n")
        self.runs = [self.out / point.id for point in Sweep.read(folder / "many.yaml").points()]

    def __call__(self, option: str) -> str:
        files = [f"--config={self.folder / 'many.yaml'}", f"--slurm={self.folder / 'point.yaml'}"]
        assert main(["sweep", *files, f"--out={self.out}", option]) == 0
        return self.capsys.readouterr().out

    def counts(self) -> dict[str, int]:
        """Points by state, as ``--status`` says."""
        (said,) = re.findall(rf"^{POINTS} points, (.*); runs", self("--status"), re.MULTILINE)
        return {state: int(count) for count, state in (part.split() for part in said.split(", "))}

    def wait(self) -> None:
        """Until all jobs have ended."""
        until(lambda: not self.slurm("squeue", "--noheader").strip(), f"the end of the array, see {self.out}", 900)

    def results(self) -> dict[int, tuple[str, int]]:
        """The results of the seeds that have some, and when they were written."""
        files = {seed: run / "results.json" for seed, run in enumerate(self.runs)}
        return {seed: (f.read_text(), f.stat().st_mtime_ns) for seed, f in files.items() if f.exists()}


@pytest.fixture
def sweep(slurm: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Launch:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    write_python(tmp_path / "python")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return Launch(slurm, tmp_path, capsys)


@pytest.mark.timeout(2400)
def test_a_sweep_of_64_points_ends_complete_after_seven_mishaps(sweep: Launch) -> None:
    assert sweep.counts() == {"new": POINTS}
    assert f"{POINTS} new; {POINTS} to run by slurm" in sweep("--launcher=slurm")
    sweep.slurm("scancel", json.loads((sweep.runs[NEVER_STARTED] / "job.json").read_text())["job"])
    counts = sweep.counts()
    assert sum(counts.values()) == POINTS
    assert counts["queued"] > POINTS // 2
    assert counts["killed"] == 1
    until(lambda: len(sweep.results()) >= 8, f"the end of 8 points, see {sweep.out}", 400)
    assert sweep.counts()["finished"] >= 8
    sweep.wait()

    failed, killed = mishaps.CRASHED, (*mishaps.KILLED, *mishaps.CANCELLED, *mishaps.OUT_OF_MEMORY, NEVER_STARTED)
    left = len(failed) + len(killed)
    assert sweep.counts() == {"failed": len(failed), "killed": len(killed), "finished": POINTS - left}
    before = sweep.results()
    assert set(range(POINTS)) - set(before) == {*failed, *killed}

    assert f"{left} to run by slurm" in sweep("--launcher=slurm")
    sweep.wait()
    assert sweep.counts() == {"finished": POINTS}
    after = sweep.results()
    assert {seed: after[seed] for seed in before} == before
    assert len({content for content, _ in after.values()}) > POINTS // 2  # of their own seeds
    again = {*failed, *killed, *mishaps.PREEMPTED} - {NEVER_STARTED}
    starts = {seed: len((sweep.starts / str(seed)).read_text().split()) for seed in range(POINTS)}
    assert starts == {seed: 2 if seed in again else 1 for seed in range(POINTS)}
    assert "resuming from" in (sweep.runs[mishaps.PREEMPTED[0]] / "log.txt").read_text()
    assert "0 to run" in sweep("--launcher=slurm")
