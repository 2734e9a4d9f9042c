"""What a run folder or an export of somebody else may name: classes of this project, and no files.

Such a folder is data. Nothing of it runs: objects are made of its config only after :func:`check` has passed it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datamodules.io.text import shown
from datamodules.schema import DataError
from experiments.config.classes import PUBLIC

WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".onnx")
"""Endings of files of weights, which are read without running anything in them."""
TRUST = "if you trust the folder, add --trust"

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_FILE = re.compile(r"://|[/\\]|^~|^\.\.?$")


def check(content: Any, where: str, weights: bool = False, files: bool = False) -> None:
    """Refuses a config that would run code of others, or read files and variables of this machine.

    Args:
        content: what will be made, of YAML.
        where: file and key, for the error.
        weights: whether ``weights`` may name a file of weights, and ``trained`` another run folder or export.
        files: whether any option may name a file, as none is opened.

    Raises:
        DataError: a class outside this project, a name that could be imported from elsewhere, an interpolation, or a
            file.
    """
    for key, value in _strings(content):
        at = f"{where}: {key}" if key else where
        text = ascii(value[:80])[1:-1]
        last = key.rpartition(".")[2]
        if "${" in value:
            raise DataError(f"{at}: {text} would be replaced by a value of this machine; {TRUST}")
        if "program" in key.split("."):
            raise DataError(f"{at}: {text} is a program of torch, which would run; {TRUST}")
        named = _NAME.fullmatch(value) is not None and "." in value
        if last.endswith("class_path") or (named and value.partition(".")[0] in PUBLIC):
            _check_class(value, at, text)
        elif named and _importable(value):
            raise DataError(f"{at}: {text} can be imported, so it could run code; {TRUST}")
        elif not files and _FILE.search(value) and not (weights and _is_weights(last, value)):
            raise DataError(f"{at}: {text} names a file of this machine; {TRUST}")


def _check_class(name: str, at: str, text: str) -> None:
    """Passes classes that are defined in this project, whatever name they go by."""
    found: Any = None
    if _NAME.fullmatch(name) and name.partition(".")[0] in PUBLIC:
        module, _, last = name.rpartition(".")
        try:
            found = getattr(import_module(module), last, None)
        except (ImportError, ValueError):
            raise DataError(f"{at}: there is no class {text}") from None
    defined = getattr(found, "__module__", "") if isinstance(found, type) else ""
    if defined.partition(".")[0] not in PUBLIC:
        raise DataError(f"{at}: {text} is no class of {shown(PUBLIC)}, so it was not imported; {TRUST}")


def _importable(name: str) -> bool:
    """Whether an import of the name would run a module. Nothing is imported to find out."""
    first, *rest = name.split(".")
    if first in sys.builtin_module_names:
        return True
    try:
        spec: ModuleSpec | None = find_spec(first)
        for i, part in enumerate(rest):
            if spec is None or spec.origin is not None or spec.submodule_search_locations is None:
                break
            done = ".".join([first, *rest[:i], part])  # below a folder without code
            spec = PathFinder.find_spec(done, spec.submodule_search_locations)
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin is not None


def _is_weights(key: str, value: str) -> bool:
    path = Path(value)
    if key == "trained":  # is read under the same rules
        return path.exists()
    packaged = value.startswith("package:") and ".." not in path.parts
    return key == "weights" and path.suffix in WEIGHTS and (packaged or path.is_file())


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts with the dotted keys they stand at; texts that are keys too."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            if "${" in str(name):
                yield key, str(name)
            if str(name).endswith("class_path") and not isinstance(value, str):
                raise DataError(f"{key}.{name}: expected the name of a class, got {type(value).__name__}")
            yield from _strings(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list | tuple):
        for i, value in enumerate(content):
            yield from _strings(value, f"{key}.{i}" if key else str(i))
