"""Builds the text of a report in any of its formats."""

from __future__ import annotations

from pathlib import Path

from experiments.console.progress import track
from experiments.report.numbers import by_rate, long_table, published, version_of
from experiments.report.page import render_page
from experiments.report.runs import find_runs, read_refined, read_runs, tell_apart
from experiments.report.sections import records_of
from experiments.report.tables import (
    answer_table,
    control_table,
    language_table,
    refinement_table,
    to_csv,
    to_latex,
    to_markdown,
)


def build_report(paths: list[Path], style: str) -> tuple[str, str]:
    """The text of a report, and a line that counts its runs.

    Args:
        paths: run folders, or folders that contain run folders at any depth.
        style: ``html``, ``md``, ``csv`` or ``latex``.

    Raises:
        DataError: there is no tested run, or a file of a run is broken.
    """
    folders, unfinished = find_runs(paths)
    runs = tell_apart(list(track(read_runs(folders), "runs read", len(folders))))
    order = by_rate(long_table(runs))
    runs.sort(key=lambda run: order.index(run.method))
    derived = read_refined(paths, runs)
    table, everything = long_table(runs), long_table([*runs, *derived])
    summary = f"{len(runs)} runs of {table['method'].nunique()} methods"
    summary += f", {len(derived)} refinements and fusions of them" if derived else ""
    summary += f", {len(unfinished)} runs without results skipped" if unfinished else ""
    if style == "csv":
        return to_csv(everything), summary
    version, records = version_of(table), records_of(table)
    languages = (version, published()[0][version]) if version else None
    tables = [answer_table(table, records), language_table(table, languages, records)]
    if style == "html":
        return render_page(runs, unfinished, table, everything, tables), summary
    tables.append(control_table(table))
    if derived:
        tables.append(refinement_table(table, everything))
    return (to_markdown if style == "md" else to_latex)(tables), summary
