"""Worker processes that end with the process that started them."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import parent_process


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
