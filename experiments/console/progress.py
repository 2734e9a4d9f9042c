"""Progress of long work: a Rich bar on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import track as rich_track

TENTHS = 10
T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int, stream: TextIO | None = None) -> Iterator[T]:
    """Passes the items on under a bar on a terminal; elsewhere prints a line per tenth of them.

    Args:
        items: what is worked on, or what has just been finished.
        what: they are called.
        total: how many.
        stream: where progress goes; default: stderr.
    """
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        yield from rich_track(items, what, total=total, console=Console(file=stream))
        return
    start, every = time.monotonic(), max(1, total // TENTHS)
    for done, item in enumerate(items, 1):
        yield item
        if done % every == 0 or done == total:
            print(f"{what} {done}/{total}, {times(start, done, total)}", file=stream, flush=True)


def times(start: float, done: float, total: float) -> str:
    """Time since ``start`` (of ``time.monotonic``) and, where the total is known, what is left."""
    spent = time.monotonic() - start
    left = "" if total == float("inf") or not done else f", {clock(spent / done * (total - done))} left"
    return f"{clock(spent)}{left}"


def clock(seconds: float) -> str:
    """``h:mm:ss``."""
    return str(timedelta(seconds=round(seconds)))
