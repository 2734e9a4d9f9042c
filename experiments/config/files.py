"""Finds config files by name, beside the file that names them or in the packaged ``configs`` folder."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from datamodules.io.documents import read_yaml
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
    contents: list[tuple[int, dict[str, Any]]] = []  # {GROUP: ...} for a group file of the command line
    renamer, configured = Renamer(), dict[str, Any]()
    rest = deque(_with_local(argv))
    while rest:
        argument = rest.popleft()
        flag, equals, value = argument.partition("=")
        key = flag.removeprefix("--")
        if flag in ("-c", "--config"):
            paths.append(find_config(value if equals else _next(rest)))
            content = read_config(paths[-1], renamer)
            for earlier in (earlier for _, earlier in contents):
                for keys, new in _replacing(content):
                    replace_value(earlier, keys, new)
            configured |= content.get("vars") or {}
            contents.append((len(out), content))
            out.append("--config=")
        elif flag.startswith("--") and key in GROUPS:
            value = value if equals else _next(rest)
            if value.endswith((".yaml", ".yml")):
                for _, content in contents:
                    content.pop(key, None)
                contents.append((len(out), {key: _group_file(find_config(value, renamer=renamer), key, renamer)}))
                out.append(f"{flag}=")
            else:
                out.append(renamer.argument(f"{flag}={value}", configured))
        elif flag.startswith("--") and "." in flag and (equals or (rest and not rest[0].startswith("--"))):
            value = value if equals else rest.popleft()
            renamed = renamer.argument(f"{flag}={value}", configured)
            out += [flag, value] if renamed == f"{flag}={value}" and not equals else [renamed]
            name, _, value = renamed.removeprefix("--").partition("=")
            if value.lstrip()[:1] in ("[", "{"):
                for _, earlier in contents:
                    replace_value(earlier, name.split("."), _parsed(value))
        else:
            out.append(renamer.argument(argument, configured))
    configs = [content for position, content in contents if out[position] == "--config="]
    if configs and renamer.vars:
        configs[-1]["vars"] = (configs[-1].get("vars") or {}) | renamer.vars
    for position, content in contents:
        flag = out[position].removeprefix("--").removesuffix("=")
        out[position] += _as_argument(content if flag == "config" else content[flag])
    return out, paths


def replace_value(content: dict[str, Any], keys: Sequence[str], new: Any) -> None:
    """Replaces a list or dictionary of a config as a whole, if the config has it.

    The parser would merge the new value into the old one, and fields of the old one would stay.

    Args:
        content: of the config; changed in place. A group file on the way to the key becomes its content.
        keys: the path of the value; ``init_args`` may be left out, as on the command line.
        new: what takes its place.
    """
    node: Any = content
    for i, key in enumerate(keys):
        if isinstance(node, dict) and key not in node and isinstance(node.get("init_args"), dict):
            node = node["init_args"]
        if not isinstance(node, dict) or key not in node:
            return
        if i == len(keys) - 1:
            node[key] = new
        elif i == 0 and key in GROUPS and isinstance(node[key], str) and Path(node[key]).is_file():
            node[key] = _load(Path(node[key]))
        node = node[key]


def variables_set(arguments: list[str]) -> list[str]:
    """Names that ``--vars.NAME VALUE`` or ``--vars {NAME: VALUE}`` sets."""
    names = []
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == "--vars":
            values = _parsed(value if equals else "".join(arguments[i + 1 : i + 2]))
            names += [str(name) for name in values] if isinstance(values, dict) else []
        elif flag.startswith("--vars."):
            names.append(flag.removeprefix("--vars."))
    return names


def variables_read(arguments: list[str]) -> set[str]:
    """Names that ``${vars.NAME}`` reads in expanded arguments and the group files that they name."""
    text = "\n".join(arguments)
    files = re.findall(r"^(?:\S*[:=]\s*)?(/.*\.ya?ml)\s*$", text, re.MULTILINE)
    texts = [text, *(Path(file).read_text(encoding="utf-8") for file in files if Path(file).is_file())]
    return {
        name for part in texts for name in re.findall(r"\bvars\.(\w+)", re.sub(r"--vars\.|(?m:(?:^|\s)#.*$)", "", part))
    }


def _replacing(content: dict[str, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Lists of a config by path, and the group files it names: they replace what an earlier config says."""
    for key, value in content.items():
        if isinstance(value, list) or (not keys and key in GROUPS and isinstance(value, str)):
            yield (*keys, key), value
        elif isinstance(value, dict):
            yield from _replacing(value, (*keys, key))


def _parsed(value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise DataError(f"{value[:60]}: not YAML ({one_line(error, 120)})") from error


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
        content = read_yaml(path)
    except DataError as error:
        raise DataError(f"config {error}") from error
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
