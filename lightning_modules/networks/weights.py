"""Reads weights files without running code in them: pickles of plain values, and safetensors."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from datamodules.evaluation.learnt import Learnt
from datamodules.io.text import plain_file
from datamodules.schema import DataError, one_line

LEARNT = "learnt"
"""Key of the record in checkpoints and in the metadata of exports; attribute of modules that have read one."""

LISTED = 5  # keys named in an error before it says "and n more"
# Exceptions of torch.load for damaged or foreign files: the unpickler may fail in any of these ways.
DAMAGED = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError,
    zipfile.BadZipFile,
)  # fmt: skip


class WeightsError(DataError):
    """A weights file that cannot be used. The message is one line: the file, what is wrong, what to do."""


def read_file(path: str | Path) -> Any:
    """The content of a file of weights, tensors on the CPU: a pickle of tensors and plain values, or ``.safetensors``.

    Raises:
        WeightsError: missing, unreadable, or holding objects whose loading would run code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return load_pickle(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than tensors and plain values, so it was not loaded, nothing in it was run; "
            f"save its state_dict as .safetensors ({reason(error)})"
        ) from error
    except (*DAMAGED, SafetensorError) as error:
        raise WeightsError(
            f"{path}: damaged or not a checkpoint; copy or download it again ({reason(error)})"
        ) from error


def load_pickle(path: Path, mapped: bool = False) -> Any:
    """``torch.load`` of tensors and plain values, on the CPU, without its guesses about damaged files.

    Args:
        path: the file.
        mapped: map the tensors into memory instead of reading them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def reason(error: Exception) -> str:
    """Why a weights file cannot be read, without torch's advice to load it unsafely."""
    text = one_line(error)
    if found := re.search(r"Unsupported operand \d+|GLOBAL \S+|Unsupported class \S+", text):
        return f"not allowed: {found[0]}"
    if "weights_only" in text or not re.search("[a-z]{3} ", text):  # the latter: a key that the unpickler lacked
        return "its content is in no known format"
    return one_line(text, 120)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by key, on the CPU, without the prefix ``module.`` of DataParallel and DDP.

    Reads state dicts, pickles with ``state_dict`` (Lightning, FOP) or ``model`` in them, and ``.safetensors``.

    Raises:
        WeightsError: missing, unreadable, or holding objects whose loading would run code.
    """
    content = read_file(path)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path}: holds no state_dict (a mapping from names to tensors)")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def learnt_of(path: str | Path) -> Learnt:
    """What a checkpoint or an export says of the identities and languages that its weights have learnt from.

    Raises:
        WeightsError: as :func:`read_file`, or a damaged record.
    """
    path = plain_file(Path(path).expanduser(), "weights")
    if path.suffix != ".safetensors":
        try:
            content = load_pickle(path, mapped=zipfile.is_zipfile(path))
        except (*DAMAGED, pickle.UnpicklingError):
            content = read_file(path)  # says in one line what is wrong
        return learnt_in(content, path)
    try:
        with safe_open(path, "pt") as file:
            record = (file.metadata() or {}).get(LEARNT)
            return learnt_in({} if record is None else {LEARNT: json.loads(record)}, path)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise WeightsError(f"{path}: {reason(error)}; copy or download it again") from error


def learnt_in(content: Any, path: str | Path) -> Learnt:
    """The record in the content of a checkpoint; :meth:`Learnt.unknown` where it has none.

    Args:
        content: of the file.
        path: of the file, for the record and the error.

    Raises:
        WeightsError: a damaged record.
    """
    record = content.get(LEARNT) if isinstance(content, Mapping) else None
    if record is None:
        languages = content.get("languages", ()) if isinstance(content, Mapping) else ()
        known = [x for x in languages if isinstance(x, str)] if isinstance(languages, list | tuple) else []
        return Learnt.unknown(Path(path).name, known)
    try:
        return Learnt.read(record)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}; copy or download it again") from error


def made_here(path: str | Path) -> bool:
    """Whether a weights file is a checkpoint or an export of this project, of any version."""
    path = Path(path).expanduser()
    if path.suffix == ".safetensors":  # an export of an earlier version has no record, but its config beside it
        return not learnt_of(path).unrecorded or path.with_name("config.yaml").is_file()
    content = read_file(path)
    return isinstance(content, Mapping) and (LEARNT in content or "pytorch-lightning_version" in content)


def learnt_by(module: nn.Module) -> Learnt:
    """What the weights of a module and of its parts have learnt from, as :func:`load_weights` has noted."""
    return reduce(or_, (vars(part)[LEARNT] for part in module.modules() if LEARNT in vars(part)), Learnt())


def set_learnt(module: nn.Module, learnt: Learnt) -> None:
    """Notes what all weights of a module have learnt from, in place of what is noted of its parts."""
    for part in module.modules():
        vars(part).pop(LEARNT, None)
    vars(module)[LEARNT] = learnt


def load_weights(
    module: nn.Module,
    path: str | Path,
    prefix: str = "",
    rename: Callable[[str], str | None] | None = None,
    optional: Collection[str] = (),
    convert: Callable[[str, Tensor], Tensor] | None = None,
) -> None:
    """Copies the tensors of a file into a module; the keys of both must agree. Notes what they have learnt from.

    Args:
        module: is changed in place.
        path: see :func:`read_state_dict`.
        prefix: only keys with this prefix are read, such as ``network.`` of a Lightning checkpoint; it is removed.
        rename: key in the file (without prefix) -> key in ``module``, or None to ignore the tensor.
        optional: keys of ``module`` that the file may lack; they keep their values.
        convert: (key in ``module``, tensor) -> tensor of the right shape, such as positions of another length.

    Raises:
        WeightsError: keys are missing, unexpected, of another shape, or hold NaN or inf; lists them.
    """
    state = {k.removeprefix(prefix): v for k, v in read_state_dict(path).items() if k.startswith(prefix)}
    if rename is not None:
        names = {key: rename(key) for key in state}
        twice = [str(name) for name, times in Counter(names.values()).items() if times > 1 and name is not None]
        if twice:
            raise WeightsError(
                f"{path}: several tensors have the same name after renaming: {_some(twice)}; check the key map"
            )
        state = {name: state[key] for key, name in names.items() if name is not None}
    if convert is not None:
        state = {key: convert(key, value) for key, value in state.items()}
    optional = {*optional, *added_since(module)}
    problems = misfits(module.state_dict(), state, optional)
    if problems:
        where = f" under {prefix!r}" if prefix else ""
        raise WeightsError(f"{path}{where} does not fit {type(module).__name__}: {problems}")
    module.load_state_dict(state, strict=not optional)
    set_learnt(module, learnt_by(module) | learnt_of(path))


def added_since(module: nn.Module) -> set[str]:
    """Keys that files of earlier versions lack: those that parts of a module list as ``ADDED``."""
    named = module.named_modules()
    return {f"{name}.{key}".lstrip(".") for name, part in named for key in getattr(part, "ADDED", ())}


def other_classes(path: str | Path, key: str, classes: int) -> tuple[str, ...]:
    """Keys of a classifier in a file that is for another number of identities, to be left out; with a warning.

    Args:
        path: see :func:`read_state_dict`.
        key: of the classifier's weight (classes, d); its bias is looked for beside it.
        classes: the number of identities of the data.
    """
    state = read_state_dict(path)
    stored = len(state[key]) if key in state else classes
    if stored == classes:
        return ()
    rank_zero_warn(f"{path} classifies {stored} identities, the data have {classes}; its classifier is not loaded")
    return tuple(name for name in (key, key.removesuffix("weight") + "bias") if name in state)


def misfits(needed: Mapping[str, Tensor], state: Mapping[str, Tensor], optional: Collection[str] = ()) -> str:
    """Why tensors cannot be loaded, as one line that lists the keys; empty if they can.

    Args:
        needed: tensors of a module.
        state: tensors of a file.
        optional: keys of ``needed`` that the file may lack.
    """
    shapes = [
        f"{k} {tuple(v.shape)} for {tuple(needed[k].shape)}"
        for k, v in state.items()
        if k in needed and v.shape != needed[k].shape
    ]
    problems = {
        "missing": [key for key in needed if key not in state and key not in optional],
        "unexpected": [key for key in state if key not in needed],
        "wrong shape": shapes,
        "not finite": [key for key, v in state.items() if key in needed and not torch.isfinite(v).all()],
    }
    return "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems.items() if keys)


def _some(keys: list[str]) -> str:
    more = len(keys) - LISTED
    return ", ".join(keys[:LISTED]) + (f" and {more} more" if more > 0 else "")
