"""Processes that do not outlive the one they work for."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Ends this process when the one that started it ends, however that was: the initializer of a pool's processes.

    A pool's processes wait for work at a pipe that they hold open themselves. So a parent that is killed leaves them
    behind, with all their memory, until somebody finds them.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
