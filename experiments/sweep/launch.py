"""Runs a sweep's points: in processes here, as a SLURM array, or by W&B agents."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from submitit.helpers import DelayedSubmission

from datamodules.io.text import nearest
from datamodules.schema import DataError
from experiments.runs.credentials import has_key
from experiments.runs.fits import Fit
from experiments.sweep.points import Sweep, choices

JOB = "job.json"
"""In a point's folder: the SLURM job it was submitted as."""

PREEMPTION = "USR1"
"""SLURM sends its warning to all processes of a job: submitit's and ``fit``'s must be the same signal."""


@dataclass
class Job:
    """What submitit runs for one point: a process of its own, whose checkpoint the next start of the job goes on from.

    Attributes:
        command: of the process.
        fit: the point; None for a W&B agent, whose point only W&B knows.
    """

    command: tuple[str, ...]
    fit: Fit | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __call__(self) -> None:
        """Runs the process to its end.

        Raises:
            RuntimeError: it failed; SLURM shows the job as failed.
        """
        if self.fit is None or os.environ.get("SLURM_PROCID", "0") != "0":  # of several ranks the first keeps the notes
            self.process = subprocess.Popen(self.command)
            if status := self._wait():
                raise RuntimeError(f"{self.command[-1]}: exit status {status}")
            return
        self.fit.start()
        with (self.fit.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)
            status = self._wait()
        if (error := self.fit.end(status)) is not None:
            raise RuntimeError(error)

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit on the warning: waits for ``fit`` to save where it is, and asks for another start."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            self.process.terminate()
            self._wait()
        return DelayedSubmission(Job(self.command, self.fit))

    def _wait(self) -> int:
        assert self.process is not None
        while self.process.poll() is None:  # not wait(): in a signal's handler it would wait for the lock of another
            time.sleep(0.2)
        return self.process.returncode


def submit(fits: Sequence[Fit], folder: Path, settings: Path) -> list[str]:
    """Submits points as one SLURM array; ``job.json`` of each point's folder names its job.

    Args:
        fits: the points.
        folder: for submitit's scripts and logs; seen from the nodes.
        settings: YAML of submitit's parameters for SLURM.

    Returns:
        Job ids, in order.

    Raises:
        DataError: no SLURM here, or it refuses the settings.
    """
    program = (sys.executable, "-m", "experiments.run")
    ids = _submit([Job((*program, *fit.command), fit) for fit in fits], folder, settings)
    for fit, job in zip(fits, ids, strict=True):
        fit.folder.mkdir(parents=True, exist_ok=True)
        (fit.folder / JOB).write_text(json.dumps({"job": job}))
    return ids


def queue() -> dict[str, str]:
    """State of my jobs that SLURM has not done with, by id (``12_0`` in an array); empty where there is no SLURM."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i|%T"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return {}
    except subprocess.TimeoutExpired as error:
        raise DataError("squeue: no answer within a minute; which points run is unknown, try again later") from error
    if said.returncode != 0:
        raise DataError(f"squeue: {' '.join(said.stderr.split())}; which points run is unknown, try again later")
    return dict(line.split("|") for line in said.stdout.split())


def agent_sweep(sweep: Sweep) -> dict[str, Any]:
    """What W&B is given: the file, with the command that an agent runs for each point.

    Raises:
        DataError: a mapping as a value, which is ours alone.
    """
    for name, parameter in sweep.parameters.items():
        if any(isinstance(value, dict) for value in choices(parameter)):
            raise DataError(f"sweep {sweep.name}: parameters.{name}: W&B takes plain values, not several keys at once")
    command = ["${env}", "${interpreter}", "-m", "experiments.run", "fit", "${args}"]
    return {"project": "voiceface", "name": sweep.name, "command": command} | sweep.content


def run_agents(sweep: Sweep, folder: Path, settings: Path | None, parallel: int) -> None:
    """Hands a sweep to W&B, which chooses the points; each agent runs one and ends.

    Args:
        sweep: any method.
        folder: ``wandb_sweep`` in it keeps the sweep's id, so that a relaunch goes on with it.
        settings: YAML for SLURM: an array of agents; None: processes here.
        parallel: agents at once, here.

    Raises:
        DataError: no key or no network.
    """
    if not has_key() or os.environ.get("WANDB_MODE", "online") != "online":
        raise DataError("W&B agents need a key and the network: `wandb login` or WANDB_API_KEY, and no WANDB_MODE")
    import wandb

    known = folder / "wandb_sweep"
    if not known.exists():
        try:
            known.write_text(wandb.sweep(agent_sweep(sweep)), encoding="utf-8")
        except (wandb.Error, OSError, ValueError) as error:
            raise DataError(f"W&B refuses the sweep {sweep.name}: {' '.join(str(error).split())}") from error
    command = agent_command(sweep, known.read_text(encoding="utf-8"))
    count = sweep.run_cap or len(sweep.points())
    if settings is not None:
        _submit([Job(command) for _ in range(count)], folder, settings)
        return
    with ThreadPoolExecutor(parallel) as pool:
        statuses = list(pool.map(subprocess.call, [command] * count))
    if failed := sum(status != 0 for status in statuses):
        raise DataError(f"{failed} of {count} agents failed; W&B's page of the sweep says why")


def agent_command(sweep: Sweep, sweep_id: str) -> tuple[str, ...]:
    """One agent, one point."""
    content = agent_sweep(sweep)
    where = [f"--{key}={content[key]}" for key in ("entity", "project") if key in content]
    return sys.executable, "-m", "wandb", "agent", "--count", "1", *where, sweep_id


def show_agents(sweep: Sweep) -> str:
    """What :func:`run_agents` would do: the sweep file of W&B, and the command of an agent."""
    count = sweep.run_cap or len(sweep.points())
    command = shlex.join(agent_command(sweep, "SWEEP_ID"))
    return f"{yaml.safe_dump(agent_sweep(sweep), sort_keys=False)}# {count} times: {command}"


def _submit(jobs: Sequence[Job], folder: Path, settings: Path) -> list[str]:
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = PREEMPTION  # read when submitit is imported, and again in the job
    from submitit import SlurmExecutor

    try:
        executor = SlurmExecutor(folder / "slurm")
        executor.update_parameters(job_name=folder.name, **slurm_settings(settings))
        return [job.job_id for job in executor.submit_array(jobs)]
    except RuntimeError as error:
        raise DataError(f"--launcher slurm: {' '.join(str(error).split())}") from error


def slurm_settings(path: Path) -> dict[str, Any]:
    """Submitit's parameters in a YAML file.

    Raises:
        DataError: one that submitit does not know.
    """
    from submitit.slurm.slurm import SlurmExecutor

    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    known = sorted(SlurmExecutor._valid_parameters())
    for key in content:
        if key not in known:
            raise DataError(f"{path}: {key}: submitit has no such parameter{nearest(key, known)}")
    return dict(content)
