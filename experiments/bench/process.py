"""What a measuring process says of itself."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(f"bench {text}", file=sys.stderr, flush=True)


def peak_gb() -> float:
    """GB, of this program alone."""
    if Path("/proc/self/status").exists():  # Linux's ru_maxrss starts at the size of the process that forked this one
        return _peak_gb("self")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)


def below(process: str = "self") -> tuple[float, float]:
    """CPU seconds and GB of the living processes that a process has started, and that these have; 0 except on Linux.

    Returns:
        Their seconds, with those of processes that they have waited for, and the sum of their peaks.
    """
    seconds = memory = 0.0
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        for child in listed.read_text().split():
            with suppress(OSError):  # it has ended meanwhile
                ticks = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:15]
                deeper, peak = below(child), _peak_gb(child)
                seconds += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") + deeper[0]
                memory += peak + deeper[1]
    return seconds, memory


def _peak_gb(process: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    peaks = (int(line.split()[1]) for line in lines if line[:6] == "VmHWM:")  # none of a process that has ended
    return next(peaks, 0) / (1 << 20)
