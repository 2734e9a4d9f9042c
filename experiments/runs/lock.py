"""One run at a time in a run folder, and one command in a folder of many runs."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.io.text import plain_file
from datamodules.io.writing import make_folder, write_json
from datamodules.schema import DataError
from experiments.runs.folder import forget_failed_start, missing_of

NOTE, LOCK = "run.lock", ".run.lock"
"""Who owns the folder, for people and other hosts; and the file that the operating system locks."""


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Holds the run folder. For one process of a run (rank 0).

    The kernel releases the lock of a process that dies, so the note of a dead process on this host is taken over. So is
    the note of another host if it is of the same SLURM job, which was requeued. Where the file system passes no locks
    between hosts, the note protects its owner.

    Raises:
        DataError: another run holds it; names its host, process and job.
    """
    note, lock = run_dir / NOTE, FileLock(run_dir / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(f"{_held(run_dir, _read(note))}; wait for it or choose another --run_dir") from None
    except NotImplementedError:
        warnings.warn(f"{run_dir}: no locks on this file system; make sure that only one run uses it", stacklevel=3)
    try:
        owner = _read(note)
        us = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
        requeued = us["job"] is not None and owner.get("job") == us["job"]
        if owner and owner["host"] != us["host"] and not requeued:
            raise DataError(f"{_held(run_dir, owner)}; if that run is dead, remove {note}")
        write_json(note, us)
        try:
            yield
        finally:
            note.unlink(missing_ok=True)
    finally:
        lock.release()


@contextmanager
def exclusive(out: Path, more: str = "") -> Iterator[None]:
    """Makes the folder of a command and holds it, so that two commands do not do the same work, or mix their files.

    A folder that was made and has nothing in it goes again after an error.

    Args:
        out: the folder.
        more: what to do where another command holds it.

    Raises:
        DataError: another process holds it.
    """
    with ExitStack() as held:
        held.push(partial(forget_failed_start, missing_of(out)))
        make_folder(out)
        file = held.enter_context(plain_file(out / ".lock").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{out}: another command is at work in it; {more or 'wait for it'}") from None
        yield


def _read(note: Path) -> dict[str, Any]:
    """Who owns the folder; empty where the owner has not written it yet, or has finished."""
    try:
        owner: dict[str, Any] = json.loads(plain_file(note).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return owner


def _held(run_dir: Path, owner: dict[str, Any]) -> str:
    who = f"host {owner['host']}, pid {owner['pid']}, job {owner['job']}" if owner else "a process that is starting"
    return f"run folder {run_dir} is in use by another run: {who}"
