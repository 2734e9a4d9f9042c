"""Turns what ends a command into one line on stderr and an exit status. Nothing slow is imported for it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

from datamodules.io.text import plain_file
from datamodules.io.writing import CannotWrite
from datamodules.schema import DataError, one_line, visible
from experiments.console.user_code import place_in_user_code

REFUSED, INTERRUPTED, TERMINATED = 2, 130, 143
QUIET = "ignore:resource_tracker:UserWarning"
"""For the process that removes semaphores of a killed command, which would report that as a leak."""
FULL = (errno.ENOSPC, errno.EDQUOT)
# Errors that a user can act on, of modules that are slow to import: where one was raised, its module is loaded.
LOADED = (
    ("lightning.fabric.utilities.exceptions", "MisconfigurationException"),
    ("lightning_modules.training.safety", "NonFiniteError"),
)
_WORKER = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\n.*^[\w.]+: (.+)$", re.DOTALL | re.MULTILINE)


class Terminated(SystemExit):
    """SIGTERM came."""


def exit_status(command: Callable[[], int], resumable: bool = False) -> int:
    """Runs a command; an error that its user can act on becomes one line on stderr.

    Args:
        command: runs it and returns its status.
        resumable: whether the same command goes on with what an interrupted one has saved; said on Ctrl-C.

    Returns:
        The status of the command; 2 after an error, 130 after Ctrl-C, 143 after SIGTERM. A command goes on where nobody
        reads its output any more: `| head` must not cost a run.

    Raises:
        Exception: any other, which is a bug and keeps its traceback; one of a class of the user's own is a line.
    """
    _open_streams()
    os.environ.setdefault("PYTHONWARNINGS", QUIET)
    try:
        with _leaving_on_sigterm():
            status = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _stopped(INTERRUPTED, resumable)
    except Terminated:
        return _stopped(TERMINATED, resumable)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns one into the other
            return _stopped(INTERRUPTED, resumable)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception as error:
        if (line := error_line(error) or place_in_user_code(error)) is None:
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


@contextmanager
def logged(path: Path, mode: Literal["wb", "ab"]) -> Iterator[None]:
    """Sends the output of a block to a file. A full disk loses lines of it, and not the work.

    A bug in one of many blocks must not stop the others: its traceback goes to the file, and no further.
    """
    try:
        file = plain_file(path).open(mode)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror})") from error
    with (
        file,
        _Lenient(file, encoding="utf-8", errors="backslashreplace") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            yield
        except Exception:
            traceback.print_exc()


def machine() -> str:
    """The accelerators of this machine, for messages."""
    import torch  # slow, and loaded where a trainer was configured

    return f"{torch.cuda.device_count()} CUDA GPUs and {os.cpu_count()} CPU cores"


def _stopped(status: int, resumable: bool) -> int:
    _print("stopped" + ("; the same command goes on with what is saved" if resumable else ""))
    return status


@contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: drafts are removed, locks given back, processes ended."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(TERMINATED)


class _Lenient(io.TextIOWrapper):
    """A stream that may end: its reader goes, as ``| head``, or its disk is full. What follows goes nowhere."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), self.fileno())


def _open_streams() -> None:
    """Makes stdout and stderr safe to write to: closed ones, ones without a reader, and ones of few letters."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start: a file opened later must not become the output
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            stream = os.fdopen(number, "w", closefd=False)
            setattr(sys, name, stream)
        if type(stream) is io.TextIOWrapper:
            stream.flush()
            bare = os.fdopen(stream.fileno(), "wb", closefd=False)  # others may hold the stream that was there
            lines, encoding = stream.line_buffering, stream.encoding
            setattr(sys, name, _Lenient(bare, encoding=encoding, errors="backslashreplace", line_buffering=lines))


def _print(line: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be closed too
        print(line, file=sys.stderr, flush=True)
