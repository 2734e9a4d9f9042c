"""Many ``fit`` commands, several at a time. Each has its own folder with its log and its state."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.io.documents import read_json, read_mapping
from datamodules.io.writing import CannotWrite, remove_file, together, write_json, write_text
from datamodules.schema import DataError
from datamodules.workers import process_pool
from experiments.console.errors import exit_status, logged
from experiments.console.progress import track
from experiments.runs.folder import HOLDS_A_RUN
from experiments.runs.records import read_records

Main = Callable[[str, list[str]], int]
Check = Callable[[str, list[str]], object]
LAST = 1 << 16  # bytes of a log that are looked at
SIGNALS = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Fit:
    """One ``fit``. Its folder holds the run and ``command.json``, ``state.json``, ``log.txt``.

    Attributes:
        folder: the run folder.
        command: arguments of ``experiments.run``, the run folder among them.
    """

    folder: Path
    command: tuple[str, ...]

    def results(self) -> dict[str, Any] | None:
        """results.json, if this very command has run to its end."""
        results = self.folder / "results.json"
        return read_records(results) if results.exists() and self._is_noted() else None

    def _is_noted(self) -> bool:
        """Whether the folder holds a start of this very command."""
        path = self.folder / "command.json"
        return path.exists() and read_json(path) == list(self.command)

    def state(self) -> dict[str, Any]:
        """What was noted when it started and when it ended; empty if it never started."""
        path = self.folder / "state.json"
        return read_mapping(path) if path.exists() else {}

    def refuse_other(self) -> None:
        """Refuses a folder with the run of another command, which would be lost or continued.

        Raises:
            DataError: it holds one.
        """
        if self._is_noted():
            return
        if held := [file for file in HOLDS_A_RUN if (self.folder / file).exists()]:
            raise DataError(
                f"{self.folder}: holds the run of another command ({', '.join(held)}); remove the folder to make it "
                "again, or choose another --out"
            )

    def start(self) -> None:
        """Notes that this process runs it; results of an earlier command go."""
        with together(self.folder):
            remove_file(self.folder / "results.json")
            write_text(self.folder / "command.json", json.dumps(self.command))
            self._note({"state": "running", "host": socket.gethostname(), "pid": os.getpid(), "started": time.time()})

    def continued(self) -> list[str]:
        """Arguments of the command; an earlier start of it is continued."""
        resumes = any(argument.startswith("--resume") for argument in self.command)
        return [*self.command[1:], *([] if resumes else ["--resume=auto"])]

    def end(self, status: int) -> str | None:
        """Notes how it ended; the error line if it failed."""
        error = None
        if status:
            log = self.folder / "log.txt"
            lines = _tail(log).strip().splitlines() if log.is_file() else []
            error = f"{self.folder}: {lines[-1] if lines else f'exit status {status}'}"
        state = "finished" if status == 0 else "killed" if status < 0 or status - 128 in SIGNALS else "failed"
        self._note(self.state() | {"state": state, "ended": time.time(), "error": error})
        return error

    def run(self, main: Main) -> str | None:
        """Runs it in this process, its output in log.txt.

        Args:
            main: what runs a command: its name and arguments in, its exit status out.

        Returns:
            The error line if it failed.
        """
        status = 1
        try:
            self.start()
            with logged(self.folder / "log.txt", "ab"):
                status = exit_status(partial(main, self.command[0], self.continued()))
            # model, data and trainer refer to each other; with so much imported, Python rarely collects such cycles,
            # and the next fit would have the memory of those before it
            gc.collect()
            return self.end(status)
        except CannotWrite as error:
            return str(error)

    def _note(self, state: dict[str, Any]) -> None:
        write_json(self.folder / "state.json", state)


def _tail(path: Path) -> str:
    """The end of a log, which may have grown to any size."""
    with path.open("rb") as file:
        file.seek(-min(LAST, path.stat().st_size), os.SEEK_END)
        return file.read().decode("utf-8", "replace")


def check_fits(fits: Sequence[Fit], check: Check) -> None:
    """Refuses wrong arguments and folders of other runs before the first fit starts.

    Arguments are read of as many fits as it takes to have read each argument once.

    Args:
        fits: what is to run.
        check: reads the arguments of a command.

    Raises:
        DataError: a fit has wrong ones, or its folder holds another run; names the folder.
    """
    read: set[str] = set()
    for fit in fits:
        fit.refuse_other()
        arguments = [argument for argument in fit.command[1:] if not argument.startswith("--run_dir=")]
        if read.issuperset(arguments):
            continue
        read.update(arguments)
        try:
            check(fit.command[0], arguments)
        except DataError as error:
            raise DataError(f"{fit.folder.name}: {error}; no fit was started") from error


def run_fits(fits: Sequence[Fit], main: Main, parallel: int, what: str = "fits") -> None:
    """Runs fits over ``parallel`` processes; as :func:`run_jobs`."""
    run_jobs([partial(fit.run, main) for fit in fits], parallel, what, preload=("lightning.pytorch",))


def run_jobs(jobs: Sequence[Callable[[], str | None]], parallel: int, what: str, preload: Sequence[str] = ()) -> None:
    """Runs jobs over ``parallel`` processes; says at once which failed.

    Args:
        jobs: each returns an error line if it failed.
        parallel: how many at once.
        what: the jobs are called in the progress line.
        preload: modules that take seconds to import; one process imports them for all workers.

    Raises:
        DataError: some failed or a process died; what has finished is kept.
    """
    if not jobs:
        return
    # one thread each: the models are small, and fits in parallel would fight over the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    failures: list[str] = []
    workers = min(parallel, len(jobs))
    with process_pool(workers, partial(_begin, dict(os.environ)), preload) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in track(as_completed(futures), what, len(jobs)):
                if (failure := future.result()) is not None:
                    failures.append(failure)
                    print(f"failed: {failure}", file=sys.stderr, flush=True)
        except BrokenProcessPool:
            raise DataError("a process died (killed, or out of memory); run the same command to continue") from None
    if failures:
        raise DataError(f"{len(failures)} of {len(jobs)} {what} failed, the first: {failures[0]}")


def _begin(environment: dict[str, str]) -> None:
    """Gives a worker the variables of the process it works for; the server has those of its own start."""
    os.environ.clear()
    os.environ.update(environment)
