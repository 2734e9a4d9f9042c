"""``bench``: EER and refinement against scikit-learn, raw media against the plain way; each in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from datamodules.schema import ScoredCell
from experiments.bench.media import peak_gb
from experiments.bench.sklearn_baseline import chaining, roc_eer
from experiments.console.tables import table_console
from experiments.runs.files import write_json
from postproc.metrics.roc import eer

WIDTH, TRIALS, PEOPLE, LARGEST_K = 768, 1_000_000, 40, 64
SIZES = {"eer": (1_000_000, 10_000_000), "refine": (1_000, 10_000, 100_000)}
# Of bench_media.py: pairs of a step, batches of a loader, embeddings of a loss, pairs of a step, and of
# bench_recluster.py: clips; the ways of each that need a process of their own (peak memory), the plain one first
MEDIA_SIZES = {"train_step": 8, "loader": 16, "loss_memory": 8192, "batch_memory": 1024, "recluster": 150_000}
WAYS = {"loss_memory": ("whole matrix", "blockwise"), "batch_memory": ("one batch", "chunks")}
MEASURED = {"memory": ("loss_memory", "batch_memory")}
SPARSE_ABOVE, SPARSE_KS = 2_000, (1, 2, 8, 24, 64)  # where scikit-learn would take hours for every k
Record = dict[str, Any]


def synthetic_trials(size: int) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Distances with ties (4 decimals on a tenth of them), EER near 30 %."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size, dtype=np.int8)
    distances = rng.normal(size=size) - labels
    distances[: size // 10] = distances[: size // 10].round(4)
    return distances, labels


def synthetic_cell(items: int) -> tuple[ScoredCell, NDArray[np.int8]]:
    """``items`` voices and faces of 40 people, gender the dominant direction, and a million labelled trials."""
    rng = np.random.default_rng(0)
    traits = rng.normal(size=(PEOPLE, WIDTH)).astype(np.float32)
    traits[:, 0] += np.where(np.arange(PEOPLE) % 2, 40, -40)
    person = [rng.integers(PEOPLE, size=items) for _ in range(2)]
    spaces = []
    for who in person:
        x = rng.standard_normal((items, WIDTH), dtype=np.float32)
        x += traits[who]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        spaces.append({"model": x})
    voice, face = (rng.integers(items, size=TRIALS) for _ in range(2))
    similarity = np.empty(TRIALS)
    for start in range(0, TRIALS, 1 << 14):
        rows = slice(start, start + (1 << 14))
        similarity[rows] = np.einsum("td,td->t", spaces[0]["model"][voice[rows]], spaces[1]["model"][face[rows]])
    noisy = 1 - similarity + 0.1 * rng.normal(size=TRIALS)
    return ScoredCell(noisy, voice, face, *spaces), (person[0][voice] == person[1][face]).astype(np.int8)


def measure(what: str, who: str, size: int) -> Record:
    """One measurement in this process: ``seconds``, ``estimated`` (whether parts were extrapolated), ``eer``,
    ``peak_gb`` of the whole process, ``start_gb`` of it before the work (imports and data).
    """
    estimated = 0.0
    if what == "eer":
        distances, labels = synthetic_trials(size)
    else:
        cell, labels = synthetic_cell(size)
    start_gb, start = peak_gb(), time.perf_counter()
    if what == "eer":
        rate = eer(distances, labels, direction="distance").eer if who == "ours" else roc_eer(distances, labels)
        seconds = time.perf_counter() - start
    else:
        if who == "ours":
            from postproc.steps.chaining import ChainingCluster

            step = ChainingCluster(elbow_range=(2, LARGEST_K), n_init=1)  # one start, as scikit-learn's default
            start = time.perf_counter()
            distances = step(cell).distances
        else:
            sparse = size > SPARSE_ABOVE
            ks = SPARSE_KS if sparse else range(1, LARGEST_K + 1)
            distances, estimated = chaining(cell, ks, sets=1 if sparse else 4)
        seconds = time.perf_counter() - start + estimated
        rate = eer(distances, labels, direction="distance").eer
    return {
        "seconds": seconds,
        "estimated": estimated > 0,
        "eer": rate,
        "peak_gb": peak_gb(),
        "start_gb": start_gb,
    }


def measure_media(what: str, who: str, size: int) -> list[Record]:
    """Ways to do one thing, measured in this process: ``who``, ``figure``, ``unit``."""
    from experiments.bench import media as bench_media  # the networks take seconds to import
    from experiments.bench import recluster as bench_recluster

    measured: Any = getattr(bench_recluster if what == "recluster" else bench_media, what)
    return [{"who": who, "figure": measured(who, size), "unit": "GB"}] if what in WAYS else measured(size)


def run_apart(what: str, who: str, size: int) -> Any:
    """:func:`measure` or :func:`measure_media` in a fresh process, so that the peak memory is its own.

    Raises:
        RuntimeError: the process failed; holds its last line.
    """
    command = [sys.executable, "-m", "experiments.commands.bench", what, who, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"bench {what} {who} {size}: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def growth(smaller: Record, larger: Record) -> float:
    """Exponent x of our seconds ~ size^x between two sizes; 1 = the cost is linear."""
    seconds = larger["ours"]["seconds"] / smaller["ours"]["seconds"]
    return float(np.log(seconds) / np.log(larger["size"] / smaller["size"]))


def table_of(rows: list[Record]) -> Table:
    """A line per size: seconds of both, their ratio, the growth of ours since the line before, peak memory."""
    caption = (
        "* scikit-learn measured at some numbers of clusters, the others interpolated. "
        "Growth: our seconds ~ size^growth since the size before; 1 = linear."
    )
    table = Table(caption=caption)
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


def media_table_of(rows: list[Record]) -> Table:
    """A line per way: its figure, and how many times that of the first one, the plain way."""
    table = Table()
    for column in ("what", "size", "way", "figure", "ratio"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for row in rows:
        for way in row["ways"]:
            figure = f"{way['figure']:.3g} {way['unit']}"
            ratio = f"{way['figure'] / row['ways'][0]['figure']:.2f}"
            table.add_row(row["what"], str(row["size"]), way["who"], figure, ratio)
    return table


def main(command: str, argv: list[str]) -> int:
    """``bench eer|refine|train_step|loader|memory|recluster|all [--sizes N...] [--out bench.json]``."""
    parser = argparse.ArgumentParser(prog=f"experiments.run {command}", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", choices=(*SIZES, "train_step", "loader", "memory", "recluster", "all"), help="which")
    text = "trials (eer), items per modality (refine), pairs (train_step, memory), batches (loader), clips (recluster)"
    parser.add_argument("--sizes", type=int, nargs="+", help=text)
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    options = parser.parse_args(argv)
    chosen = [*SIZES, *MEDIA_SIZES] if options.what == "all" else MEASURED.get(options.what, [options.what])
    rows: list[Record] = []
    try:
        for what in chosen:
            for size in options.sizes or SIZES.get(what) or [MEDIA_SIZES[what]]:
                rows.append(_compare(what, size))
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = table_console()
    for table, part in (
        (table_of, [r for r in rows if "ours" in r]),
        (media_table_of, [r for r in rows if "ways" in r]),
    ):
        if part:
            console.print(table(part))
    if options.out is not None:
        write_json(options.out, rows)
        print(f"written: {options.out}")
    return 0


def _compare(what: str, size: int) -> Record:
    """All ways to do one thing, each said when it is done."""
    row: Record = {"what": what, "size": size}
    if what in SIZES:
        for who in ("ours", "sklearn"):
            row[who] = run_apart(what, who, size)
            print(f"{what} {who} {size}: {row[who]['seconds']:.2f} s", file=sys.stderr, flush=True)
        return row
    row["ways"] = [way for who in WAYS.get(what, ("all",)) for way in run_apart(what, who, size)]
    return row


if __name__ == "__main__":
    measured = measure if sys.argv[1] in SIZES else measure_media
    print(json.dumps(measured(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
