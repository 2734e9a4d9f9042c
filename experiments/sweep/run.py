"""Launches the points of a sweep that are not done yet, and shows their states and results."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.io.documents import damaged, read_mapping
from datamodules.schema import DataError
from experiments.console.errors import exit_status
from experiments.console.tables import NameTable, percent
from experiments.runs.fits import Check, Fit, Main, check_fits, run_fits
from experiments.runs.folder import refuse_run
from experiments.sweep.launch import JOB, queue, submit
from experiments.sweep.points import Point, as_text


def fit_of(point: Point, out: Path) -> Fit:
    """The fit of a point, in a folder named by the point's id. It resumes from the checkpoint of an earlier start."""
    folder = out / point.id
    fixed = ["--trainer.enable_progress_bar=false", "--resume=auto", f"--run_dir={folder}"]
    return Fit(folder, ("fit", *point.arguments, *fixed))


@dataclass(frozen=True)
class Status:
    """What became of a point.

    Attributes:
        state: finished, running, queued (in SLURM), failed, killed (its process is gone), or new.
        overall: the record of all test conditions together; empty until it is finished.
    """

    state: str
    overall: dict[str, Any] = field(default_factory=dict)


def statuses_of(points: list[Point], out: Path) -> dict[str, Status]:
    """Status by point id."""
    fits = {point.id: fit_of(point, out) for point in points}
    statuses = {name: _status(fit, {}) for name, fit in fits.items()}
    left = [name for name, status in statuses.items() if status.state != "finished"]
    if any((fits[name].folder / JOB).exists() for name in left):
        jobs = queue()
        statuses |= {name: _status(fits[name], jobs) for name in left}  # again: what has left the queue has ended
    return statuses


def _status(fit: Fit, jobs: dict[str, str]) -> Status:
    with damaged(str(fit.folder), "delete it, and the same command makes it again"):
        results = fit.results()
        return Status(_state(fit, jobs)) if results is None else Status("finished", results.get("overall", {}))


def _state(fit: Fit, jobs: dict[str, str]) -> str:
    submitted = fit.folder / JOB
    job = jobs.get(read_mapping(submitted)["job"]) if submitted.exists() else None
    if job is not None:
        return "queued" if job == "PENDING" else "running"
    noted = fit.state()
    if not noted:
        return "killed" if submitted.exists() else "new"
    state: str = noted["state"]
    if state != "running":
        return "failed" if state == "finished" else state  # it ended with status 0 but left no results
    return "running" if is_here(noted) else "killed"


def is_here(noted: dict[str, Any]) -> bool:
    """Whether the process that wrote this state is alive on this machine."""
    try:
        command = Path(f"/proc/{noted['pid']}/cmdline").read_bytes()
    except OSError:
        return False
    return noted["host"] == os.uname().nodename and b"python" in command


def sweep_table(points: list[Point], statuses: dict[str, Status]) -> NameTable:
    """A row per point: its state, the settings in which points differ, its EERs in percent."""
    columns = list(dict.fromkeys(key for point in points for key in point.overrides))
    shown = [key for key in columns if len({as_text(point.overrides.get(key, "")) for point in points}) > 1]
    table = NameTable(caption="Overall EER in % on the main trial lists. A sweep does not choose by test results.")
    for column in ("point", "state", *shown, "raw", "refined"):
        table.add_column(column, no_wrap=column == "point")
    for point in points:
        status = statuses[point.id]
        values = [as_text(point.overrides.get(key, "")) for key in shown]
        rates = [percent(status.overall.get(key)) for key in ("eer", "eer_refined")]
        table.add_row(point.id, status.state, *values, *rates)
    return table


def unfinished(points: list[Point], out: Path) -> list[Fit]:
    """Fits of the points that are not finished, running or queued."""
    return _unfinished(points, statuses_of(points, out), out)


def _unfinished(points: list[Point], statuses: dict[str, Status], out: Path) -> list[Fit]:
    done = ("finished", "running", "queued")
    return [fit_of(point, out) for point in points if statuses[point.id].state not in done]


def check_sweep(points: list[Point], out: Path, check: Check) -> None:
    """Refuses a folder that holds something else, and wrong arguments, before the first point starts.

    Args:
        points: the points of the sweep.
        out: folder of all runs.
        check: reads the arguments of a ``fit``.

    Raises:
        DataError: there are such.
    """
    refuse_run(out)
    if (out / "protocol.json").exists():
        raise DataError(f"--out {out}: holds a protocol; choose another folder")
    check_fits(unfinished(points, out), check)


def run_sweep(points: list[Point], main: Main, out: Path, launcher: str, parallel: int, settings: Path) -> None:
    """Launches the points that are not finished, running or queued.

    Args:
        points: the points of the sweep.
        main: runs a ``fit``: takes the command and its arguments, returns an exit status.
        out: folder of all runs.
        launcher: ``local``, ``slurm`` or ``debug``.
        parallel: number of processes of ``local``.
        settings: YAML of submitit's parameters for ``slurm``.

    Raises:
        DataError: some failed. Finished ones are kept, and the same command runs the rest.
    """
    statuses = statuses_of(points, out)
    todo = _unfinished(points, statuses, out)
    print(f"sweep: {counts_of(statuses)}; {len(todo)} to run by {launcher}, in {out}", flush=True)
    if launcher == "slurm" and todo:
        ids = submit(todo, out, settings)
        print(f"submitted: SLURM job {ids[0].partition('_')[0]}, {len(ids)} points; sweep --status shows them")
    elif launcher == "debug":
        for fit in todo:
            fit.start()
            status = exit_status(partial(main, fit.command[0], list(fit.command[1:])))
            if fit.end(status) is not None:
                raise DataError(f"{fit.folder}: exit status {status}")
    elif launcher == "local":
        run_fits(todo, main, parallel, "points")


def counts_of(statuses: dict[str, Status]) -> str:
    """``3 points, 1 failed, 2 finished``."""
    counts = sorted(Counter(status.state for status in statuses.values()).items())
    return f"{len(statuses)} points, " + ", ".join(f"{count} {state}" for state, count in counts)
