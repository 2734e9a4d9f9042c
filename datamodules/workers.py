"""Worker processes that end with the process that started them."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import warnings
from multiprocessing import parent_process
from pathlib import Path

SHARED = Path("/dev/shm")
NEEDED = 96 << 20
"""Bytes of shared memory for each loader process: two batches of 64 recordings and pictures."""


def has_shared_memory(workers: int) -> bool:
    """Whether there is room for what loader processes hand over; a process that finds none is killed, or waits.

    Args:
        workers: their number.

    Returns:
        False with a warning where there is too little, as in containers, which have 64 MB unless told otherwise.
    """
    if not workers or not SHARED.is_dir() or (free := shutil.disk_usage(SHARED).free) >= NEEDED * workers:
        return True
    warnings.warn(
        f"data.num_workers: {workers} loader processes need {NEEDED * workers >> 20} MB of shared memory, {SHARED} has "
        f"{free >> 20} MB free; batches are read without them; give a container more (docker run --shm-size=8g)",
        stacklevel=2,
    )
    return False


def end_with_parent() -> None:
    """Ends this process when its parent ends, for whatever reason. Use it as the initializer of a process pool.

    The workers of a pool wait for work at a pipe that they hold open themselves. Without this, a killed parent leaves
    them behind with all their memory.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
