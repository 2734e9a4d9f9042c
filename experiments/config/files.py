"""Finds config files by name, beside the file that names them or in the packaged ``configs`` folder."""

from __future__ import annotations

import contextlib
import difflib
from collections import deque
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from datamodules.schema import DataError, one_line
from experiments.config.renamed import Renamer

GROUPS = ("data", "model", "trainer", "logger", "postproc", "checkpoint")
"""Keys whose value may be a file of their group: ``model: model/scc_heads.yaml``."""

LOCAL = "local.yaml"
"""Values of this machine, in the working directory: read after the configs of ``fit``, before its other arguments."""


def packaged() -> Path:
    """The folder of the configs that ship with the package."""
    return Path(str(resources.files("configs")))


def find_config(name: str, near: Path | None = None, renamer: Renamer | None = None) -> Path:
    """Path of a config: as given, beside ``near``, or packaged.

    Args:
        name: of the file.
        near: the folder of the config that names it.
        renamer: takes the name of a packaged config that was renamed.

    Raises:
        DataError: no such file; names the nearest one.
    """
    candidates = [Path(name), *([near / name] if near else []), packaged() / name]
    for path in candidates:
        with contextlib.suppress(OSError):  # a name too long
            if path.is_file():
                return path.resolve()
    if renamer and (new := renamer.file(name, str(near or "command line"))) != name:
        return find_config(new)
    known = sorted(p.relative_to(packaged()).as_posix() for p in packaged().rglob("*.yaml"))
    group = [k for k in known if Path(k).parent == Path(name).parent]
    known = group or known
    hint = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    raise DataError(
        f"config {name}: no such file here or in {packaged()}"
        + (f"; did you mean {hint[0]}?" if hint else f"; there are {', '.join(known)}")
    )


def read_config(path: Path, renamer: Renamer | None = None) -> dict[str, Any]:
    """A config file as a dict under the names of today, its group files named by absolute paths.

    A group file that holds an old name is put into the dict as its content, under the new one.

    Args:
        path: the file.
        renamer: of the command that reads several files; None for one of this file alone.

    Raises:
        DataError: unreadable, not YAML, or not a mapping.
    """
    renamer = Renamer() if renamer is None else renamer
    content: dict[str, Any] = renamer.config(_load(path), str(path))
    for group in GROUPS:
        value = content.get(group)
        if isinstance(value, str) and value.endswith((".yaml", ".yml")):
            content[group] = _group_file(find_config(value, path.parent, renamer), group, renamer)
    if renamer.vars:
        content["vars"] = renamer.vars | (content.get("vars") or {})
    return content


def expand_arguments(argv: list[str]) -> tuple[list[str], list[Path]]:
    """Arguments under the names of today, with every config and group file found; the config files, in order.

    ``local.yaml`` in the working directory counts as one more ``--config``, the last one.
    A ``--config`` becomes its content, so that the parser sees group files by absolute path wherever the config lies.
    A group file on the command line replaces the config's group as a whole. Merged with it, options of the one would
    stay in the other.
    """
    out: list[str] = []
    paths: list[Path] = []
    contents: list[tuple[int, dict[str, Any]]] = []
    renamer, configured = Renamer(), dict[str, Any]()
    rest = deque(_with_local(argv))
    while rest:
        argument = rest.popleft()
        flag, equals, value = argument.partition("=")
        key = flag.removeprefix("--")
        if flag in ("-c", "--config"):
            paths.append(find_config(value if equals else _next(rest)))
            content = read_config(paths[-1], renamer)
            configured |= content.get("vars") or {}
            contents.append((len(out), content))
            out.append("--config=")
        elif flag.startswith("--") and key in GROUPS:
            value = value if equals else _next(rest)
            if value.endswith((".yaml", ".yml")):
                for _, content in contents:
                    content.pop(key, None)
                out.append(f"{flag}={_as_argument(_group_file(find_config(value, renamer=renamer), key, renamer))}")
            else:
                out.append(renamer.argument(f"{flag}={value}", configured))
        elif flag.startswith("--") and "." in flag and not equals and rest and not rest[0].startswith("--"):
            value = rest.popleft()
            renamed = renamer.argument(f"{flag}={value}", configured)
            out += [flag, value] if renamed == f"{flag}={value}" else [renamed]
        else:
            out.append(renamer.argument(argument, configured))
    if contents and renamer.vars:
        contents[-1][1]["vars"] = (contents[-1][1].get("vars") or {}) | renamer.vars
    for position, content in contents:
        out[position] += yaml.safe_dump(content, sort_keys=False, width=10_000)
    return out, paths


def _with_local(argv: list[str]) -> list[str]:
    """Arguments with ``local.yaml`` as the last config, if there is one in the working directory."""
    last = max((i for i, a in enumerate(argv) if a.partition("=")[0] in ("-c", "--config")), default=None)
    if last is None or not Path(LOCAL).is_file():
        return argv
    after = last + (1 if "=" in argv[last] else 2)
    return [*argv[:after], f"--config={LOCAL}", *argv[after:]]


def _next(arguments: deque[str]) -> str:
    return arguments.popleft() if arguments else ""


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, no date
        raise DataError(f"config {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise DataError(f"config {path}: expected keys and values, found {type(content).__name__}")
    return content


def _group_file(path: Path, group: str, renamer: Renamer) -> str | dict[str, Any]:
    """The path of a group file, or its content under the new names where it holds an old one."""
    content = _load(path)
    renamed: dict[str, Any] = renamer.config(content, str(path), group)
    return str(path) if renamed is content else renamed


def _as_argument(value: str | dict[str, Any]) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False, width=10_000)
