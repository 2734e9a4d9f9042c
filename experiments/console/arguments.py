"""Parsers of commands other than ``fit`` and ``embed``, whose options are those of classes."""

from __future__ import annotations

import argparse
import difflib
from typing import Any, NoReturn

from datamodules.schema import DataError


class CommandParser(argparse.ArgumentParser):
    """Options of one command; a wrong one is a :class:`DataError` instead of a usage text.

    Args:
        command: its name.
        description: what it does.
        **options: of ``argparse.ArgumentParser``.
    """

    def __init__(self, command: str, description: str | None, **options: Any) -> None:
        super().__init__(prog=f"experiments.run {command}", description=description, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raises what is wrong, with the nearest option."""
        unknown = message.removeprefix("unrecognized arguments: ")
        wrong = unknown.split()[0].partition("=")[0] if unknown != message else ""
        near = difflib.get_close_matches(wrong, self._option_string_actions, n=1) if wrong.startswith("--") else []
        hint = f"did you mean {near[0]}?" if near else "--help lists the options"
        raise DataError(f"{self.prog.rpartition(' ')[2]}: {message}; {hint}")
