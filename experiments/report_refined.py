"""Finds what strategies and fusions made of runs afterwards (``refine``, ``protocol``), for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.report_runs import ReportRun, home_of, read_file
from experiments.runs.folder import OWN


def read_refined(paths: Sequence[Path], runs: Sequence[ReportRun]) -> list[ReportRun]:
    """The runs again, once for every strategy that refined one of them and every fusion of them.

    A strategy's results are in ``refined/NAME`` of the run. A fusion has a folder where a method has its runs
    (``METHOD/CONFIG/foldF-seedS``), and its trials are those of the runs of the same name: people, languages, fold and
    seed are theirs. Only ``folder``, ``method``, ``strategy`` and ``results`` are of what was made.

    Args:
        paths: as :func:`find_runs` takes them.
        runs: those found there, with the names of their methods.

    Raises:
        DataError: a results.json cannot be read.
    """
    by_folder = {run.folder: run for run in runs}
    by_trial = {_trial(run.folder): run for run in runs}
    made = []
    for file in sorted({file.resolve() for path in paths for file in path.rglob("results.json")}):
        folder = file.parent
        home = home_of(folder)
        strategy = OWN if folder == home else folder.name
        own, alike = by_folder.get(home), by_trial.get(_trial(home))
        if own is not None and strategy != OWN:
            made.append(replace(own, folder=folder, strategy=strategy, results=read_file(file)))
        elif own is None and alike is not None:
            fusion = home.parents[1].name
            made.append(replace(alike, folder=folder, method=fusion, strategy=strategy, results=read_file(file)))
    return made


def _trial(run: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What runs of one config, fold and seed share in a protocol's output, whatever their method."""
    return run.parts[:-3], run.parts[-2:]
