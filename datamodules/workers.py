"""Worker processes that end with the process that started them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

from datamodules.schema import DataError

SHARED = Path("/dev/shm")
Loader = TypeVar("Loader")
MOST = 8
"""Loader processes of a rank that its cores ask for; more feed no GPU better."""
NEEDED = 96 << 20
"""Bytes of shared memory for each loader process: two batches of 64 recordings and pictures."""
_SOCKET_PATH = 107 - len("/pymp-xxxxxxxx/listener-xxxxxxxx")
"""The longest name of a temporary folder that leaves room for a socket in it (sun_path of Linux)."""


def make_loader(
    kind: Callable[..., Loader], dataset: Any, workers: int, option: str = "data.num_workers", **more: Any
) -> Loader:
    """A loader whose processes end with this one, and have the shared memory that they need.

    Args:
        kind: ``DataLoader`` of torch, or a class of ours that derives from it.
        dataset: of the loader.
        workers: loader processes; where there is too little shared memory for them, none, with a warning.
        option: where the user has set their number, for messages.
        **more: its other options.

    Raises:
        DataError: the temporary folder has too long a name for the sockets of loader processes.
    """
    room = _SOCKET_PATH - len(tempfile.gettempdir())
    if workers and room < 0:
        raise DataError(
            f"{option}: {workers} loader processes hand batches over by sockets in {tempfile.gettempdir()}, whose name "
            f"is {-room} characters too long for that; set TMPDIR to a shorter folder, or {option} to 0"
        )
    workers = workers if has_shared_memory(workers, option) else 0
    if not workers:
        return kind(dataset, **more | {"persistent_workers": False})
    return kind(dataset, num_workers=workers, worker_init_fn=_begin, **more)


def workers_by_cores(ranks: int) -> int:
    """Loader processes of a rank: one for each core that it has, at most eight.

    Args:
        ranks: ranks on this machine, which share its cores; SLURM gives each its own.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(MOST, int(own) if own.isdecimal() else cores // ranks))


def has_shared_memory(workers: int, option: str = "data.num_workers") -> bool:
    """Whether there is room for what loader processes hand over; a process that finds none is killed, or waits.

    Args:
        workers: their number.
        option: where the user has set it.

    Returns:
        False with a warning where there is too little, as in containers, which have 64 MB unless told otherwise.
    """
    if not workers or not SHARED.is_dir() or (free := shutil.disk_usage(SHARED).free) >= NEEDED * workers:
        return True
    warnings.warn(
        f"{option}: {workers} loader processes need {NEEDED * workers >> 20} MB of shared memory, {SHARED} has "
        f"{free >> 20} MB free; batches are read without them; give a container more (docker run --shm-size=8g)",
        stacklevel=2,
    )
    return False


@contextmanager
def process_pool(
    workers: int, begin: Callable[[], object] | None = None, preload: Sequence[str] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that end with this one, however it ends: finished, stopped or killed.

    After Ctrl-C and SIGTERM they get SIGTERM, so that a fit saves its step; Ctrl-C itself does not reach them, which
    would end each of them with a traceback.

    Args:
        workers: their number.
        begin: called first in each of them.
        preload: modules that take seconds to import; one process imports them for all workers.
    """
    # this process may have threads, so workers must not be forked from it
    context = get_context("forkserver")
    context.set_forkserver_preload(["datamodules.orphans", *preload])
    resource_tracker.ensure_running()  # while it starts it lets Ctrl-C through again
    with without_interrupts():
        forkserver.ensure_running()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_of_pool, initargs=(begin,))
    try:
        yield pool
    except (KeyboardInterrupt, SystemExit):
        pool.shutdown(wait=False, cancel_futures=True)
        while children := active_children():  # again, where one has taken the next job before it was cancelled
            for child in children:
                child.terminate()
            wait([child.sentinel for child in children], timeout=1)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that are started in this block do not get Ctrl-C; this one gets it at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_of_pool(begin: Callable[[], object] | None) -> None:
    end_with_parent()
    if begin is not None:
        begin()


def _begin(worker: int) -> None:
    """What a loader process does first; Lightning seeds only those that have nothing to do first."""
    if os.environ.get("PL_SEED_WORKERS") == "1":
        # Lightning takes seconds to import; where it has set the variable, it is there
        from lightning.fabric.utilities.seed import pl_worker_init_function

        pl_worker_init_function(worker)
    end_with_parent()


def end_with_parent() -> None:
    """Ends this process when its parent ends, for whatever reason.

    The workers of a pool wait for work at a pipe that they hold open themselves, and loader processes look for their
    parent every five seconds. Without this, a killed parent leaves them behind with all their memory.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
