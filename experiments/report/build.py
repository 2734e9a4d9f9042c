"""TODO docstring."""

from __future__ import annotations

from pathlib import Path

from experiments.console.progress import track


def build_report(paths: list[Path], style: str) -> tuple[str, str]:
    """The text of a report, and a line about what is in it.

    Args:
        paths: run folders, or folders that hold them at any depth.
        style: ``html``, ``md``, ``csv`` or ``latex``.

    Raises:
        DataError: nothing to report on, or a broken file of a run.
    """
    # pandas and matplotlib take a second to import; --help need not
    from experiments.report.numbers import by_rate, long_table, published, version_of
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

    folders, unfinished = find_runs(paths)
    runs = tell_apart(list(track(read_runs(folders), "runs read", len(folders))))
    order = by_rate(long_table(runs))
    runs.sort(key=lambda run: order.index(run.method))
    made = read_refined(paths, runs)
    table, everything = long_table(runs), long_table([*runs, *made])
    said = f"{len(runs)} runs of {table['method'].nunique()} methods"
    said += f", {len(made)} refinements and fusions of them" if made else ""
    said += f", {len(unfinished)} without results left out" if unfinished else ""
    if style == "csv":
        return to_csv(everything), said
    version, records = version_of(table), records_of(table)
    languages = (version, published()[0][version]) if version else None
    tables = [answer_table(table, records), language_table(table, languages, records)]
    if style == "html":
        from experiments.report.page import render_page

        return render_page(runs, unfinished, table, everything, tables), said
    tables.append(control_table(table))
    if made:
        tables.append(refinement_table(table, everything))
    return (to_markdown if style == "md" else to_latex)(tables), said
