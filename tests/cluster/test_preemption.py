"""A 2-rank fit that SLURM preempts, on one node or two, goes on at its step and ends as one that nothing disturbed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from tests import REPOSITORY
from tests.cluster.conftest import Slurm, until
from tests.faults.processes import TINY, paced, step

TEMPLATE = REPOSITORY / "configs" / "slurm" / "fit.sbatch"
FIT = [
    *("--config", str(TINY), "--trainer.max_epochs=3", "--data.steps_per_epoch=8", "--model.network.dropout=0.5"),
    *("--trainer.enable_model_summary=false", "--logger=logger/wandb.yaml", *paced(0.3)),
]
"""3 epochs of 8 steps, slow enough to be caught."""


@pytest.fixture
def submit(slurm: Slurm, tmp_path: Path):
    """Submits the template for two ranks on the one CPU node; the job's id and its run folder."""

    def folders(job: str) -> list[Path]:
        return list((tmp_path / "runs" / "tiny").glob(f"slurm-{job}-*"))

    def submitted(nodes: int) -> tuple[str, Path]:
        request = ["--gpus-per-node=0", "--cpus-per-task=1", "--time=10", f"--ntasks-per-node={2 // nodes}"]
        request += ["--export=ALL,MASTER_ADDR=127.0.0.1"]  # the names of these nodes are no names of hosts
        request += [f"--nodes={nodes}", f"--partition={'main' if nodes == 1 else 'pair'}"]
        said = slurm("sbatch", "--parsable", *request, str(TEMPLATE), *FIT, cwd=tmp_path)
        job = said.strip()
        until(lambda: folders(job), f"the run folder of job {job}, see {tmp_path}")
        return job, folders(job)[0]

    return submitted


def ended(slurm: Slurm, job: str) -> bool:
    state = slurm.state(job)
    assert state in ("PENDING", "RUNNING", "COMPLETING", "COMPLETED"), state
    return state == "COMPLETED"


def test_the_template_asks_for_two_nodes_of_eight_gpus(slurm: Slurm, tmp_path: Path) -> None:
    arguments = ["--partition=gpu", str(TEMPLATE), "--config", "v1_eng.yaml"]
    said = slurm("sbatch", "--test-only", *arguments, cwd=tmp_path, both=True)
    assert "using 128 processors on nodes gpu[1-2] in partition gpu" in said
    with pytest.raises(AssertionError, match="Requested node configuration is not available"):
        slurm("sbatch", "--test-only", "--gpus-per-node=9", *arguments, cwd=tmp_path)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_preempted_fit_is_requeued_and_ends_as_the_undisturbed_one(
    slurm: Slurm, submit, nodes: int, tmp_path: Path
) -> None:
    job, run = submit(nodes)
    until(lambda: step(run)[0] >= 11, f"step 11 of job {job}, see {tmp_path}")
    slurm("scancel", "--signal=USR1", job)
    reference, undisturbed = submit(nodes)  # runs while the other waits in the queue
    for each in (job, reference):
        until(lambda each=each: ended(slurm, each), f"the end of job {each}, see {tmp_path}", 400)

    log = (tmp_path / f"slurm-{job}.log").read_text()
    (stopped,) = re.findall(r"stopped by SIGUSR1 at step (\d+)", log)
    assert 11 <= int(stopped) < 24
    assert f"resuming from {run}/checkpoints/last.ckpt" in log
    assert "Restarts=1" in slurm("scontrol", "show", "job", job)
    assert len(log.split("no checkpoint to resume from")) == 2

    assert all(json.loads((folder / "trained.json").read_text())["steps"] == 24 for folder in (run, undisturbed))
    results = [json.loads((folder / "results.json").read_text()) for folder in (run, undisturbed)]
    assert results[0] == results[1]
    found, expected = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (run, undisturbed))
    assert found["global_step"] == expected["global_step"]
    for name, weight in expected["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], weight)

    sessions = list((run / "wandb").glob("offline-run-*"))
    assert len(sessions) == 2  # before and after
    assert {folder.name.rpartition("-")[2] for folder in sessions} == {(run / "wandb_id").read_text()}
