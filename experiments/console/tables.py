"""Tables on the terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

WIDTH = 220  # of what is no terminal: in a log, names are searched for and must not be broken

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table_console() -> Console:
    """As wide as the terminal; in a file, wide enough that no table is folded. Names in brackets are no markup."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def percent(rate: float | None) -> str:
    """A rate (0..1) in percent with one decimal; ``-`` for None and NaN."""
    return "-" if rate is None or rate != rate else f"{100 * rate:.1f}"


def counted(number: int, word: str, several: str | None = None) -> str:
    """``1 run``, ``2 runs``; ``several`` is the plural where it is not the word and an s."""
    return f"{number} {word if number == 1 else several or f'{word}s'}"


def defused(value: Any) -> Any:
    """A value of a CSV; text that a spreadsheet would read as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
