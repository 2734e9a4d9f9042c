"""What a measuring process says of itself."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(f"bench {text}", file=sys.stderr, flush=True)


def peak_gb() -> float:
    """GB, of this program alone."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss starts at the size of the process that forked this one
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line[:6] == "VmHWM:") / (1 << 20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)
