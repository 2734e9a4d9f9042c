"""Turns what ends a command into one line on stderr and an exit status. Nothing slow is imported for it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import sys
from collections.abc import Callable
from pathlib import Path

from datamodules.schema import DataError, one_line, visible

REFUSED, INTERRUPTED, CLOSED = 2, 130, 141
FULL = (errno.ENOSPC, errno.EDQUOT)
# Errors that a user can act on, of modules that are slow to import: where one was raised, its module is loaded.
LOADED = (
    ("lightning.fabric.utilities.exceptions", "MisconfigurationException"),
    ("lightning_modules.training.safety", "NonFiniteError"),
)
_WORKER = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\n.*^[\w.]+: (.+)$", re.DOTALL | re.MULTILINE)


def exit_status(command: Callable[[], int], resumable: bool = False) -> int:
    """Runs a command; an error that its user can act on becomes one line on stderr.

    Args:
        command: runs it and returns its status.
        resumable: whether the same command continues what an interrupted one began; said on Ctrl-C.

    Returns:
        The status of the command; 2 after an error, 130 after Ctrl-C, 141 if whoever read stdout has closed it.

    Raises:
        Exception: any other, which is a bug and keeps its traceback.
    """
    try:
        status = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted(resumable)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns one into the other
            return _interrupted(resumable)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            return CLOSED
        if (line := error_line(error)) is None:
            raise
        _print(f"error: {visible(line)}")
        return REFUSED
    return status


def error_line(error: BaseException) -> str | None:
    """One line for an error that a user can act on; None for any other."""
    text = str(error)
    if worker := _WORKER.match(text):  # torch puts the traceback of the loader process into the message
        text = worker[1]
    if isinstance(error, DataError):
        return one_line(text)
    if isinstance(error, OSError):
        if error.strerror is None:
            return one_line(text) or type(error).__name__
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{where}{error.strerror}{'; free space there' if error.errno in FULL else ''}"
    loaded = [getattr(sys.modules[module], name) for module, name in LOADED if module in sys.modules]
    if not isinstance(error, tuple(loaded)):
        return None
    if re.search("accelerator|backend|devices", text) and type(error).__name__ == "MisconfigurationException":
        text = f"{text} This machine has {machine()}: set trainer.accelerator and trainer.devices."
    return one_line(text)


def machine() -> str:
    """The accelerators of this machine, for messages."""
    import torch  # slow, and loaded where a trainer was configured

    return f"{torch.cuda.device_count()} CUDA GPUs and {os.cpu_count()} CPU cores"


def _interrupted(resumable: bool) -> int:
    _print("stopped" + ("; the same command continues from here" if resumable else ""))
    return INTERRUPTED


def _stdout_is_closed() -> bool:
    """Whether nobody reads stdout any more; what is still to be written to it then goes nowhere."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: stdout is an object without a file
        poll, descriptor = select.poll(), sys.stdout.fileno()
        poll.register(descriptor, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), descriptor)
            return True
    return False


def _print(line: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be closed too
        print(line, file=sys.stderr, flush=True)
