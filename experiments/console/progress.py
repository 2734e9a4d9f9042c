"""Progress of long work: a Rich bar on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TENTHS = 10
T = TypeVar("T")


@contextmanager
def progress(what: str, total: int, stream: TextIO | None = None) -> Iterator[Callable[[int], None]]:
    """Shows how much is done: a bar on a terminal, a line per tenth elsewhere.

    Args:
        what: the items are called.
        total: how many.
        stream: where progress goes; default: stderr.

    Yields:
        A function that takes how many more are done.
    """
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(file=stream)) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, start = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        if done * TENTHS // max(1, total) > before * TENTHS // max(1, total):
            print(f"{what} {done}/{total}, {times(start, done, total)}", file=stream, flush=True)

    yield advance


def track(items: Iterable[T], what: str, total: int, stream: TextIO | None = None) -> Iterator[T]:
    """Passes items on and shows how many are done, as :func:`progress` does.

    Args:
        items: what is worked on, or what has just been finished.
        what: they are called.
        total: how many.
        stream: where progress goes; default: stderr.
    """
    with progress(what, total, stream) as advance:
        for item in items:
            yield item
            advance(1)


def times(start: float, done: float, total: float) -> str:
    """Time since ``start`` (of ``time.monotonic``) and, where the total is known, what is left."""
    spent = time.monotonic() - start
    left = "" if total == float("inf") or not done else f", {clock(spent / done * (total - done))} left"
    return f"{clock(spent)}{left}"


def clock(seconds: float) -> str:
    """``h:mm:ss``."""
    return str(timedelta(seconds=round(seconds)))
