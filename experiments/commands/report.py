"""``report``: one self-contained HTML page about tested runs, or their tables as Markdown, CSV or LaTeX."""

from __future__ import annotations

import time
from pathlib import Path

from datamodules.io.writing import refuse_other, write_text
from datamodules.schema import DataError
from experiments.console.arguments import CommandParser
from experiments.runs.folder import HOLDS_A_RUN

FORMATS = {"html": ".html", "md": ".md", "csv": ".csv", "latex": ".tex"}
DOCTYPE, MARK = "<!doctype html>\n", "voiceface report"
STARTS = {
    "html": f"{DOCTYPE}<!-- {MARK} -->\n",
    "md": f"<!-- {MARK} -->\n\n",
    "csv": "run,folder,method,strategy,train,test,lists,condition,unit,seed,test_set,trials,",
    "latex": f"% {MARK}\n",
}
"""How files of each format begin, by which a report is told from a file of somebody's."""


def main(command: str, argv: list[str]) -> int:
    """``report RUNS... [--out report.html] [--format html|md|csv|latex]``."""
    parser = CommandParser(command, __doc__)
    text = "run folders, or folders that contain them, e.g. the output of a protocol or sweep"
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help=text)
    parser.add_argument("--format", choices=FORMATS, help="default: by the suffix of --out, else html")
    parser.add_argument("--out", type=Path, help="default: report.html, report.md ...")
    options = parser.parse_args(argv)
    by_ending = {ending: style for style, ending in FORMATS.items()}
    style = options.format or (by_ending.get(options.out.suffix) if options.out else None) or "html"
    out: Path = options.out or Path(f"report{FORMATS[style]}")
    if out.name in (*HOLDS_A_RUN, "people.csv") and out.exists():
        raise DataError(f"--out {out}: is a file of a run; choose another name")
    refuse_other(out, STARTS[style])
    start = time.perf_counter()
    from experiments.report.build import build_report  # pandas and matplotlib take a second; --help does not need them

    text, summary = build_report(options.runs, style)
    text = text.encode("utf-8", "backslashreplace").decode()  # names of files that are not UTF-8
    write_text(out, text if style == "csv" else STARTS[style] + text.removeprefix(DOCTYPE))
    print(f"written: {out} ({summary}, {len(text.encode()) / 1024:.0f} KiB, {time.perf_counter() - start:.1f} s)")
    return 0
