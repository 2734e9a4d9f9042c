"""Kills short fits at random moments until each has ended: python -m tests.faults.soak --runs 200

Every run is `fit --config demo.yaml`, shrunk, and is relaunched with `--resume auto` after each SIGTERM or SIGKILL. In
the end it has the metrics of a run that was left alone, each checkpoint can be read, and nothing is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tests import warm

TOLERANCE = 1e-6  # absolute, of every EER; same seed, same machine, same numbers
SHRUNK = [
    *("fit", "--config", "demo.yaml", "--pictures=false", "--logger=null", "--resume=auto"),
    *("--trainer.max_epochs=6", "--trainer.enable_progress_bar=false", "--model.network.dropout=0.3"),
    *("--data.identities=24", "--data.clips=6", "--data.steps_per_epoch=10"),
    *("--data.val_identities=4", "--data.val_trials=200"),
]
KILLS = 2  # of a run at most; then it is let through
TIME_OUT = 600.0


@dataclass
class Outcome:
    """What became of a run. Memory in MB, at the highest of the last session; disk in kB."""

    run: int
    sigterm: int
    sigkill: int
    sessions: int
    seconds: float
    difference: float
    unreadable: int
    leaked: int
    rss: float
    disk: float
    files: int
    error: str = ""


def session(folder: Path, cache: Path, kill: tuple[signal.Signals, float] | None) -> tuple[int, float, float, int]:
    """One launch: its status, wall time, peak memory in MB, and processes of it that are still there at the end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VOICEFACE_CACHE": str(cache)}
    started = time.monotonic()
    process = warm.start(*SHRUNK, f"--run_dir={folder}", environment=environment)
    seen, peak = psutil.Process(process.pid), 0.0
    family: dict[int, psutil.Process] = {}
    while process.poll() is None:
        try:
            peak = max(peak, seen.memory_info().rss / 1e6)
            family |= {child.pid: child for child in seen.children(recursive=True)}
        except psutil.NoSuchProcess:
            break
        elapsed = time.monotonic() - started
        if kill is not None and elapsed > kill[1]:
            process.send_signal(kill[0])
            kill = None
        if elapsed > TIME_OUT:
            process.kill()
        time.sleep(0.05)
    status = process.wait()
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        log.write(process.communicate()[0])
    psutil.wait_procs(family.values(), timeout=10)
    return status, time.monotonic() - started, peak, sum(child.is_running() for child in family.values())


def unreadable(folder: Path) -> int:
    from experiments.runs.checkpoints import CheckpointError, read_checkpoint

    count = 0
    for path in folder.glob("checkpoints/*.ckpt"):
        try:
            read_checkpoint(path)
        except CheckpointError:
            count += 1
    return count


def metrics(folder: Path) -> dict[str, float]:
    """Every number of results.json by its path."""
    found: dict[str, float] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}/{key}", inner)
        elif isinstance(value, int | float):
            found[prefix] = float(value)

    walk("", json.loads((folder / "results.json").read_text()))
    return found


def one_run(number: int, seed: int, work: Path, usual: float, expected: dict[str, float]) -> Outcome:
    """Kills a run up to ``KILLS`` times, each time anywhere in the time it usually takes, and lets it end."""
    draw = random.Random(f"{seed}/{number}")
    folder = work / f"run{number:04d}"
    counts = {signal.SIGTERM: 0, signal.SIGKILL: 0}
    bad = leaked = sessions = 0
    started, status, peak = time.monotonic(), -1, 0.0
    while status != 0 and sessions <= KILLS:
        kill = None
        if sessions < KILLS:
            kill = draw.choice(list(counts)), draw.uniform(0.0, 1.1 * usual)
        status, _, peak, left = session(folder, work / "cache", kill)
        sessions += 1
        leaked += left
        bad += unreadable(folder)
        if kill is not None and status != 0:
            counts[kill[0]] += 1
            if status not in (-kill[0], 128 + kill[0]):
                break
    files = [path for path in folder.rglob("*") if path.is_file()]
    outcome = Outcome(
        *(number, counts[signal.SIGTERM], counts[signal.SIGKILL], sessions, time.monotonic() - started, 0.0),
        *(bad, leaked, peak, sum(path.stat().st_size for path in files) / 1e3, len(files)),
    )
    if status != 0:
        outcome.error = f"status {status}, see {folder}.log"
        return outcome
    found = metrics(folder)
    if found.keys() != expected.keys():
        outcome.error = "other metrics than the uninterrupted run"
        return outcome
    outcome.difference = max(abs(found[key] - expected[key]) for key in expected)
    if outcome.difference > TOLERANCE:
        outcome.error = f"differs by {outcome.difference:.3g}"
    shutil.rmtree(folder)
    return outcome


def soak(runs: int, seed: int, parallel: int, work: Path, minutes: float) -> dict[str, object]:
    """Runs them, not starting more after ``minutes``; the figures."""
    reference, started = work / "reference", time.monotonic()
    status, usual, memory, _ = session(reference, work / "cache", None)
    assert status == 0, (work / "reference.log").read_text()[-2000:]
    status, usual, memory, _ = session(work / "fresh", work / "cache", None)
    assert status == 0, (work / "fresh.log").read_text()[-2000:]
    expected = metrics(reference)
    repeat = max(abs(metrics(work / "fresh")[key] - expected[key]) for key in expected)
    size = sum(path.stat().st_size for path in reference.rglob("*") if path.is_file()) / 1e3

    def bounded(number: int) -> Outcome | None:
        if time.monotonic() - started > 60 * minutes:
            return None
        return one_run(number, seed, work, usual, expected)

    with ThreadPoolExecutor(parallel) as pool:
        outcomes = [outcome for outcome in pool.map(bounded, range(runs)) if outcome is not None]
    half = len(outcomes) // 2
    rss = [outcome.rss for outcome in outcomes]
    return {
        "runs": len(outcomes),
        "asked_for": runs,
        "seed": seed,
        "sigterm": sum(o.sigterm for o in outcomes),
        "sigkill": sum(o.sigkill for o in outcomes),
        "sessions": sum(o.sessions for o in outcomes),
        "failed": [asdict(o) for o in outcomes if o.error],
        "largest_difference": max((o.difference for o in outcomes), default=0.0),
        "difference_of_two_uninterrupted": repeat,
        "unreadable_checkpoints": sum(o.unreadable for o in outcomes),
        "leaked_processes": sum(o.leaked for o in outcomes),
        "rss_mb_uninterrupted": round(memory, 1),
        "rss_mb_first_half": round(sum(rss[:half]) / max(half, 1), 1),
        "rss_mb_second_half": round(sum(rss[half:]) / max(len(rss) - half, 1), 1),
        "disk_kb_uninterrupted": round(size, 1),
        "disk_kb_largest": round(max((o.disk for o in outcomes), default=0.0), 1),
        "files_largest": max((o.files for o in outcomes), default=0),
        "seconds_uninterrupted": round(usual, 1),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=2, choices=(1, 2))
    parser.add_argument("--minutes", type=float, default=120.0, help="start no more runs after this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as work:
        figures = soak(arguments.runs, arguments.seed, arguments.parallel, Path(work), arguments.minutes)
    for name, value in figures.items():
        print(f"{name:<34} {value}")
    print(json.dumps(figures))
    return 1 if figures["failed"] or figures["unreadable_checkpoints"] or figures["leaked_processes"] else 0


if __name__ == "__main__":
    sys.exit(main())
