"""One run at a time in a run folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datamodules.schema import DataError

NAME = "run.lock"


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Holds the run folder. For one process of a run (rank 0).

    The kernel drops the lock of a process that dies, so a stale file on this host is taken over; so is one of another
    host if it is of the same SLURM job, which was requeued. Where the file system passes no locks between hosts, the
    owner's name in the file protects it.

    Raises:
        DataError: another run holds it: its host, process and job.
    """
    path = run_dir / NAME
    descriptor = _open_locked(path)
    try:
        owner, us = _read(descriptor), {"host": socket.gethostname(), "pid": os.getpid(), "job": _job()}
        requeued = us["job"] is not None and owner.get("job") == us["job"]
        if owner and owner["host"] != us["host"] and not requeued:
            raise DataError(f"{_held(run_dir, owner)}; if that run is dead, remove {path}")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(us).encode(), 0)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # a POSIX lock: not inherited by forked loader workers, which may outlive the run by seconds
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            owner = _read(descriptor)
            os.close(descriptor)
            raise DataError(f"{_held(path.parent, owner)}; wait for it or choose another --run_dir") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
            warnings.warn(f"{path}: no locks on this file system; see to it that one run alone uses it", stacklevel=3)
        try:
            same = os.fstat(descriptor).st_ino == path.stat().st_ino
        except FileNotFoundError:  # the one who held it has just finished and removed the file
            same = False
        if same:
            return descriptor
        os.close(descriptor)


def _job() -> str | None:
    return os.environ.get("SLURM_JOB_ID")


def _read(descriptor: int) -> dict[str, Any]:
    text = os.pread(descriptor, 4096, 0)
    try:
        found: dict[str, Any] = json.loads(text)
        return found
    except ValueError:  # empty: its owner is only starting, or finished
        return {}


def _held(run_dir: Path, owner: dict[str, Any]) -> str:
    who = f"host {owner['host']}, pid {owner['pid']}, job {owner['job']}" if owner else "a process that is starting"
    return f"run folder {run_dir} is in use by another run: {who}"
