"""Builds the text of a report in any of its formats."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from datamodules.schema import DataError
from experiments.console.progress import track
from experiments.console.tables import counted
from experiments.report.grouping import by_test_set
from experiments.report.page import render_page
from experiments.report.runs import find_runs, main_conditions, read_refined, read_runs
from experiments.report.sections import Part, part_of
from experiments.report.tables import Table, refinement_table, to_csv, to_latex, to_markdown


def build_report(paths: list[Path], style: str) -> tuple[str, str]:
    """The text of a report, and a line that counts its runs.

    Args:
        paths: run folders, or folders that contain run folders at any depth.
        style: ``html``, ``md``, ``csv`` or ``latex``.

    Raises:
        DataError: there is no tested run, or a file of a run is broken.
    """
    folders, unfinished = find_runs(paths)
    found = list(track(read_runs(folders), "runs read", len(folders)))
    runs = [run for run in found if main_conditions(run)]
    unfinished += [run.folder for run in found if not main_conditions(run)]
    if not runs:
        raise DataError(f"run {paths[0]}: no labelled test condition, so no EERs; a report needs some")
    tests = by_test_set(runs)
    derived = read_refined(paths, [run for test in tests for run in test.runs])
    parts = [part_of(test, [run for run in derived if run.test_set == i]) for i, test in enumerate(tests)]
    text = {
        "html": lambda: render_page(parts, unfinished),
        "csv": lambda: to_csv(pd.concat([part.everything for part in parts], ignore_index=True)),
        "md": lambda: to_markdown(_tables(parts)),
        "latex": lambda: to_latex(_tables(parts)),
    }[style]()
    return text, _summary(parts, len(derived), len(unfinished))


def _tables(parts: list[Part]) -> dict[str, list[Table]]:
    """The tables of each test set that have rows, by its name."""
    return {
        part.test.name: [
            table for table in (*part.tables, refinement_table(part.table, part.everything), part.published)
            if table is not None and table.rows
        ]
        for part in parts
    }  # fmt: skip


def _summary(parts: list[Part], derived: int, unfinished: int) -> str:
    runs, methods = (sum(len(set(part.table[what])) for part in parts) for what in ("run", "method"))
    summary = f"{counted(runs, 'run')} of {counted(methods, 'method')}"
    summary += f" on {counted(len(parts), 'test set')}" if len(parts) > 1 else ""
    summary += f", {counted(derived, 'refinement or fusion of them', 'refinements and fusions of them')}" * bool(
        derived
    )
    return summary + f", {counted(unfinished, 'run')} without results skipped" * bool(unfinished)
