"""``${vars.NAME}``: which names a command line sets, which a config reads, and where the values of a saved one went."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.io.text import shown
from datamodules.schema import DataError
from experiments.config.files import is_saved, packaged, read_config
from experiments.config.overrides import parsed


def check_variables(arguments: Sequence[str], paths: Sequence[Path], used: Mapping[str, Any], name: str) -> None:
    """Refuses ``--vars.flod 3`` and ``--vars.fold 3`` over the config.yaml of a run: they would change nothing.

    Args:
        arguments: expanded ones.
        paths: the configs, in order.
        used: the values that come out.
        name: of the config that the first one was made of.

    Raises:
        DataError: no config has the value, or no key reads it; names the keys that hold it.
    """
    if not paths:
        return
    check_names(arguments, paths)
    read = variables_read(arguments)
    for path in paths:
        content = read_config(path)
        if path is not paths[0] and not is_saved(content):
            continue
        for variable, value in (content.get("vars") or {}).items():
            changed = "${" not in str(value) and str(used.get(variable, value)) != str(value)
            if changed and (variable not in read or is_saved(content)):
                raise DataError(_unread(variable, path, holding(content, value), value, name))


def _unread(variable: str, path: Path, keys: Sequence[str], value: Any, name: str) -> str:
    held = f" (those that say {value}: {shown(keys)})" if keys else ""
    made_of = f"--config {name}.yaml" if (packaged() / f"{name}.yaml").is_file() else "the config it was made of"
    return (
        f"vars.{variable}: no key of {path} reads it; the config.yaml of a run has its values in place: "
        f"give its keys new values{held}, or start from {made_of}"
    )


def check_names(arguments: Sequence[str], paths: Sequence[Path]) -> None:
    """Refuses ``--vars.flod 3``, of which no config has a value.

    Raises:
        DataError: there is one; names those that the configs have.
    """
    known = set().union(*(read_config(path).get("vars") or {} for path in paths))
    for variable in variables_set(arguments) if paths else ():
        if variable not in known:
            has = ", ".join(sorted(known)) or "none"
            raise DataError(f"--vars.{variable}: the config has no such value; it has {has}")


def variables_set(arguments: Sequence[str]) -> list[str]:
    """Names that ``--vars.NAME VALUE`` or ``--vars {NAME: VALUE}`` sets."""
    names = []
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == "--vars":
            values = parsed(value if equals else "".join(arguments[i + 1 : i + 2]))
            names += [str(name) for name in values] if isinstance(values, dict) else []
        elif flag.startswith("--vars."):
            names.append(flag.removeprefix("--vars."))
    return names


def variables_read(arguments: Sequence[str]) -> set[str]:
    """Names that ``${vars.NAME}`` reads in expanded arguments and the group files that they name."""
    text = "\n".join(arguments)
    files = re.findall(r"^(?:\S*[:=]\s*)?(/.*\.ya?ml)\s*$", text, re.MULTILINE)
    texts = [text, *(Path(file).read_text(encoding="utf-8") for file in files if Path(file).is_file())]
    return {
        name for part in texts for name in re.findall(r"\bvars\.(\w+)", re.sub(r"--vars\.|(?m:(?:^|\s)#.*$)", "", part))
    }


def holding(content: Any, value: Any) -> list[str]:
    """Keys of a config into whose values a variable of this value may have gone.

    Several keys of one dictionary are named together, as ``data.test.*``.

    Args:
        content: of the config.
        value: of the variable; its digits or letters are looked for, not beside others.
    """
    beside = r"\d" if str(value).isdigit() else r"[^\W_]"
    pattern = re.compile(rf"(?<!{beside}){re.escape(str(value))}(?!{beside})")
    keys = dict.fromkeys(key for key, text in _texts(content) if not key.startswith("vars.") and pattern.search(text))
    heads = Counter(key.rpartition(".")[0] for key in keys)
    together = (head if heads[head := key.rpartition(".")[0]] > 1 and head.count(".") else "" for key in keys)
    return list(dict.fromkeys(f"{head}.*" if head else key for key, head in zip(keys, together, strict=True)))


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Texts by key; those of a list at its key."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, list):
        for part in content:
            yield from _texts(part, key)
    elif isinstance(content, dict):
        for name, part in content.items():
            yield from _texts(part, key if name == "init_args" else f"{key}.{name}".lstrip("."))
