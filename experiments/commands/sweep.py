"""``sweep``: many fits of one YAML file in W&B's sweep format, on a cluster or here; run again, it goes on."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from datamodules.schema import DataError
from experiments.config.files import find_config
from experiments.console.tables import table_console
from experiments.runs.files import write_json
from experiments.runs.fits import Fit, run_fits
from experiments.sweep.launch import JOB, agent_command, agent_sweep, queue, run_agents, submit
from experiments.sweep.trials import Sweep, Trial, as_text

LAUNCHERS = {
    "local": "processes of this machine",
    "slurm": "a SLURM array",
    "debug": "one after the other in this process, output on the terminal, up to the first that fails",
    "wandb": "W&B agents in processes of this machine; W&B chooses the trials",
}


def fit_of(trial: Trial, out: Path) -> Fit:
    """A trial's fit, in a folder named by its id. It goes on from the checkpoint that an earlier start left."""
    folder = out / trial.id
    fixed = ["--trainer.enable_progress_bar=false", "--resume=auto", f"--run_dir={folder}"]
    return Fit(folder, ("fit", *trial.arguments, *fixed))


def states_of(trials: list[Trial], out: Path) -> dict[str, str]:
    """By trial id: finished, running, queued (submitted), failed, killed (started and gone), or new."""
    fits = {trial.id: fit_of(trial, out) for trial in trials}
    jobs = queue() if any((fit.folder / JOB).exists() for fit in fits.values()) else {}
    return {name: _state(fit, jobs) for name, fit in fits.items()}


def _state(fit: Fit, jobs: dict[str, str]) -> str:
    if fit.results() is not None:
        return "finished"
    submitted = fit.folder / JOB
    job = jobs.get(json.loads(submitted.read_text())["job"]) if submitted.exists() else None
    if job is not None:
        return "queued" if job == "PENDING" else "running"
    noted = fit.state()
    if not noted:
        return "killed" if submitted.exists() else "new"
    state: str = noted["state"]
    if state != "running":
        return "failed" if state == "finished" else state  # it ended well and left no results
    return "running" if is_here(noted) else "killed"


def is_here(noted: dict[str, Any]) -> bool:
    """Whether the process that noted this is alive on this machine."""
    try:
        with open(f"/proc/{noted['pid']}/cmdline", "rb") as file:
            return noted["host"] == os.uname().nodename and b"python" in file.read()
    except OSError:
        return False


def sweep_table(trials: list[Trial], states: dict[str, str], out: Path) -> Table:
    """A row per trial: its state, the values in which trials differ, its EERs in percent."""
    columns = list(dict.fromkeys(key for trial in trials for key in trial.overrides))
    shown = [key for key in columns if len({as_text(t.overrides.get(key, "")) for t in trials}) > 1]
    table = Table(caption="overall EER in % on the main lists; a sweep chooses nothing by it")
    for column in ("trial", "state", *shown, "raw", "refined"):
        table.add_column(column, no_wrap=column == "trial")
    for trial in trials:
        overall = (fit_of(trial, out).results() or {}).get("overall", {})
        rates = (overall.get(key) for key in ("eer", "eer_refined"))
        values = [as_text(trial.overrides.get(key, "")) for key in shown]
        table.add_row(trial.id, states[trial.id], *values, *("-" if r is None else f"{100 * r:.1f}" for r in rates))
    return table


def run_sweep(trials: list[Trial], out: Path, launcher: str, parallel: int, settings: Path) -> None:
    """Launches the trials that are not finished, running or queued.

    Raises:
        DataError: some failed; what has finished is kept, the same command goes on with the rest.
    """
    states = states_of(trials, out)
    todo = [fit_of(trial, out) for trial in trials if states[trial.id] not in ("finished", "running", "queued")]
    print(f"sweep: {_counts(states)}; {len(todo)} to run by {launcher}, in {out}", flush=True)
    if launcher == "slurm" and todo:
        ids = submit(todo, out, settings)
        print(f"submitted: SLURM job {ids[0].partition('_')[0]}, {len(ids)} trials; sweep --status shows them")
    elif launcher == "debug":
        for fit in todo:
            fit.start()
            status = run_fit(fit.command[0], list(fit.command[1:]))
            if fit.end(status) is not None:
                raise DataError(f"{fit.folder}: exit status {status}")
    elif launcher == "local":
        run_fits(todo, run_fit, parallel, "trials")


def run_fit(command: str, argv: list[str]) -> int:
    """A fit in this process. Its imports take seconds, which ``sweep --help`` need not wait for."""
    from experiments.commands import fit

    return fit.main(command, argv)


def main(command: str, argv: list[str]) -> int:
    """``sweep --config sweeps/v1_table.yaml [--launcher L] [--parallel N] [--out DIR] [--dry_run] [--status]``."""
    parser = argparse.ArgumentParser(
        prog=f"experiments.run {command}", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", required=True, help="sweep file, e.g. sweeps/v1_table.yaml")
    launchers = "\n".join(f"{name}: {text}" for name, text in LAUNCHERS.items())
    parser.add_argument("--launcher", choices=LAUNCHERS, default="local", help=launchers)
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1, help="trials at a time on this machine")
    parser.add_argument("--out", help="folder of all its runs; default runs/NAME; run again to go on")
    parser.add_argument("--slurm", default="slurm/trial.yaml", help="what a trial asks of SLURM")
    parser.add_argument("--dry_run", action="store_true", help="say what would be run, and run nothing")
    parser.add_argument("--status", action="store_true", help="show the trials, and run nothing")
    arguments = parser.parse_args(argv)
    try:
        return _sweep(arguments)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


def _sweep(arguments: argparse.Namespace) -> int:
    path = find_config(arguments.config)
    sweep = Sweep.read(path)
    out = Path(arguments.out or Path("runs") / path.stem).resolve()
    settings = find_config(arguments.slurm)
    if sweep.method == "bayes" or arguments.launcher == "wandb":
        return _agents(sweep, out, arguments, settings)
    trials = sweep.trials()
    if arguments.dry_run:
        for trial in trials:
            print(shlex.join(["python", "-m", "experiments.run", *fit_of(trial, out).command]))
        return 0
    if not arguments.status:
        os.environ.setdefault("WANDB_RUN_GROUP", sweep.name)
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            write_json(out / "index.json", {"sweep": sweep.content, "trials": {t.id: t.overrides for t in trials}})
            run_sweep(trials, out, arguments.launcher, arguments.parallel, settings)
    states = states_of(trials, out)
    table_console().print(sweep_table(trials, states, out))
    print(f"{_counts(states)}; runs and index.json in {out}")
    return 0


def _agents(sweep: Sweep, out: Path, arguments: argparse.Namespace, settings: Path) -> int:
    if arguments.status:
        raise DataError("--status: W&B chooses these trials; their states are on its page of the sweep")
    if arguments.dry_run:
        print(yaml.safe_dump(agent_sweep(sweep), sort_keys=False), end="")
        count = sweep.run_cap or len(sweep.trials())
        print(f"# {count} times: {shlex.join(agent_command(sweep, 'SWEEP_ID'))}")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    run_agents(sweep, out, settings if arguments.launcher == "slurm" else None, arguments.parallel)
    return 0


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two launches of one sweep at once would start its trials twice."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{out}: another sweep command is launching its trials; --status shows them") from None
        yield


def _counts(states: dict[str, str]) -> str:
    counts = sorted(Counter(states.values()).items())
    return f"{len(states)} trials, " + ", ".join(f"{count} {state}" for state, count in counts)
