"""Runs the fits, refinements and fusions of a protocol that are not done yet."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from datamodules.io.documents import damaged, read_mapping
from datamodules.io.tables import read_parquet
from datamodules.io.text import counted
from datamodules.schema import DataError
from datamodules.workers import end_with_parent, without_interrupts
from experiments.protocol.derived import Derived, derived_in_order, derived_of, fusions_of
from experiments.protocol.file import PlannedFit, Protocol, chosen_methods, fit_of, planned_fits
from experiments.protocol.numbers import Outcome
from experiments.runs.fits import Check, Main, check_fits, run_fits, run_jobs
from experiments.runs.folder import refuse_run
from experiments.runs.lock import exclusive
from experiments.runs.people import read_people
from experiments.runs.saved import trained_on


def run_protocol(
    protocol: Protocol,
    main: Main,
    out: Path,
    jobs: int,
    only: Sequence[str] | None = None,
    more: Sequence[str] = (),
    check: Check | None = None,
) -> list[Outcome]:
    """Runs what is not done yet in several processes, and returns all outcomes.

    Args:
        protocol: the protocol.
        main: runs a ``fit``: takes the command and its arguments, returns an exit status.
        out: folder of all runs.
        jobs: number of processes.
        only: run these methods and their fusions; None = all.
        more: arguments of every fit.
        check: reads the arguments of a ``fit`` before the first one starts; None trusts them.

    Raises:
        DataError: wrong arguments or a folder of something else, and none has started; some fits or refinements
            failed. Finished ones are kept, and the same command runs the rest.
    """
    methods = chosen_methods(protocol, only)
    planned = planned_fits(protocol, methods)
    fits = [fit_of(protocol, each, out, more) for each in planned]
    todo = [fit for fit in fits if fit.results() is None]
    refuse_run(out)
    if (out / "index.json").exists():
        raise DataError(f"--out {out}: holds a sweep; choose another folder")
    if check is not None:
        check_fits(todo, check)
    for command in protocol.first:
        if run_command(command) != 0:
            raise DataError(f"{command[0]} failed, see above; no fit was started")
    print(f"protocol: {counted(len(fits), 'fit')}, {len(fits) - len(todo)} done before, {jobs} at a time, in {out}")
    with exclusive(out):
        run_fits(todo, main, jobs)
        _derive(protocol, methods, out, jobs)
    fused = planned_fits(protocol, fusions_of(protocol, methods))
    return [outcome for each in [*planned, *fused] for outcome in outcomes_of(protocol, each, out)]


def _derive(protocol: Protocol, methods: list[str], out: Path, jobs: int) -> None:
    """Makes the refinements and fusions that are not done yet."""
    for what, derived in zip(("refinement", "fusion"), derived_in_order(protocol, methods, out), strict=True):
        due = [job for job in derived if not job.done()]
        if derived:
            print(f"protocol: {counted(len(derived), what)}, {len(derived) - len(due)} done before", flush=True)
        run_jobs([partial(_run_all, group) for group in _together(due, jobs)], jobs, f"{what}s of runs")


def _together(due: Sequence[Derived], jobs: int) -> list[list[Derived]]:
    """Those of one run, which have clusters and scorers in common, where that leaves work for every process."""
    groups = [list(group) for _, group in groupby(due, key=lambda derived: derived.home)]
    return groups if len(groups) >= jobs else [[derived] for derived in due]


def _run_all(group: Sequence[Derived]) -> str | None:
    """Makes them in turn; the error lines of those that failed."""
    return "; ".join(line for derived in group if (line := derived.run()) is not None) or None


def run_command(arguments: Sequence[str], module: str = "experiments.run") -> int:
    """Runs ``python -m MODULE ARGUMENTS`` in a process that ends with this one, even if it is killed.

    Returns:
        The exit status.
    """
    process = get_context("spawn").Process(target=_run_module, args=(module, list(arguments)))
    with without_interrupts():
        process.start()
    try:
        process.join()
    finally:  # after Ctrl-C; a process that has ended is not affected
        process.terminate()
    return process.exitcode or 0


def _run_module(module: str, arguments: list[str]) -> None:
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))  # the parent says that it was stopped
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")


def outcomes_of(protocol: Protocol, planned: PlannedFit, out: Path) -> list[Outcome]:
    """The outcomes of a finished fit or fusion, one per refinement."""
    outcomes = []
    for name, derived in derived_of(protocol, planned, out).items():
        with damaged(str(derived.folder), "delete it, and the same command makes it again"):
            people, replicates = read_people(derived.folder)
            results, languages = derived.results(), languages_of(derived.home)
            axes = planned.method, planned.config, planned.fold, planned.seed
            selection = selection_in(derived.folder / "refinement.json")
            outcomes.append(Outcome(*axes, results, name, languages, people, replicates, selection))
    return outcomes


def selection_in(path: Path) -> dict[str, Any] | None:
    """What a ``postproc.Selected`` among the steps wrote into a refinement.json; None without one."""
    traces = read_mapping(path).values() if path.is_file() else ()
    return next((step["selection"] for steps in traces for step in steps if step.get("selection")), None)


def languages_of(run: Path) -> dict[str, str]:
    """``train→test`` language of a run by test condition."""
    config = read_mapping(run / "config.yaml")
    tests = read_parquet(run / "scores.parquet", columns=["cell", "language"]).drop_duplicates()
    languages = dict(zip(*tests.to_numpy().T, strict=True))
    train = trained_on(config, languages)
    return {cell: f"{train}→{language or 'all'}" for cell, language in languages.items()}
