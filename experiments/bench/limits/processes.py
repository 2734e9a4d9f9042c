"""Runs benches in processes of their own, so that a row that crashes, hangs or fills the memory costs only itself."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

Row = dict[str, Any]
ROOT = Path(__file__).parents[3]  # of the checkout

GPU = {"rates": 20, "step": 170, "fbank": 25, "loss": 40, "kmeans": 55, "files": 55, "eer": 35, "ranks": 45}
"""Benches of ``bench gpu``, and seconds that each may take: below 8 minutes. What one leaves is for those after it."""

CPU = dict.fromkeys([*GPU, "refine", "startup"], 300) | {"step": 900}
"""Benches of ``bench cpu``."""

LONGEST = {"gpu": 70.0, "cpu": 300.0, "quick": 300.0}  # seconds of a row
FATAL = 3  # exit status of a process that a row has spoilt
LATE = "out of time"


def measure(benches: Mapping[str, float], target: str, device: str) -> Iterator[Row]:
    """Rows of all benches, as they come: ``what``, ``name`` and a measurement, or why there is none in ``failed``.

    Args:
        benches: the names, and seconds for each.
        target: which sizes.
        device: torch's name.
    """
    end, rates = time.monotonic(), {}
    for bench, seconds in benches.items():
        end += seconds
        for row in _bench(bench, target, device, end):
            if bench == "rates" and "seconds" in row:
                rates[row["name"]] = row["amount"] / row["seconds"]
            yield {"what": bench, **against_limit(row, rates)}


def against_limit(row: Row, rates: Mapping[str, float]) -> Row:
    """Adds ``limit_seconds``, ``limit`` (what it comes from) and ``ratio`` (of its speed), where there is one."""
    if "seconds" not in row:
        return row
    limits = {name: amount / rates[name] for name, amount in row["work"].items() if rates.get(name)}
    if row["best"]:
        limits["measured"] = row["best"]
    if not limits:
        return row
    which = max(limits, key=lambda name: limits[name])
    return {**row, "limit_seconds": limits[which], "limit": which, "ratio": limits[which] / row["seconds"]}


def _bench(bench: str, target: str, device: str, end: float) -> Iterator[Row]:
    """Rows of one bench. After a row that ended its process, another process measures the rest."""
    names: list[str] | None = None
    while names is None or names:
        running, limit, before = None, end, names and len(names)
        with tempfile.TemporaryFile("w+") as log, _process([bench, target, device, *(names or [])], log) as messages:
            while (message := _next(messages, limit)) is not None:
                if "cases" in message:
                    names = list(message["cases"]) if names is None else names
                elif "start" in message:
                    running, limit = message["start"], min(end, time.monotonic() + LONGEST[target])
                    print(f"bench {bench}: {running}", file=sys.stderr, flush=True)
                else:
                    assert names is not None
                    names.remove(message["name"])
                    running = None
                    yield message
            said = LATE if time.monotonic() >= limit else _last_line(log)
        if running is not None and names is not None:
            names.remove(running)
            yield {"name": running, "failed": said}
        if names is None or len(names) == before or time.monotonic() >= end:  # it could not even start, or time is up
            yield from ({"name": name, "failed": said} for name in (["all"] if names is None else names))
            return


class _process:
    """A process that measures; its messages come through a queue, None at its end. It is killed with the block."""

    def __init__(self, arguments: list[str], log: IO[str]) -> None:
        command = [sys.executable, "-m", "experiments.bench.limits.processes", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, cwd=ROOT
        )  # fmt: skip
        self.messages: Queue[Row | None] = Queue()

    def __enter__(self) -> Queue[Row | None]:
        threading.Thread(target=self._read, daemon=True).start()
        return self.messages

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.messages.put(json.loads(line))
        self.messages.put(None)

    def __exit__(self, *error: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _next(messages: Queue[Row | None], end: float) -> Row | None:
    try:
        return messages.get(timeout=max(0.1, end - time.monotonic()))
    except Empty:
        return None


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    return (log.read().strip().splitlines() or ["the process ended"])[-1]


def serve(bench: str, target: Any, device: str, names: list[str]) -> int:
    """Measures rows of a bench in this process, and writes a line of JSON for each to stdout.

    Returns:
        0, or :data:`FATAL` after an error that may have spoilt the process.
    """
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what libraries print is no message

        def send(message: Row) -> None:
            print(json.dumps(message), file=out, flush=True)

        # slow imports, and the parent needs none of them
        from experiments.bench.limits.setting import setting_of

        cases = import_module(f"experiments.bench.limits.{bench}").cases(setting_of(target, device))
        send({"cases": list(cases)})
        for name in names or list(cases):
            send({"start": name})
            row, spoilt = row_of(cases[name])
            send({"name": name, **row})
            if spoilt:
                return FATAL
    return 0


def row_of(case: Any) -> tuple[Row, bool]:
    """The row of a case, and whether an error may have spoilt the process."""
    import torch  # slow, and the parent needs it not

    try:
        return asdict(case()), False
    except ModuleNotFoundError as error:
        return {"failed": f"the package {error.name} is missing"}, False
    except (torch.cuda.OutOfMemoryError, MemoryError):
        return {"failed": "out of memory"}, False
    except Exception as error:
        return {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:200]}, True
    finally:
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    bench, target, device, *names = sys.argv[1:]
    sys.exit(serve(bench, target, device, names))
