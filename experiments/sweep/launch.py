"""Runs the points of a sweep as a SLURM array or by W&B agents."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from datamodules.io.documents import read_yaml
from datamodules.io.text import nearest, plain_file
from datamodules.io.writing import make_folder, write_json, write_text
from datamodules.schema import DataError, one_line
from experiments.runs.credentials import has_key
from experiments.runs.fits import Fit
from experiments.sweep.points import Sweep, choices

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

JOB = "job.json"
"""File in the folder of a point: the id of its SLURM job."""

PREEMPTION = "USR1"
"""Signal of SLURM's warning. All processes of a job receive it, so submitit and ``fit`` must expect the same one."""


@dataclass
class Job:
    """The job that submitit runs for one point: it starts a process. A requeued job resumes from its checkpoint.

    Attributes:
        command: command of the process.
        fit: the fit of the point; None for a W&B agent, which gets its point from W&B.
    """

    command: tuple[str, ...]
    fit: Fit | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __call__(self) -> None:
        """Runs the process until it ends.

        Raises:
            RuntimeError: the process failed, so that SLURM shows the job as failed.
        """
        if self.fit is None or os.environ.get("SLURM_PROCID", "0") != "0":  # only rank 0 writes the state
            self.process = subprocess.Popen(self.command)
            if status := self._wait():
                raise RuntimeError(f"{self.command[-1]}: exit status {status}")
            return
        self.fit.start()
        with plain_file(self.fit.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)
            status = self._wait()
        if (error := self.fit.end(status)) is not None:
            raise RuntimeError(error)

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit on SLURM's warning: waits until ``fit`` has saved a checkpoint, and requeues the job."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            self.process.terminate()
            self._wait()
        return DelayedSubmission(Job(self.command, self.fit))

    def _wait(self) -> int:
        assert self.process is not None
        while (
            self.process.poll() is None
        ):  # wait() in a signal handler could block on the lock of the interrupted wait()
            time.sleep(0.2)
        return self.process.returncode


def submit(fits: Sequence[Fit], folder: Path, settings: Path) -> list[str]:
    """Submits points as one SLURM array, and writes the job id into the ``job.json`` of each point.

    Args:
        fits: fits of the points.
        folder: folder of submitit's scripts and logs, on a file system that the nodes share.
        settings: YAML of submitit's parameters for SLURM.

    Returns:
        Job ids in the order of the fits.

    Raises:
        DataError: there is no SLURM on this machine, or it rejects the settings.
    """
    program = (sys.executable, "-m", "experiments.run")
    ids = _submit([Job((*program, *fit.command), fit) for fit in fits], folder, settings)
    for fit, job in zip(fits, ids, strict=True):
        make_folder(fit.folder)
        write_json(fit.folder / JOB, {"job": job})
    return ids


def queue() -> dict[str, str]:
    """State of the user's pending and running SLURM jobs by id (``12_0`` in an array); empty if there is no SLURM."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i|%T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return {}
    except subprocess.TimeoutExpired as error:
        raise DataError(
            "squeue did not answer within a minute, so the state of the points is unknown; try again later"
        ) from error
    if answer.returncode != 0:
        raise DataError(
            f"squeue: {' '.join(answer.stderr.split())}; the state of the points is unknown, try again later"
        )
    return dict(line.split("|") for line in answer.stdout.split())


def agent_sweep(sweep: Sweep) -> dict[str, Any]:
    """The sweep in W&B's format, with the command that an agent runs for each point.

    Raises:
        DataError: a value is a mapping, which W&B does not support.
    """
    for name, parameter in sweep.parameters.items():
        if any(isinstance(value, dict) for value in choices(parameter)):
            raise DataError(f"sweep {sweep.name}: parameters.{name}: W&B takes plain values, not mappings")
    command = ["${env}", "${interpreter}", "-m", "experiments.run", "fit", "${args}"]
    return {"project": "voiceface", "name": sweep.name, "command": command} | sweep.content


def run_agents(sweep: Sweep, folder: Path, settings: Path | None, parallel: int) -> None:
    """Gives a sweep to W&B, which chooses the points. Each agent runs one point and ends.

    Args:
        sweep: a sweep of any method.
        folder: its file ``wandb_sweep`` holds the sweep's id, so that another launch continues the same sweep.
        settings: SLURM settings (YAML) for an array of agents; None = processes on this machine.
        parallel: number of agents at a time on this machine.

    Raises:
        DataError: there is no key or no network, W&B rejects the sweep, or agents failed.
    """
    if not has_key() or os.environ.get("WANDB_MODE", "online") != "online":
        raise DataError("W&B agents need a key and the network: `wandb login` or WANDB_API_KEY, and no WANDB_MODE")
    import wandb

    id_file = folder / "wandb_sweep"
    if not id_file.exists():
        try:
            sweep_id = wandb.sweep(agent_sweep(sweep))
        except (wandb.Error, OSError, ValueError) as error:
            raise DataError(f"W&B rejects the sweep {sweep.name}: {one_line(error)}") from error
        write_text(id_file, sweep_id)
    command = agent_command(sweep, plain_file(id_file).read_text(encoding="utf-8"))
    count = sweep.run_cap or len(sweep.points())
    if settings is not None:
        _submit([Job(command) for _ in range(count)], folder, settings)
        return
    with ThreadPoolExecutor(parallel) as pool:
        statuses = list(pool.map(subprocess.call, [command] * count))
    if failed := sum(status != 0 for status in statuses):
        raise DataError(f"{failed} of {count} agents failed; see the page of the sweep on W&B")


def agent_command(sweep: Sweep, sweep_id: str) -> tuple[str, ...]:
    """Command of an agent that runs one point."""
    content = agent_sweep(sweep)
    where = [f"--{key}={content[key]}" for key in ("entity", "project") if key in content]
    return sys.executable, "-m", "wandb", "agent", "--count", "1", *where, sweep_id


def show_agents(sweep: Sweep) -> str:
    """What :func:`run_agents` would do: the sweep file of W&B, and the command of an agent."""
    count = sweep.run_cap or len(sweep.points())
    command = shlex.join(agent_command(sweep, "SWEEP_ID"))
    return f"{yaml.safe_dump(agent_sweep(sweep), sort_keys=False)}# {count} times: {command}"


def _submit(jobs: Sequence[Job], folder: Path, settings: Path) -> list[str]:
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = PREEMPTION  # read when submitit is imported in the job
    try:
        executor = _executor()(folder / "slurm")
        executor.update_parameters(job_name=folder.name, **slurm_settings(settings))
        return [job.job_id for job in executor.submit_array(jobs)]
    except RuntimeError as error:
        raise DataError(f"--launcher slurm: {one_line(error)}") from error


def _executor() -> Any:
    """Submitit's class, which then asks sbatch for :data:`PREEMPTION`."""
    from submitit import SlurmExecutor  # slow, and the state of a sweep needs it not
    from submitit.core.job_environment import JobEnvironment

    JobEnvironment.USR_SIG = PREEMPTION
    return SlurmExecutor


def slurm_settings(path: Path) -> dict[str, Any]:
    """Reads submitit's parameters from a YAML file.

    Raises:
        DataError: submitit has no such parameter.
    """
    content = read_yaml(path) or {}
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected submitit's parameters and their values")
    known = sorted(_executor()._valid_parameters())
    for key in content:
        if key not in known:
            raise DataError(f"{path}: {key}: submitit has no such parameter{nearest(key, known)}")
    return dict(content)
