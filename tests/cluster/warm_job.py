"""What a job runs as Python where its imports would take most of a test: ``fit`` is forked from the tests' server.

The job itself, its signals, output and exit status are as they would be with a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from tests import warm

FORWARDED = (signal.SIGTERM, signal.SIGUSR1)


def write_python(path: Path) -> None:
    """A program that is Python, but hands the ``fit`` of ``python -m experiments.run fit`` to the server."""
    fork = f'exec {sys.executable} -m tests.cluster.warm_job {warm.address()} "$@"'
    path.write_text(f'#!/bin/sh\nif [ "$3" = fit ]; then {fork}; fi\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)


def main(address: str, *arguments: str) -> int:
    """Runs a command at the server, and ends as it ends."""
    warm.use(address)
    process = warm.start(*arguments, folder=Path.cwd())

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    output, _ = process.communicate()
    print(output, end="", flush=True)
    if process.returncode < 0:
        signal.signal(-process.returncode, signal.SIG_DFL) if -process.returncode != signal.SIGKILL else None
        os.kill(os.getpid(), -process.returncode)
    return process.returncode


if __name__ == "__main__":
    server, _, _, *command = sys.argv[1:]  # -m experiments.run
    sys.exit(main(server, *command))
