"""``bench``: EER and refinement against scikit-learn, raw media against the plain way; refinements by scenario."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from datamodules.io.writing import write_json
from experiments.bench.sizes import MEASURED, MEDIA_SIZES, SIZES
from experiments.config.files import find_config
from experiments.console.arguments import CommandParser
from experiments.console.tables import NameTable, table_console

Record = dict[str, Any]


def growth(smaller: Record, larger: Record) -> float:
    """Exponent x of our seconds ~ size^x between two sizes; 1 = the cost is linear."""
    seconds = larger["ours"]["seconds"] / smaller["ours"]["seconds"]
    return math.log(seconds) / math.log(larger["size"] / smaller["size"])


def table_of(rows: list[Record]) -> NameTable:
    """A line per size: seconds of both, their ratio, the growth of ours since the line before, peak memory."""
    caption = (
        "* scikit-learn measured at some numbers of clusters, the others interpolated. "
        "Growth: our seconds ~ size^growth since the size before; 1 = linear. "
        "EERs in %, ours and scikit-learn's: both do the same steps, so they must be equal."
    )
    table = NameTable(caption=caption)
    for column in ("what", "size", "ours s", "scikit-learn s", "ratio", "growth", "ours GB", "scikit-learn GB", "EERs"):
        table.add_column(column, justify="right", no_wrap=True)
    for before, row in zip([None, *rows], rows, strict=False):
        ours, other = row["ours"], row["sklearn"]
        times = f"{ours['seconds']:.2f}", f"{other['seconds']:.1f}{'*' if other['estimated'] else ''}"
        ratio = f"{other['seconds'] / ours['seconds']:.1f}"
        rates = f"{100 * ours['eer']:.3f} {100 * other['eer']:.3f}"
        memory = f"{ours['peak_gb']:.2f}", f"{other['peak_gb']:.2f}"
        same = before is not None and before["what"] == row["what"] and before["size"] != row["size"]
        grown = f"{growth(before, row):.2f}" if before and same else ""
        table.add_row(row["what"], f"{row['size']:.0e}", *times, ratio, grown, *memory, rates)
    return table


def media_table_of(rows: list[Record]) -> NameTable:
    """A line per way: its figure, and how many times that of the first one, the plain way."""
    table = NameTable()
    for column in ("what", "size", "way", "figure", "ratio"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for row in rows:
        for way in row["ways"]:
            figure = f"{way['figure']:.3g} {way['unit']}"
            ratio = f"{way['figure'] / row['ways'][0]['figure']:.2f}"
            table.add_row(row["what"], str(row["size"]), way["who"], figure, ratio)
    return table


def main(command: str, argv: list[str]) -> int:
    """``bench eer|refine|train_step|loader|memory|recluster|all|scenarios [--sizes N...] [--out bench.json]``."""
    parser = CommandParser(command, __doc__)
    parser.add_argument(
        "what", choices=(*SIZES, "train_step", "loader", "memory", "recluster", "all", "scenarios"), help="which"
    )
    text = (
        "trials (eer), items per modality (refine), pairs (train_step, memory), batches (loader), clips (recluster), "
        "an eighth of the test sets of each scenario (scenarios: EER of refinements, from $VOICEFACE_DATA/mavceleb)"
    )
    parser.add_argument("--sizes", type=int, nargs="+", help=text)
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    options = parser.parse_args(argv)
    console = table_console()
    if options.what == "scenarios":
        # these import torch, too
        from experiments.bench.scenarios import measure_scenarios, scenario_table
        from experiments.config.build import read_steps

        rows = measure_scenarios(
            (options.sizes or [1])[0], lambda name: read_steps(find_config(f"postproc/{name}.yaml"))
        )
        console.print(scenario_table(rows))
        return _written(rows, options.out)
    chosen = [*SIZES, *MEDIA_SIZES] if options.what == "all" else MEASURED.get(options.what, [options.what])
    from experiments.bench.compare import compare  # imports torch, which --help need not wait for

    rows = [compare(what, n) for what in chosen for n in options.sizes or SIZES.get(what) or [MEDIA_SIZES[what]]]
    for table, part in (
        (table_of, [r for r in rows if "ours" in r]),
        (media_table_of, [r for r in rows if "ways" in r]),
    ):
        if part:
            console.print(table(part))
    return _written(rows, options.out)


def _written(rows: list[Record], out: Path | None) -> int:
    if out is not None:
        write_json(out, rows)
        print(f"written: {out}")
    return 0
