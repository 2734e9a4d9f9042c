"""Builds the text of a report in any of its formats."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from datamodules.io.text import counted
from datamodules.schema import DataError, visible
from experiments.console.progress import track
from experiments.report.grouping import by_test_set
from experiments.report.page import render_page
from experiments.report.runs import find_runs, main_conditions, read_refined, read_runs
from experiments.report.sections import Part, lead_of, part_of
from experiments.report.tables import Table, refinement_table, to_csv, to_latex, to_markdown


def build_report(paths: list[Path], style: str) -> tuple[str, str]:
    """The text of a report, and a line that counts its runs.

    Args:
        paths: run folders, or folders that contain run folders at any depth.
        style: ``html``, ``md``, ``csv`` or ``latex``.

    Raises:
        DataError: there is no tested run, or none whose files can be read.
    """
    folders, unfinished = find_runs(paths)
    left_out = dict.fromkeys(unfinished, "no results")
    runs, damages = [], list[DataError]()
    for folder, run in zip(folders, track(read_runs(folders), "runs read", len(folders)), strict=True):
        if isinstance(run, DataError):
            damages.append(run)
        elif main_conditions(run):
            runs.append(run)
        else:
            ranked = ", ".join(run.results.get("tasks", {}))
            left_out[folder] = f"no EERs, only matching or retrieval: {ranked}" if ranked else "no labelled trials"
    if not runs and damages:
        raise damages[0]
    if not runs:
        only = "; ".join(dict.fromkeys(why for why in left_out.values() if why != "no results"))
        raise DataError(f"run {paths[0]}: {only}; a report needs labelled trial lists")
    tests = by_test_set(runs)
    derived = []
    for result in read_refined(paths, [run for test in tests for run in test.runs]):
        if isinstance(result, DataError):
            damages.append(result)
        else:
            derived.append(result)
    parts = [part_of(test, [run for run in derived if run.test_set == i]) for i, test in enumerate(tests)]
    text = {
        "html": lambda: render_page(parts, [f"{folder}: {why}" for folder, why in left_out.items()], damages),
        "csv": lambda: to_csv(pd.concat([part.everything for part in parts], ignore_index=True)),
        "md": lambda: to_markdown(_tables(parts), _caveats(parts)),
        "latex": lambda: to_latex(_tables(parts), _caveats(parts)),
    }[style]()
    for damage in damages:
        print(f"warning: left out: {visible(str(damage))}", file=sys.stderr)
    return text, _summary(parts, len(derived), len(left_out), len(damages))


def _tables(parts: list[Part]) -> dict[str, list[Table]]:
    """The tables of each test set that have rows, by its name."""
    return {
        part.test.name: [table for table in (*part.tables, refinement_table(part.table, part.everything)) if table.rows]
        for part in parts
    }


def _caveats(parts: list[Part]) -> dict[str, str]:
    """What is to be known of the numbers of each test set, by its name."""
    return {part.test.name: lead_of(part)["caveat"] for part in parts}


def _summary(parts: list[Part], derived: int, left_out: int, damaged: int) -> str:
    runs, methods = (sum(len(set(part.table[what])) for part in parts) for what in ("run", "method"))
    summary = f"{counted(runs, 'run')} of {counted(methods, 'method')}"
    summary += f" on {counted(len(parts), 'test set')}" if len(parts) > 1 else ""
    summary += f", {counted(derived, 'refinement or fusion of them', 'refinements and fusions of them')}" * bool(
        derived
    )
    summary += f", {counted(left_out, 'run')} without EERs left out" * bool(left_out)
    return summary + f", {counted(damaged, 'damaged run')} left out" * bool(damaged)
