"""Measures one thing in its own process: time, peak memory, and the EER that shows both ways agree."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import DataError, ScoredCell
from experiments.bench.process import peak_gb, say
from experiments.bench.sizes import SIZES, WAYS
from experiments.bench.sklearn_baseline import ALPHA, KEEP, REWARD, chaining, roc_eer
from postproc.metrics.roc import eer

WIDTH, TRIALS, PEOPLE, LARGEST_K = 768, 1_000_000, 40, 64
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
    """``items`` voices and faces of 40 identities, gender the dominant direction, and a million labelled trials.

    The identities of a gender form two groups far apart. So the largest drop of the elbow is at two clusters, and
    k-means finds the groups from any start: the refined scores have one right value, whatever the starts are.
    """
    rng = np.random.default_rng(0)
    traits = rng.normal(size=(PEOPLE, WIDTH)).astype(np.float32)
    traits[:, 0] += np.where(np.arange(PEOPLE) % 2, 300, -300)
    traits[:, 1] += np.where(np.arange(PEOPLE) % 4 < 2, 60, -60)
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
    noisy = 1 - similarity + 0.02 * rng.normal(size=TRIALS)
    return ScoredCell(noisy, voice, face, *spaces), (person[0][voice] == person[1][face]).astype(np.int8)


def measure(what: str, who: str, size: int) -> Record:
    """One measurement in this process.

    Returns:
        ``seconds``, ``estimated`` (whether parts of them were extrapolated), ``eer``, ``peak_gb`` of the whole process
        and ``start_gb`` of it before the work (imports and data).
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
            from postproc.steps.chaining.step import ChainingCluster
            from postproc.steps.chaining.thresholds import Threshold

            keep, reward = Threshold(quantile=KEEP), Threshold(quantile=REWARD)
            step = ChainingCluster("elbow", (2, LARGEST_K), keep, keep, reward, ALPHA, n_init=1)  # one start, as theirs
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
    # the networks take seconds to import, and add to the peak memory of what is measured without them
    from experiments.bench import media, recluster

    measured: Any = getattr(recluster if what == "recluster" else media, what)
    return [{"who": who, "figure": measured(who, size), "unit": "GB"}] if what in WAYS else measured(size)


def run_apart(what: str, who: str, size: int) -> Any:
    """:func:`measure` or :func:`measure_media` in a fresh process, so that the peak memory is its own.

    Raises:
        DataError: the process failed; holds its last line.
    """
    command = [sys.executable, "-m", "experiments.bench.compare", what, who, str(size)]
    last = ""
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(command, stdout=out, stderr=PIPE, text=True, cwd=Path(__file__).parents[2]) as process,
    ):
        for line in process.stderr or ():
            last = line.strip() or last
            if line.startswith("bench "):  # progress; what libraries say is only for errors
                print(line, end="", file=sys.stderr, flush=True)
        status = process.wait()
        out.seek(0)
        lines = out.read().splitlines()
    if status:
        raise DataError(f"bench {what} {who} {size}: {last or f'exit status {status}'}")
    return json.loads(lines[-1])


def compare(what: str, size: int) -> Record:
    """All ways to do one thing, each said when it is done."""
    row: Record = {"what": what, "size": size}
    if what in SIZES:
        for who in ("ours", "sklearn"):
            row[who] = run_apart(what, who, size)
            say(f"{what} {who} {size}: {row[who]['seconds']:.2f} s")
        return row
    row["ways"] = [way for who in WAYS.get(what, ("all",)) for way in run_apart(what, who, size)]
    return row


if __name__ == "__main__":
    measured = measure if sys.argv[1] in SIZES else measure_media
    print(json.dumps(measured(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
