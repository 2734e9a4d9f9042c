"""``bench``: time and memory against plain ways (``all``), and against the limits of the machine (``cpu``, ``gpu``)."""

from __future__ import annotations

import argparse
import math
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.io.writing import refuse_other, write_json
from datamodules.schema import DataError
from experiments.bench.limits.processes import CPU, GPU, measure
from experiments.bench.ratios import FELL, fallen, ratios, read_bench, way_ratio
from experiments.bench.sizes import MEASURED, MEDIA_SIZES, QUICK, SIZES
from experiments.console.arguments import CommandParser
from experiments.console.tables import NameTable, table_console

Record = dict[str, Any]
LIMITS = {"cpu": CPU, "gpu": GPU}
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


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
    """A line per way: its figure, and how many times better than that of the first one, the plain way."""
    table = NameTable()
    for column in ("what", "size", "way", "figure", "ratio"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for row in rows:
        for way in row["ways"]:
            figure = f"{way['figure']:.3g} {way['unit']}"
            ratio = f"{way_ratio(way, row['ways'][0]):.2f}"
            table.add_row(row["what"], str(row["size"]), way["who"], figure, ratio)
    return table


def limits_table_of(rows: list[Record]) -> NameTable:
    """A line per row of ``bench cpu`` and ``bench gpu``: what it reaches, its limit, and how much of that."""
    caption = (
        "Limit: the work that cannot be left out, at the rates measured above (copy: bytes read and written; bf16, "
        "tf32, fp32: matrix products), or what was measured beside it; of limit: for a training step the MFU against "
        "measured products. Error: norm of the difference to float64, over the norm of the float64 result."
    )
    table = NameTable(caption=caption)
    for column in ("what", "way", "measured", "limit", "by", "of limit", "GB", "error", "note"):
        table.add_column(column, justify="right" if column in ("measured", "limit", "of limit", "GB") else "left")
    for row in rows:
        if "failed" in row:
            table.add_row(row["what"], row["name"], *[""] * 6, f"not measured: {row['failed']}")
            continue
        limit, reached = "", ""
        if "ratio" in row:
            limit, reached = rate(row, row["limit_seconds"]), f"{100 * row['ratio']:.1f} %"
        memory = "" if row["peak_gb"] is None else f"{row['peak_gb']:.2f}"
        error = "" if row["error"] is None else f"{row['error']:.1e}"
        measured = rate(row, row["seconds"])
        table.add_row(
            row["what"], row["name"], measured, limit, row.get("limit", ""), reached, memory, error, row["note"]
        )  # fmt: skip
    return table


def rate(row: Record, seconds: float) -> str:
    """The amount of a row by the second, with a prefix; seconds where it is one thing."""
    if row["amount"] == 1:
        return f"{seconds:.3g} s"
    value = row["amount"] / seconds
    size, prefix = next((pair for pair in PREFIXES if value >= pair[0]), (1.0, ""))
    return f"{value / size:.3g} {prefix}{'' if prefix and len(row['unit']) <= 4 else ' ' * bool(prefix)}{row['unit']}/s"


def growth_table_of(rows: list[Record]) -> NameTable:
    """A line per kind of work: seconds and GB at each size, and how both grow."""
    from experiments.bench.growth import exponent

    caption = (
        "CPU seconds ~ size^growth by least squares; 1 = linear. GB of the process, imports and data included; its "
        "growth is that of what the work adds. prepare: with the process that reads the files. ranks: of the "
        "first rank; together they embed 200,000 items."
    )
    table = NameTable(caption=caption)
    for column in ("what", "sizes", "seconds", "growth", "GB", "growth of GB"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        added = [peak - start for peak, start in zip(row["peak_gb"], row["start_gb"], strict=True)]
        sizes, seconds, memory = (
            " ".join(f"{x:{form}}" for x in row[key])
            for key, form in (("sizes", ","), ("seconds", ".3g"), ("peak_gb", ".2f"))
        )
        time, space = (f"{exponent(row['sizes'], costs):.2f}" for costs in (row["seconds"], added))
        table.add_row(row["growth"], sizes, seconds, time, memory, space)
    return table


def changes_table(old: dict[str, float], new: dict[str, float], fell: list[str]) -> NameTable:
    """A line per ratio that both have."""
    table = NameTable()
    for column in ("what", "ratio before", "now", "change", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    for name in (name for name in old if name in new):
        change = f"{100 * (new[name] / old[name] - 1):+.0f} %"
        table.add_row(name, f"{old[name]:.3g}", f"{new[name]:.3g}", change, "FELL" if name in fell else "")
    return table


def main(command: str, argv: list[str]) -> int:
    """``bench WHAT [--sizes N...] [--quick] [--out FILE] [--compare OLD.json] [--device D] [--only NAME...]``.

    Returns:
        0; 1 if ``--compare`` finds ratios that fell by more than 15 %.
    """
    parser = _parser(command)
    options = parser.parse_args(argv)
    old = read_bench(options.compare) if options.compare else None
    if options.what is None:
        if old is None or not old["rows"]:
            parser.error("what to measure is missing: bench all, bench cpu or bench gpu")
        options.what = next((kind for kind in LIMITS if old["rows"][0].get("target") == kind), "again")
    if options.what in LIMITS:
        _choose_device(options)
    if options.out:
        refuse_other(options.out, '{\n "environment"')
    content: Record = {"environment": _environment() if options.out or old else None, "rows": []}
    for row in _rows(options, old):
        content["rows"].append(row)
        if options.out:
            write_json(options.out, content)
    console = table_console()
    for table in _tables(content["rows"]):
        console.print(table)
    if options.out:
        print(f"written: {options.out}")
    return 0 if old is None else _compared(old, content, options.compare)


def _parser(command: str) -> CommandParser:
    parser = CommandParser(command, __doc__)
    choices = (*SIZES, "train_step", "loader", "memory", "recluster", "all", "scenarios", "growth", *LIMITS)
    what = (
        "against plain ways: eer, refine, train_step, loader, memory, recluster, or all of them; scenarios: "
        "refinements on simulated test sets; growth: seconds and memory as "
        "work grows; against the limits of the machine: cpu, gpu; default: what OLD.json holds"
    )
    parser.add_argument("what", choices=choices, nargs="?", metavar="WHAT", help=what)
    text = (
        "trials (eer), items per modality (refine), pairs (train_step, memory), batches (loader), clips (recluster), "
        "an eighth of the test sets of each scenario (scenarios: EER of refinements, from $VOICEFACE_DATA/mavceleb)"
    )
    parser.add_argument("--sizes", type=int, nargs="+", help=text)
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, to see that everything runs")
    text = "write the figures as JSON as they come, with machine, versions and commit (gpu: bench_gpu.json)"
    parser.add_argument("--out", type=Path, help=text)
    text = f"exit status 1 if a ratio is more than {100 * FELL:.0f} %% below that of this file"
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help=text)
    parser.add_argument("--device", help="gpu: cuda, or cpu to see that it runs; default: cuda")
    parser.add_argument("--only", nargs="+", choices=sorted(CPU), help="cpu, gpu: these benches, and the rates")
    return parser


def _choose_device(options: argparse.Namespace) -> None:
    """Sets the device and the file that is written."""
    import torch  # slow, and --help need not wait for it

    options.device = options.device or ("cuda" if options.what == "gpu" else "cpu")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise DataError("bench gpu: this machine has no CUDA GPU; bench gpu --quick --device cpu shows that it runs")
    if options.what == "gpu":
        options.out = options.out or Path("bench_gpu.json")


def _rows(options: argparse.Namespace, old: Record | None) -> Iterator[Record]:
    """What is measured, as it comes."""
    if options.what in LIMITS:
        benches = LIMITS[options.what]
        if options.only:
            benches = {name: benches[name] for name in benches if name in ("rates", *options.only)}
        target = "quick" if options.quick else options.what
        if options.quick:  # to see that everything runs, on whatever machine
            benches = dict.fromkeys(benches, max(CPU.values()))
        for row in measure(benches, target, options.device):
            yield {"target": options.what, **row}
        return
    if options.what == "growth":
        from experiments.bench.growth import measure_growth

        yield from measure_growth(options.quick)
        return
    if options.what == "scenarios":
        # these import torch, and what reads configs
        from experiments.bench.scenarios import measure_scenarios
        from experiments.config.build import read_steps
        from experiments.config.files import find_config

        count = (options.sizes or [1])[0]
        yield from measure_scenarios(count, lambda name: read_steps(find_config(f"postproc/{name}.yaml")))
        return
    from experiments.bench.compare import compare  # imports torch, which --help need not wait for

    if options.what == "again" and old is not None:
        yield from (compare(row["what"], row["size"]) for row in old["rows"] if "size" in row)
        return
    sizes: dict[str, Any] = QUICK if options.quick else {**SIZES, **MEDIA_SIZES}
    for what in [*SIZES, *MEDIA_SIZES] if options.what == "all" else MEASURED.get(options.what, [options.what]):
        usual = sizes[what] if isinstance(sizes[what], tuple) else (sizes[what],)
        for size in options.sizes or usual:
            yield compare(what, size)


def _tables(rows: list[Record]) -> Iterator[Any]:
    kinds = {"ours": table_of, "ways": media_table_of, "name": limits_table_of, "growth": growth_table_of}
    for key, table in kinds.items():
        if part := [row for row in rows if key in row]:
            yield table(part)
    if part := [row for row in rows if "scenario" in row]:
        from experiments.bench.scenarios import scenario_table  # imports torch

        yield scenario_table(part)


def _compared(old: Record, new: Record, path: Path) -> int:
    before, now = ratios(old["rows"]), ratios(new["rows"])
    if not set(before) & set(now):
        raise DataError(f"{path}: holds no ratio that was measured now; measure the same, at the same sizes")
    fell = fallen(before, now)
    table_console().print(changes_table(before, now, fell))
    machines = [(found.get("environment") or {}).get("machine") for found in (old, new)]
    if machines[0] != machines[1]:
        print(f"note: {path} is of another machine: {machines[0]}, here {machines[1]}", file=sys.stderr)
    if missing := len(set(before) - set(now)):
        print(f"note: {missing} of {len(before)} ratios of {path} were not measured now", file=sys.stderr)
    if fell:
        print(f"{len(fell)} of {len(set(before) & set(now))} ratios fell by more than {100 * FELL:.0f} %")
    return int(bool(fell))


def _environment() -> Record:
    """Machine, versions and commit."""
    from experiments.callbacks.record import environment  # imports torch

    found = environment()
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line[:10] == "model name"
        ]
        processor = names[0] if names else processor
    machine = f"{found['cpus']} x {processor}, {len(found['gpus'])} GPUs {' '.join(sorted(set(found['gpus'])))}".strip()
    return {**found, "machine": machine}
