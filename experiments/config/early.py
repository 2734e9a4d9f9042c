"""Finds what is wrong in the arguments of a fit without torch: files, keys, class paths and options.

What is left to the parser, which knows the types, is passed: only what cannot be right is refused here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.schema import DataError
from experiments.config.classes import is_missing, options_of_source
from experiments.config.errors import no_class, no_option, unknown_argument, unknown_key
from experiments.config.files import YAML, read_mapping
from experiments.config.overrides import parsed
from experiments.config.variables import check_names

FIXED = {
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
    "checkpoint": "experiments.callbacks.checkpoint.RunCheckpoint",
    "postproc": "postproc.callback.ChainingClusterCallback",
}
"""Keys whose class is always the same."""

PARSER = ("config", "help", "print_config", "seed_everything", *FIXED, "model", "data", "logger")
SWITCHES = ("-h", "--help", "--print_config", "--test", "--no-test")


def check_early(arguments: Sequence[str], paths: Sequence[Path], own: Sequence[str]) -> dict[str, Any]:
    """Refuses arguments that cannot be right.

    Args:
        arguments: expanded ones.
        paths: the configs, in order.
        own: options of the command beside Lightning's.

    Returns:
        The values of all keys together, as far as they can be known without the classes.

    Raises:
        DataError: an unknown key, class or option, or a checkpoint that is not there; names the nearest valid one.
    """
    check_names(arguments, paths)
    tops = (*PARSER, *own)
    known = [*tops, *(f"{key}.{name}" for key, path in FIXED.items() for name in options_of_source(path) or ())]
    tree: dict[str, Any] = {}
    for key, value, argument in _settings(arguments):
        if argument is None:
            for name in value:
                if name not in tops:
                    raise DataError(unknown_key(str(name), list(tops)))
            _merge(tree, value)
            continue
        head, _, rest = key.partition(".")
        options = options_of_source(FIXED[head]) if head in FIXED and rest else None
        if head not in tops or (options is not None and rest.partition(".")[0] not in (*options, "help")):
            raise DataError(unknown_argument(argument, known))
        _merge(tree, _nested(key.split("."), value))
    for key, value in tree.items():
        _check(_content(value), key, FIXED.get(key))
    checkpoint = tree.get("ckpt_path")
    if isinstance(checkpoint, str) and checkpoint not in ("best", "last", "null") and not Path(checkpoint).is_file():
        raise DataError(
            f"ckpt_path {checkpoint}: no file {checkpoint}; give a path, or the config.yaml of a finished run"
        )
    return {key: _content(value) for key, value in tree.items()}


def _settings(arguments: Sequence[str]) -> Iterator[tuple[str, Any, str | None]]:
    """Key, value and argument of each option; of a config its content, without an argument."""
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, equals, text = argument.partition("=")
        if not flag.startswith("--") and argument.endswith(YAML):
            raise DataError(f"unknown argument {argument}; did you mean --config {shlex.quote(argument)}?")
        if not flag.startswith("--") or flag in SWITCHES:
            continue
        if not equals:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else ""
        if flag == "--config":
            yield "", parsed(text), None
        else:
            nested = "\n" in text or text.lstrip()[:1] in ("{", "[")  # a file that replaces a group is written out
            value = parsed(text) if nested else text
            yield flag[2:].rstrip("+"), value, argument


def _nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    keys = [key for key in keys if key != "init_args"]
    for key in reversed(keys[1:]):
        value = {key: value} if key == "class_path" else {"init_args": {key: value}}
    return {keys[0]: value}


def _content(value: Any) -> Any:
    """What the file of a group holds."""
    return read_mapping(Path(value)) if isinstance(value, str) and value.endswith(YAML) else value


def _merge(tree: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        old, value = _content(tree.get(key)), _content(value)
        if isinstance(value, str) and isinstance(old, dict) and "class_path" in old:
            value = {"class_path": value}
        if isinstance(old, dict) and isinstance(value, dict):
            old = dict(old)
            _merge(old, value)
            value = old
        elif isinstance(old, str) and isinstance(value, dict) and "class_path" not in value and "init_args" in value:
            value = {"class_path": old, **value}
        tree[key] = value


def _check(value: Any, at: str, class_path: str | None = None) -> None:
    """Refuses class paths and options that are not there, at any depth."""
    if isinstance(value, str) and at in ("model", "data"):
        value = {"class_path": value}
    if isinstance(value, list):
        for part in value:
            _check(part, at)
    if not isinstance(value, dict):
        return
    fixed = class_path is not None
    named = class_path or value.get("class_path")
    options: Any = value
    if not fixed:
        if not isinstance(named, str):
            options = value.get("init_args", value) if set(value) <= {"init_args", "class_path"} else value
        elif "." in named:
            if is_missing(named):
                raise DataError(no_class(at, named))
            options = value.get("init_args") or {}
        else:
            return  # the parser looks for a class of this name
    else:
        options = {**{k: v for k, v in value.items() if k != "init_args"}, **(value.get("init_args") or {})}
    if not isinstance(options, dict):
        return
    valid = options_of_source(named) if isinstance(named, str) else None
    for name, part in options.items():
        if valid is not None and name not in (*valid, "help"):
            if fixed:
                raise DataError(unknown_key(f"{at}.{name}", [f"{at}.{option}" for option in valid]))
            raise DataError(no_option(at, str(named), str(name), valid))
        _check(part, f"{at}.{name}" if fixed else f"{at}.init_args.{name}")
