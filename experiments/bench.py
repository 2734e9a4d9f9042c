"""``bench``: times EER and refinement against scikit-learn; each measurement is a process of its own."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from datamodules.schema import ScoredCell
from experiments.bench_baseline import chaining, roc_eer
from experiments.results import write_json
from postproc.roc import eer

WIDTH, TRIALS, PEOPLE, LARGEST_K = 768, 1_000_000, 40, 64
SIZES = {"eer": (1_000_000, 10_000_000), "refine": (1_000, 10_000, 100_000)}
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
    ``peak_gb`` of the whole process, ``start_gb`` of it before the work (imports and data)."""
    estimated = 0.0
    if what == "eer":
        distances, labels = synthetic_trials(size)
    else:
        cell, labels = synthetic_cell(size)
    start_gb, start = _peak_gb(), time.perf_counter()
    if what == "eer":
        rate = eer(distances, labels, direction="distance").eer if who == "ours" else roc_eer(distances, labels)
        seconds = time.perf_counter() - start
    else:
        if who == "ours":
            from postproc.chaining import ChainingCluster

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
        "peak_gb": _peak_gb(),
        "start_gb": start_gb,
    }


def _peak_gb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss starts at the size of the process that forked this one
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:") / (
            1 << 20
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)


def run_apart(what: str, who: str, size: int) -> Record:
    """:func:`measure` in a fresh process, so that the peak memory is its own.

    Raises:
        RuntimeError: the process failed; holds its last line.
    """
    command = [sys.executable, "-m", "experiments.bench", what, who, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"bench {what} {who} {size}: {said[-1]}")
    record: Record = json.loads(done.stdout.splitlines()[-1])
    return record


def table_of(rows: list[Record]) -> Table:
    """A line per size: seconds of both, their ratio, peak memory."""
    table = Table(caption="* scikit-learn measured at some numbers of clusters, the others interpolated.")
    for column in ("what", "size", "ours s", "scikit-learn s", "ratio", "ours GB", "scikit-learn GB", "EERs"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        ours, other = row["ours"], row["sklearn"]
        times = f"{ours['seconds']:.2f}", f"{other['seconds']:.1f}{'*' if other['estimated'] else ''}"
        ratio = f"{other['seconds'] / ours['seconds']:.1f}"
        rates = f"{100 * ours['eer']:.3f} {100 * other['eer']:.3f}"
        memory = f"{ours['peak_gb']:.2f}", f"{other['peak_gb']:.2f}"
        table.add_row(row["what"], f"{row['size']:.0e}", *times, ratio, *memory, rates)
    return table


def main(command: str, argv: list[str]) -> int:
    """``bench eer|refine|all [--sizes N...] [--out bench.json]``."""
    parser = argparse.ArgumentParser(prog=f"experiments.run {command}", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", choices=("eer", "refine", "all"), help="which measurements")
    parser.add_argument("--sizes", type=int, nargs="+", help="trials (eer) or items per modality (refine)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    options = parser.parse_args(argv)
    rows: list[Record] = []
    try:
        for what in SIZES if options.what == "all" else [options.what]:
            for size in options.sizes or SIZES[what]:
                row: Record = {"what": what, "size": size}
                for who in ("ours", "sklearn"):
                    row[who] = run_apart(what, who, size)
                    print(f"{what} {who} {size}: {row[who]['seconds']:.2f} s", file=sys.stderr, flush=True)
                rows.append(row)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console(width=None if sys.stdout.isatty() else 120).print(table_of(rows))
    if options.out is not None:
        write_json(options.out, rows)
    return 0


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
