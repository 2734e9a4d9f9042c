"""``report``: tested runs as one self-contained page, or their tables as Markdown, CSV or LaTeX."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from datamodules.schema import DataError
from experiments.console.progress import track

FORMATS = {"html": ".html", "md": ".md", "csv": ".csv", "latex": ".tex"}


def build_report(paths: list[Path], style: str) -> tuple[str, str]:
    """The text of a report, and a line about what is in it.

    Args:
        paths: run folders, or folders that hold them at any depth.
        style: ``html``, ``md``, ``csv`` or ``latex``.

    Raises:
        DataError: nothing to report on, or a broken file of a run.
    """
    # pandas and matplotlib take a second to import; --help need not
    from experiments.report_numbers import by_rate, long_table, published, version_of
    from experiments.report_refined import read_refined
    from experiments.report_runs import find_runs, read_runs, tell_apart
    from experiments.report_sections import records_of
    from experiments.report_tables import (
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
        from experiments.report_page import render_page

        return render_page(runs, unfinished, table, everything, tables), said
    tables.append(control_table(table))
    if made:
        tables.append(refinement_table(table, everything))
    return (to_markdown if style == "md" else to_latex)(tables), said


def main(command: str, argv: list[str]) -> int:
    """``report RUNS... [--out report.html] [--format html|md|csv|latex]``."""
    parser = argparse.ArgumentParser(prog=f"experiments.run {command}", description=__doc__, allow_abbrev=False)
    text = "run folders, or folders that hold them: a protocol's or a sweep's output"
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help=text)
    parser.add_argument("--format", choices=FORMATS, help="default: by the ending of --out, else html")
    parser.add_argument("--out", type=Path, help="default: report.html, report.md ...")
    options = parser.parse_args(argv)
    by_ending = {ending: style for style, ending in FORMATS.items()}
    style = options.format or (by_ending.get(options.out.suffix) if options.out else None) or "html"
    out: Path = options.out or Path(f"report{FORMATS[style]}")
    start = time.perf_counter()
    try:
        text, said = build_report(options.runs, style)
        beside = out.with_name(f".{out.name}.{os.getpid()}")
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, out)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"written: {out} ({said}, {len(text.encode()) / 1024:.0f} KiB, {time.perf_counter() - start:.1f} s)")
    return 0
