"""Finds config files by name, beside the file that names them or in the packaged ``configs`` folder."""

from __future__ import annotations

import difflib
import os
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from datamodules.schema import DataError

GROUPS = ("data", "model", "trainer", "logger", "postproc", "checkpoint")
"""Keys whose value may be a file of their group: ``model: model/scc_heads.yaml``."""


def packaged() -> Path:
    """The folder of the configs that ship with the package."""
    return Path(str(resources.files("configs")))


def find_config(name: str, near: Path | None = None) -> Path:
    """Path of a config: as given, beside ``near``, or packaged.

    Raises:
        DataError: no such file; names the nearest one.
    """
    candidates = [Path(name), *([near / name] if near else []), packaged() / name]
    for path in candidates:
        if os.path.isfile(path):  # false, where Path.is_file raises for a name too long
            return path.resolve()
    known = sorted(p.relative_to(packaged()).as_posix() for p in packaged().rglob("*.yaml"))
    group = [k for k in known if Path(k).parent == Path(name).parent]
    known = group or known
    hint = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    raise DataError(
        f"config {name}: no such file here or in {packaged()}"
        + (f"; did you mean {hint[0]}?" if hint else f"; there are {', '.join(known)}")
    )


def read_config(path: Path) -> dict[str, Any]:
    """A config file as a dict, its group files named by absolute paths.

    Raises:
        DataError: unreadable, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, no date
        raise DataError(f"config {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise DataError(f"config {path}: expected keys and values, found {type(content).__name__}")
    for group in GROUPS:
        value = content.get(group)
        if isinstance(value, str) and value.endswith((".yaml", ".yml")):
            content[group] = str(find_config(value, near=path.parent))
    return content


def expand_arguments(argv: list[str]) -> tuple[list[str], list[Path]]:
    """Arguments with every config and group file found; the config files, in order.

    A ``--config`` becomes its content, so that the parser sees group files by absolute path wherever the config lies.
    A group file on the command line replaces the config's group as a whole: merged with it, options of the one would
    stay in the other.
    """
    out: list[str] = []
    paths: list[Path] = []
    contents: list[tuple[int, dict[str, Any]]] = []
    rest = iter(argv)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        key = flag.removeprefix("--")
        if flag in ("-c", "--config"):
            paths.append(find_config(value if equals else next(rest, "")))
            contents.append((len(out), read_config(paths[-1])))
            out.append("--config=")
        elif flag.startswith("--") and key in GROUPS:
            value = value if equals else next(rest, "")
            if value.endswith((".yaml", ".yml")):
                value = str(find_config(value))
                for _, content in contents:
                    content.pop(key, None)
            out.append(f"{flag}={value}")
        else:
            out.append(argument)
    for position, content in contents:
        out[position] += yaml.safe_dump(content, sort_keys=False, width=10_000)
    return out, paths
