"""Warnings as plain lines, and none of those that Lightning gives every run."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Lightning says these of every run; none of them is for the person who runs an experiment.
QUIET = (
    ".*does not have many workers.*",
    ".*LightningCLI's args parameter.*",
    ".*lr_scheduler.step.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*The dirpath has changed from.*",
    ".*predict returned None.*",
    ".*Total length of `list` across ranks is zero.*",
)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings as one line each, without the lines of code they come from."""
    original = warnings.formatwarning
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tip)
    for name in ("lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.stream = sys.stderr  # it holds that of its import: another fit's log, closed by now
    with warnings.catch_warnings():
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
        try:
            yield
        finally:
            warnings.formatwarning = original


def _no_tip(record: logging.LogRecord) -> bool:
    # of an interrupt the console says a line itself
    return not any(text in record.getMessage() for text in ("Tip:", "Detected KeyboardInterrupt"))
