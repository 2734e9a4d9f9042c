"""Ends the process that starts workers at once when the process that it serves is killed. The first that it imports.

By itself it looks whether that process lives only when its imports are done, and those take ten seconds.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def _end_with_parent() -> None:
    """In multiprocessing's fork server; in any other process nothing happens."""
    command = sys.orig_argv[-1] if sys.orig_argv[-2:-1] == ["-c"] else ""
    served = re.search(r"multiprocessing\.forkserver import main; main\(\d+, (\d+)", command)
    if served is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([int(served[1])], [], [], 0)[0]:  # killed before that: the pipe of the served process has ended
        os._exit(128 + signal.SIGTERM)


_end_with_parent()
