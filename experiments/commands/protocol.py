"""``protocol``: folds x train languages x seeds of several methods, refined by several strategies, in one table.

Resumable: fits that have run to their end by the same command are not run again, nor is a refinement made again of the
same scores by the same strategy. Further arguments go to every fit: ``--data.voices='[other.npz]'``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from datamodules.schema import DataError
from experiments.commands import fit
from experiments.config.files import find_config
from experiments.console.tables import table_console
from experiments.protocol.derived import derived_in_order, derived_of, fusions_of
from experiments.protocol.file import Protocol, Trial, chosen_methods, fit_of, trials_of
from experiments.protocol.numbers import Outcome, per_identity, summarise_protocol
from experiments.protocol.tables import protocol_csv, protocol_tables
from experiments.runs.files import write_json
from experiments.runs.fits import run_fits, run_jobs
from experiments.runs.people import read_people


def run_protocol(
    protocol: Protocol, out: Path, jobs: int, only: Sequence[str] | None = None, more: Sequence[str] = ()
) -> list[Outcome]:
    """Runs what is not done yet, over ``jobs`` processes, and returns every outcome.

    Args:
        protocol: what is run.
        out: folder of all its runs.
        jobs: processes.
        only: these methods, and the fusions of them.
        more: arguments for every fit.

    Raises:
        DataError: some fits or refinements failed; what has finished is kept, the same command goes on with the rest.
    """
    methods = chosen_methods(protocol, only)
    trials = trials_of(protocol, methods)
    for command in protocol.first:
        if subprocess.run([sys.executable, "-m", "experiments.run", *command]).returncode != 0:
            raise DataError(f"{' '.join(command[:1])} failed, see above; no fit was started")
    fits = [fit_of(protocol, trial, out, more) for trial in trials]
    todo = [each for each in fits if each.results() is None]
    print(f"protocol: {len(fits)} fits, {len(fits) - len(todo)} done before, {jobs} at a time, in {out}")
    run_fits(todo, fit.main, jobs)
    for what, derived in zip(("refinements", "fusions"), derived_in_order(protocol, methods, out), strict=True):
        due = [job for job in derived if not job.done()]
        if derived:
            print(f"protocol: {len(derived)} {what}, {len(derived) - len(due)} done before", flush=True)
        run_jobs([job.run for job in due], jobs, what)
    return [
        outcome
        for trial in [*trials, *trials_of(protocol, fusions_of(protocol, methods))]
        for outcome in outcomes_of(protocol, trial, out)
    ]


def outcomes_of(protocol: Protocol, trial: Trial, out: Path) -> list[Outcome]:
    """What a finished trial gave, an outcome per strategy."""
    found = []
    for name, derived in derived_of(protocol, trial, out).items():
        people, replicates = read_people(derived.folder)
        results, spoken = derived.results(), languages_of(derived.home)
        found.append(
            Outcome(trial.method, trial.config, trial.fold, trial.seed, results, name, spoken, people, replicates)
        )
    return found


def languages_of(run: Path) -> dict[str, str]:
    """``train→test`` language by cell of a run."""
    config: dict[str, Any] = yaml.load((run / "config.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    train = (config["data"].get("init_args") or {}).get("train_languages") or ["all"]
    spoken = pd.read_parquet(run / "scores.parquet", columns=["cell", "language"]).drop_duplicates()
    return {cell: f"{'+'.join(train)}→{language or 'all'}" for cell, language in zip(*spoken.to_numpy().T, strict=True)}


def main(command: str, argv: list[str]) -> int:
    """``protocol --config protocols/v1_dev.yaml [--out DIR] [--jobs N] [--methods a,b] [--data.voices=...]...``."""
    parser = argparse.ArgumentParser(
        prog=f"experiments.run {command}", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--config", required=True, help="protocol file, e.g. protocols/v1_dev.yaml")
    parser.add_argument("--out", help="folder of all its runs; default runs/NAME; run again to go on")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--methods", help="only these, by comma, and the fusions of them")
    options, more = parser.parse_known_args(argv)
    try:
        for argument in more:
            if not (argument.startswith("--") and "." in argument.partition("=")[0] and "=" in argument):
                raise DataError(
                    f"{argument}: neither an option of protocol nor, as --data.batch_size=64, one of all fits"
                )
        path = find_config(options.config)
        out = Path(options.out or Path("runs") / path.stem).resolve()
        only = options.methods.split(",") if options.methods else None
        outcomes = run_protocol(Protocol.read(path), out, options.jobs, only, more)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    records, people = summarise_protocol(outcomes), per_identity(outcomes)
    write_json(out / "protocol.json", records)
    protocol_csv(records).to_csv(out / "protocol.csv", index=False)
    people.to_csv(out / "per_identity.csv", index=False)
    console = table_console()
    for table in protocol_tables(records, people):
        console.print(table)
    print(f"written: {out}: protocol.json, protocol.csv, per_identity.csv")
    return 0
