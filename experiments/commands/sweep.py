"""``sweep``: many fits from one YAML file in W&B's sweep format, on this machine or a SLURM cluster.

The same command continues an interrupted sweep: finished points are not run again. Further arguments go to every point,
e.g. ``--data.voices='[other.npz]'``; points with other arguments are other points.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from datamodules.schema import DataError
from experiments.console.arguments import CommandParser, command_line

LAUNCHERS = {
    "local": "processes on this machine",
    "slurm": "a SLURM array",
    "debug": "one after the other in this process with output on the terminal, until one fails",
    "wandb": "W&B agents in processes on this machine; W&B chooses the points",
}


def run_fit(command: str, argv: list[str]) -> int:
    """A fit in this process."""
    # imports torch and Lightning, which --help of sweeps and protocols does not need
    from experiments.commands import fit

    return fit.main(command, argv)


def check_fit(command: str, argv: list[str]) -> None:
    """Reads the arguments of a fit, and refuses wrong ones."""
    # imports torch and Lightning, which --help of sweeps and protocols does not need
    from experiments.commands import fit

    fit.check_arguments(command, argv)


def main(command: str, argv: list[str]) -> int:
    """``sweep --config sweeps/v1_table.yaml [--launcher L] [--out DIR] [--dry_run] [--status] [--KEY=...]...``."""
    parser = CommandParser(command, __doc__)
    parser.add_argument("--config", required=True, help="sweep file, e.g. sweeps/v1_table.yaml")
    launchers = "\n".join(f"{name}: {text}" for name, text in LAUNCHERS.items())
    parser.add_argument("--launcher", choices=LAUNCHERS, default="local", help=launchers)
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1, help="number of processes on this machine")
    parser.add_argument("--out", help="folder of all its runs, default runs/NAME; the same folder continues them")
    parser.add_argument("--slurm", default="slurm/trial.yaml", help="SLURM settings of one point")
    parser.add_argument("--dry_run", action="store_true", help="print the commands without running them")
    parser.add_argument("--status", action="store_true", help="show the points without running them")
    arguments, more = parser.parse_known_args(argv)
    for argument in more:
        if not (argument.startswith("--") and "=" in argument):
            raise DataError(
                f"{argument}: neither an option of sweep nor an argument of all points such as --data.batch_size=64"
            )
    return _sweep(arguments, more)


def _sweep(options: argparse.Namespace, more: list[str]) -> int:
    # --help does not need these imports, which take a second
    from datamodules.io.writing import make_folder, write_json
    from experiments.config.files import find_config
    from experiments.console.tables import print_table
    from experiments.runs.lock import exclusive
    from experiments.sweep.launch import run_agents, show_agents
    from experiments.sweep.points import Sweep
    from experiments.sweep.run import check_sweep, counts_of, fit_of, run_sweep, statuses_of, sweep_table

    path = find_config(options.config)
    sweep = Sweep.read(path, more)
    out = Path(options.out or Path("runs") / path.stem).resolve()
    settings = find_config(options.slurm)
    if sweep.method == "bayes" or options.launcher == "wandb":
        if options.status:
            raise DataError("--status: W&B chooses the points of this sweep and shows their states on its page")
        if options.dry_run:
            print(show_agents(sweep))
        else:
            make_folder(out)
            run_agents(sweep, out, settings if options.launcher == "slurm" else None, options.parallel)
        return 0
    points = sweep.points()
    if options.dry_run:
        for point in points:
            print(command_line(*fit_of(point, out).command))
        return 0
    if not options.status:
        check_sweep(points, out, check_fit)
        os.environ.setdefault("WANDB_RUN_GROUP", sweep.name)
        with exclusive(out, "--status shows them"):
            index = {"sweep": sweep.content, "points": {point.id: point.overrides for point in points}}
            write_json(out / "index.json", index)
            run_sweep(points, run_fit, out, options.launcher, options.parallel, settings)
    statuses = statuses_of(points, out)
    print_table(sweep_table(points, statuses))
    print(f"{counts_of(statuses)}; runs and index.json in {out}")
    return 0
