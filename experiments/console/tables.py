"""Tables on the terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from datamodules.schema import visible

WIDTH = 220  # of what is no terminal: in a log, names are searched for and must not be broken

FORMULA = ("=", "+", "-", "@", "\t", "\r")


LONG = 500
"""Rows of a table from which on it is printed as plain lines."""


class NameTable(Table):
    """A table of names that files may give: their control characters are written out, as a terminal would obey them.

    Args:
        title: above the table.
        caption: below it.
        **options: of ``rich.table.Table``.
    """

    def __init__(self, title: str | None = None, caption: str | None = None, **options: Any) -> None:
        super().__init__(title=title and visible(title), caption=caption and visible(caption), **options)

    def add_column(self, header: Any = "", *args: Any, **options: Any) -> None:
        super().add_column(_shown(header), *args, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(_shown, cells), **options)


def _shown(cell: Any) -> Any:
    return visible(cell) if isinstance(cell, str) else cell


def table_console() -> Console:
    """As wide as the terminal; in a file, wide enough that no table is folded. Names in brackets are no markup."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def print_table(table: Table) -> None:
    """Prints a table; a long one as plain lines of columns, since Rich takes a millisecond for each row."""
    if table.row_count <= LONG:
        table_console().print(table)
        return
    columns = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    widths = [max(map(len, column)) for column in columns]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True))
    print("\n".join([*lines, str(table.caption or "")]))


def percent(rate: float | None) -> str:
    """A rate (0..1) in percent with one decimal; ``-`` for None and NaN."""
    return "-" if rate is None or rate != rate else f"{100 * rate:.1f}"


def defused(value: Any) -> Any:
    """A value of a CSV; text that a spreadsheet would read as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
