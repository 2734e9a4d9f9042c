"""Finds the file and line of a class of the user's own that an error comes from."""

from __future__ import annotations

import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.schema import DataError, one_line

PROJECT = ("lightning_modules", "datamodules", "postproc", "experiments", "configs", "tests")

_METHOD = re.compile(r"\b(\w+)\.(\w+)\(\)")
_IN_WORKER = re.compile(r'^  File "(.+)", line (\d+), in ', re.MULTILINE)


def place_in_user_code(error: BaseException) -> str | None:
    """``FILE:LINE: TYPE: TEXT`` of an error in a file that is neither this project's nor an installed package's.

    Where no line of such a file was running, the method that the error names, or else the class whose object was at
    work: what its methods take and give is then not what is asked of them.

    Returns:
        None where no such file has to do with the error.
    """
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)
    causes = [cause for cause in reversed(chain) if not isinstance(cause, DataError)]
    for find in (_running, _named, _at_work):
        for cause in causes:
            if place := find(cause):
                return place
    return None


def _running(error: BaseException) -> str | None:
    """The line of the user's that raised it, or called what raised it."""
    text = str(error)
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        text = error.msg
        places += [(error.filename, error.lineno)] if error.filename else []
    if text.startswith("Caught "):  # torch puts the traceback of the loader process into the message
        places += [(file, int(line)) for file, line in _IN_WORKER.findall(text)]
        text = text.strip().rpartition("\n")[2].partition(": ")[2]
    own = [place for place in places if _is_own(place[0])]
    return f"{own[-1][0]}:{own[-1][1]}: {_typed(error, text)}" if own else None


def _named(error: BaseException) -> str | None:
    """The method of the user's that the error names, as Python does where its arguments do not fit."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    at_hand = [type(value) for frame in frames for value in frame.f_locals.values()]
    for name, method in _METHOD.findall(str(error)):
        near = (kind for kind in at_hand if kind.__name__ == name and _file(kind) is not None)
        for kind in (*near, *_classes(name)):
            function = inspect.unwrap(vars(kind).get(method, None))
            if code := getattr(function, "__code__", None):
                asked = next((vars(base)[method] for base in kind.__mro__[1:] if method in vars(base)), None)
                wrong_call = isinstance(error, TypeError) and "argument" in str(error) and callable(asked)
                hint = f"; it must take what {_arguments(method, asked)} takes" if wrong_call else ""
                return f"{code.co_filename}:{code.co_firstlineno}: {_typed(error, str(error))}{hint}"
    return None


def _at_work(error: BaseException) -> str | None:
    """The class of the user's whose object was at work."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        kind = type(frame.f_locals.get("self"))
        if (file := _file(kind)) is not None:
            last = traceback.extract_tb(error.__traceback__)[-1]
            base = next(base for base in kind.__mro__ if _file(base) is None)
            return (
                f"{file}:{inspect.getsourcelines(kind)[1]}: {kind.__name__}: {_typed(error, str(error))} "
                f"(at {last.filename}:{last.lineno}); its methods must take and return what those of {base.__name__} do"
            )
    return None


def _typed(error: BaseException, text: str) -> str:
    return f"{type(error).__name__}: {one_line(text)}"


def _arguments(name: str, function: Any) -> str:
    try:
        return f"{name}{inspect.signature(function)}"
    except (TypeError, ValueError):
        return name


def _classes(name: str) -> Iterator[type]:
    """Loaded classes of the user's of this name."""
    for module in list(sys.modules.values()):
        kind = getattr(module, "__dict__", {}).get(name)
        if isinstance(kind, type) and _file(kind) is not None:
            yield kind


def _file(kind: type) -> str | None:
    """The file of a class of the user's; None for any other class."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file if isinstance(file, str) and _is_own(file) else None


def _is_own(file: str) -> bool:
    """Whether a file of code is the user's."""
    installed = {*sysconfig.get_paths().values(), *(str(Path(p).resolve()) for p in sysconfig.get_paths().values())}
    root = Path(__file__).resolve().parents[2]
    project = [f"{root / name}{os.sep}" for name in PROJECT]
    return Path(file).is_file() and not file.startswith((*installed, *project))
