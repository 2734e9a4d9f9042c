"""Ctrl-C while a command is being imported. To be imported before anything that takes time."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(130)


def _is_command() -> bool:
    """Whether this process is a command; in a notebook or a test, Ctrl-C stays what it is."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return getattr(spec, "name", "") == "experiments.run" or sys.argv[0].rpartition("/")[2] == "voiceface"


def turn_into_exceptions() -> None:
    """Ctrl-C raises KeyboardInterrupt from here on; to be called where it is caught."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
