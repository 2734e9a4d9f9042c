"""Hyper-parameters in checkpoints: how a model was made, in plain values, and a model made again from them.

They are stored as ``{"_class_path": ..., NAME: VALUE, ...}``, the form in which LightningCLI hands them to
``save_hyperparameters``. A class is a dictionary with ``class_path`` and ``init_args``, as in YAML.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from torch import nn

from datamodules.schema import DataError
from lightning_modules.networks.weights import read_file
from lightning_modules.training.safety import require_fitting

CLASS_PATH, UNNAMED = "_class_path", "_unnamed"
TRAINING_ONLY = ("optimizer", "scheduler")  # the embeddings of a trained model do not depend on them
STARTING_POINTS = ("weights", "checkpoint")  # options that a trained model no longer needs
ENCODERS = ("voice_encoder", "face_encoder")  # are made of their weights, also in a trained model
ALLOWED = "lightning_modules"  # the package whose classes a checkpoint may name

Model = TypeVar("Model", bound=nn.Module)


def describe(model: nn.Module, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of a model's class and arguments, in plain values.

    Arguments that have no plain form, such as a lambda, are listed by name under ``_unnamed``.

    Args:
        model: the model.
        arguments: those of its ``__init__`` by name, or those that LightningCLI gives.
    """
    parameters = inspect.signature(type(model)).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    described: dict[str, Any] = {CLASS_PATH: path_of(type(model))}
    unnamed = []
    for name, value in arguments.items():
        default = name in parameters and value is parameters[name].default
        if default or name in (CLASS_PATH, *TRAINING_ONLY) or not (open_ended or name in parameters):
            continue
        try:
            described[name] = without_start({name: _plain(value)})[name]
        except TypeError:
            unnamed.append(name)
    return described | ({UNNAMED: unnamed} if unnamed else {})


def restore(kind: type[Model], path: Path, arguments: Mapping[str, Any]) -> Model:
    """The model of a checkpoint, in evaluation mode, on the CPU.

    Args:
        kind: its class, or one above it.
        path: a checkpoint of Lightning's.
        arguments: of ``__init__``, in place of those in the checkpoint.

    Raises:
        DataError: an unreadable file; a model of another class, or with tensors that do not fit; arguments that are not
            in the checkpoint, or that name a class outside this package.
    """
    content = read_file(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        raise DataError(f"{path}: no Lightning checkpoint, it lacks a state_dict")
    stored = content.get("hyper_parameters")
    if isinstance(stored, Mapping) and isinstance(stored.get(CLASS_PATH), str):
        kind = _class_of(kind, stored[CLASS_PATH], path)
    elif "dims" in arguments:
        stored = {}
    else:
        raise DataError(
            f"{path} was written by an older version, which did not save the sizes of a model; call {_call(kind)}"
        )
    try:
        model = kind(**_options(kind, stored, path, arguments))
    except (TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: its hyper-parameters do not fit {kind.__name__}: {reason}") from error
    require_fitting(model, content, str(path), resuming=False)
    model.load_state_dict(content["state_dict"])
    return model.eval()


def without_start(value: Any) -> Any:
    """Nested options, in which the files that weights started from are replaced by None."""
    if isinstance(value, Mapping):
        return {
            k: v if k in ENCODERS else None if k in STARTING_POINTS and isinstance(v, str) else without_start(v)
            for k, v in value.items()
        }
    return value


def path_of(kind: type) -> str:
    """The import path of a class: its public name where its package has one, which stays when its file moves."""
    package = kind.__module__.partition(".")[0]
    if getattr(sys.modules[package], kind.__name__, None) is kind:
        return f"{package}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and dictionaries; a class or ``partial`` of one as ``class_path`` and ``init_args``."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    if isinstance(value, type) and "<locals>" not in value.__qualname__:
        return {"class_path": path_of(value)}
    if isinstance(value, partial):
        kind = (
            value.args[0] if len(value.args) == 1 else value.func
        )  # jsonargparse makes partial(make, class, **options)
        if isinstance(kind, type):
            return {**_plain(kind), "init_args": _plain(value.keywords)}
    raise TypeError(f"{value!r} has no plain form")


def _class_of(kind: type[Model], class_path: str, path: Path) -> type[Model]:
    """The stored class, which must be ``kind`` or one below it."""
    remedy = "call load_from_checkpoint of that class"
    stored = kind if class_path == path_of(kind) else resolve(class_path, path, remedy)
    if not issubclass(stored, kind):
        raise DataError(f"{path} holds a model of class {stored.__name__}, not {kind.__name__}; {remedy}")
    return stored


def _call(kind: type) -> str:
    """The call that loads a checkpoint without hyper-parameters."""
    examples = {"dims": "(192, 512)", "num_identities": "58", "network": "..."}
    known = inspect.signature(kind).parameters
    arguments = ", ".join(f"{name}={value}" for name, value in examples.items() if name in known)
    return f"{kind.__name__}.load_from_checkpoint(path, {arguments})"


def _options(kind: type, stored: Mapping[str, Any], path: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The stored arguments with classes in place of their names; ``arguments`` replace theirs."""
    for name in stored.get(UNNAMED, []):
        if name not in arguments:
            raise DataError(
                f"{path}: the {name} of its model has no import path, so the checkpoint does not name it; "
                f"pass it: {kind.__name__}.load_from_checkpoint(path, {name}=...)"
            )
    chosen = {k: v for k, v in stored.items() if k not in (CLASS_PATH, UNNAMED, *arguments)}
    return {**_made(kind, chosen, path), **arguments}


def _made(kind: type, options: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Arguments of a class in which every ``class_path`` is replaced by an object or, as the type says, a factory."""
    made = dict(options)
    for name, value in options.items():
        if isinstance(value, Mapping) and "class_path" in value:
            inner = resolve(value["class_path"], path, f"if you trust it, pass it: {name}=...")
            arguments = _made(inner, value.get("init_args") or {}, path)
            hint = get_type_hints(kind.__init__).get(name)  # type: ignore[misc]
            made[name] = partial(inner, **arguments) if _takes_factory(hint) else inner(**arguments)
    return made


def resolve(class_path: Any, path: Path, remedy: str) -> type:
    """The class of a name in a checkpoint. Nothing outside this package is imported or returned.

    Args:
        class_path: the name.
        path: the checkpoint, for the error.
        remedy: what to do instead, for the error.

    Raises:
        DataError: it is none of this package's classes.
    """
    module, _, name = str(class_path).rpartition(".")
    kind = None
    if f"{module}.".startswith(f"{ALLOWED}."):
        try:
            kind = getattr(import_module(module), name, None)
        except ImportError:
            kind = None
    if not isinstance(kind, type) or not kind.__module__.startswith(f"{ALLOWED}."):
        raise DataError(f"{path} names {class_path}, which is not a class of {ALLOWED}; {remedy}")
    return kind


def _takes_factory(hint: Any) -> bool:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return any(get_origin(kind) is Callable for kind in kinds)
