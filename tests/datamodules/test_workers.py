"""Processes of a pool."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASKED = """
import signal
from datamodules.workers import process_pool

if __name__ == "__main__":
    with process_pool(1) as pool:
        print(signal.SIGINT in pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()).result())
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


@pytest.mark.processes
def test_ctrl_c_reaches_the_command_and_none_of_its_workers() -> None:
    # in a process of its own, whose first pool starts what serves all pools
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"], done.stderr
