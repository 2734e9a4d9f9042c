"""A quick start and end of a command, and Ctrl-C meanwhile. To be imported before anything that takes time."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def importing() -> Iterator[None]:
    """Slow imports without Python's garbage collector, which would walk again and again through what stays anyway."""
    if not _is_command():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


if _is_command():
    atexit.register(gc.freeze)  # the collector's last walk takes a second after PyTorch, several after gradio
if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
