"""The sweeps of the papers' tables as SLURM arrays, their fits cut short."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import Slurm, until

SYNTHETIC = ("--data=data/demo.yaml", "--trainer=trainer/features.yaml")
TABLES = {
    "v1_table": (72, 3, ("--trainer.max_epochs=1",)),  # points, those to wait for, arguments
    "v2_table": (6, 6, (*SYNTHETIC, "--model=model/fop_linear.yaml", "--trainer.max_epochs=1")),
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_runs_as_an_array(table: str, slurm: Slurm, tmp_path: Path) -> None:
    count, waited, arguments = TABLES[table]
    if table == "v1_table" and not Path(os.environ.get("VOICEFACE_DATA", "data"), "mavceleb").is_dir():
        pytest.skip("no MAV-Celeb embeddings in $VOICEFACE_DATA")
    (tmp_path / "point.yaml").write_text("{time: 10, cpus_per_task: 1, signal_delay_s: 20}\n")
    out = tmp_path / "out"
    sweep = (
        sys.executable,
        "-m",
        "experiments.run",
        "sweep",
        f"--config=sweeps/{table}.yaml",
        f"--out={out}",
        *arguments,
    )
    said = slurm(*sweep, f"--slurm={tmp_path / 'point.yaml'}", "--launcher=slurm", cwd=tmp_path)
    assert f"{count} points" in said
    jobs = [json.loads(path.read_text())["job"] for path in out.glob("*/job.json")]
    assert len({job.partition("_")[0] for job in jobs}) == 1
    assert len(jobs) == count

    def finished() -> bool:
        states = [json.loads(path.read_text()) for path in out.glob("*/state.json")]
        assert not [state["error"] for state in states if state["state"] == "failed"]
        return sum(state["state"] == "finished" for state in states) >= waited

    try:
        until(finished, f"the end of {waited} points, see {out}", 900)
    finally:
        slurm("scancel", jobs[0].partition("_")[0])
    done = [json.loads(path.read_text()) for path in out.glob("*/results.json")]
    assert len(done) >= waited
    assert all(0 < results["overall"]["eer"] < 1 for results in done)
