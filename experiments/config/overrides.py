"""Arguments of ``fit``: files are found, names are those of today, and each value replaces what it overrides.

The parser merges a list, a dictionary or another class into what was there, so that parts of the old value stay where
they happen to fit. Here they are taken out of earlier configs and arguments before the parser sees them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datamodules.schema import DataError, one_line
from experiments.config.classes import own_path
from experiments.config.files import GROUPS, LOCAL, YAML, find_config, group_file, other_kind, read_config, read_mapping
from experiments.config.renamed import Renamer, imported

Keys = tuple[str, ...]


@dataclass
class Setting:
    """A config, a group file or a value of the command line.

    Attributes:
        keys: path of the value without ``init_args``; empty for a config.
        value: what it sets there: the content, the path of a group file, or the value of an argument.
        arguments: of the command line; None where ``value`` is to be written.
        adds: whether it is added to a list (``--key+=value``).
    """

    keys: Keys
    value: Any
    arguments: list[str] | None = None
    adds: bool = False

    def written(self) -> list[str]:
        """Its arguments for the parser."""
        if self.arguments is not None:
            return self.arguments
        text = self.value if isinstance(self.value, str) else yaml.safe_dump(self.value, sort_keys=False, width=10_000)
        return [f"--{self.keys[0] if self.keys else 'config'}={text}"]


def expand_arguments(argv: list[str]) -> tuple[list[str], list[Path]]:
    """Arguments under the names of today, with every config and group file found; the config files, in order.

    ``local.yaml`` in the working directory counts as one more ``--config``, the last one.
    A ``--config`` becomes its content, so that the parser sees group files by absolute path wherever the config lies.
    A file, list, dictionary or other class replaces what was there as a whole. The name of the class that is there
    keeps its options, and so does a part of a config: ``model: {init_args: {tau: 1}}`` changes one.
    """
    settings: list[Setting] = []
    paths: list[Path] = []
    renamer, configured = Renamer(), dict[str, Any]()
    rest = deque(_with_local(argv))
    while rest:
        argument = rest.popleft()
        flag, equals, value = argument.partition("=")
        key = flag.removeprefix("--")
        if flag in ("-c", "--config"):
            paths.append(find_config(value if equals else _next(rest, flag)))
            content = read_config(paths[-1], renamer)
            if (kind := other_kind(paths[-1], content)) is not None:
                raise DataError(f"config {paths[-1]}: {kind}")
            for keys, new in _parts(content):
                replace(settings, keys, new)
            configured |= content.get("vars") or {}
            settings.append(Setting((), content))
        elif key in GROUPS and flag != key:
            value = value if equals else _next(rest, flag)
            settings.append(_of_group(settings, key, value, renamer, configured))
        elif flag.startswith("--") and "." in flag and (equals or (rest and not rest[0].startswith("--"))):
            value = value if equals else rest.popleft()
            renamed = renamer.argument(f"{flag}={value}", configured)
            unchanged = renamed == f"{flag}={value}" and not equals
            settings.append(_of_option(settings, renamed, [flag, value] if unchanged else [renamed]))
        else:
            settings.append(Setting(("",), None, [renamer.argument(argument, configured)]))
    configs = [setting.value for setting in settings if not setting.keys]
    if configs and renamer.vars:
        configs[-1]["vars"] = (configs[-1].get("vars") or {}) | renamer.vars
    return [argument for setting in settings for argument in setting.written()], paths


def _of_group(settings: list[Setting], group: str, value: str, renamer: Renamer, configured: dict[str, Any]) -> Setting:
    """``--model FILE``, ``--model CLASS``, ``--model {...}``: what the arguments before it say of it goes."""
    if value.endswith(YAML):
        file = group_file(find_config(value, renamer=renamer), group, renamer)
        replace(settings, (group,), file)
        return Setting((group,), file)
    return _of_option(settings, renamed := renamer.argument(f"--{group}={value}", configured), [renamed])


def _of_option(settings: list[Setting], argument: str, arguments: list[str]) -> Setting:
    flag, _, text = argument.removeprefix("--").partition("=")
    adds = flag.endswith("+")
    keys: Keys = tuple(key for key in flag.removesuffix("+").split(".") if key != "init_args")
    value: Any = text
    if text.lstrip()[:1] in ("[", "{"):
        value = parsed(text)
    if keys[:2] == ("data", "test") and len(keys) == 3 and parsed(text) is None:
        return _without_test(settings, keys)
    if keys[-1] == "class_path":
        keys, value = keys[:-1], {"class_path": text}
    if not adds and not flag.endswith(".init_args"):
        replace(settings, keys, value, whole=flag.rpartition(".")[2] != "class_path" and isinstance(value, dict))
    return Setting(keys, value, arguments, adds)


def _without_test(settings: list[Setting], keys: Keys) -> Setting:
    """``--data.test.NAME null``: the test condition goes.

    Raises:
        DataError: there is none of this name.
    """
    before = [repr(setting.value) for setting in settings]
    replace(settings, keys, None, whole=True)
    if [repr(setting.value) for setting in settings] == before:
        raise DataError(f"--{'.'.join(keys)}: the configs have no such test condition")
    return Setting(keys, None, [])


def replace(settings: list[Setting], keys: Keys, new: Any, whole: bool = False) -> None:
    """Takes what a value overrides out of earlier settings, unless the parser is to merge the two.

    Args:
        settings: earlier ones; changed in place.
        keys: path of the value.
        new: the value. A list or file replaces what is there, a class replaces another class; None takes it out.
        whole: whether a dictionary does, too.
    """
    if not keys:
        return
    whole = whole or isinstance(new, list) or (isinstance(new, str) and new.endswith(YAML) and Path(new).is_file())
    if not whole:
        new_class, old_class = class_of(new), next(filter(None, (_class_at(s, keys) for s in reversed(settings))), None)
        if new_class is None or old_class is None or same_class(new_class, old_class):
            return
    for setting in list(settings):
        if setting.keys and setting.keys[: len(keys)] == keys:
            settings.remove(setting)
        elif setting.keys == keys[: len(setting.keys)]:
            setting.value = _with(setting, keys, new)


def same_class(one: str, other: str) -> bool:
    """Whether two names are of one class; one without its module is of any class of that name."""
    if one == other:
        return True
    if one.rpartition(".")[2] != other.rpartition(".")[2]:
        return False
    if "." not in one or "." not in other:
        return True
    if own_path(one) and own_path(other):
        return own_path(one) == own_path(other)
    return imported(one) is not None and imported(one) is imported(other)


def class_of(value: Any) -> str | None:
    """The class that a value names; None if none."""
    if isinstance(value, dict):
        value = value.get("class_path")
    named = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.]*", value) and value != "null"
    return value if named else None


def _class_at(setting: Setting, keys: Keys) -> str | None:
    """The class that a setting gives at a path."""
    if setting.adds or setting.keys != keys[: len(setting.keys)]:
        return None
    node = setting.value
    for i, key in enumerate(keys[len(setting.keys) :]):
        node = _inside(_content(setting, node, i), key)
    node = _content(setting, node, len(keys) - len(setting.keys))
    return class_of(node)


def _with(setting: Setting, keys: Keys, new: Any) -> Any:
    """The value of a setting, with another one at a path, if it has one there."""
    rest = keys[len(setting.keys) :]
    root = node = deepcopy(_content(setting, setting.value, 0))
    for i, key in enumerate(rest):
        if isinstance(node, dict) and key not in node and isinstance(node.get("init_args"), dict):
            node = node["init_args"]
        if not isinstance(node, dict) or key not in node:
            return setting.value
        if i < len(rest) - 1:
            node[key] = _content(setting, node[key], i + 1)
            node = node[key]
        elif len(keys) == 1 or new is None:
            del node[key]  # a group follows as a whole
        else:
            node[key] = new
    return root


def is_said(arguments: list[str], keys: Keys) -> bool:
    """Whether expanded arguments give a value at a path."""
    rest = deque(arguments)
    while rest:
        flag, equals, text = rest.popleft().partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            text = rest.popleft()
        at = tuple(key for key in flag.removeprefix("--").removesuffix("+").split(".") if key != "init_args")
        at = () if at == ("config",) else at
        if at == keys[: len(at)]:
            file = len(at) == 1 and text.endswith(YAML)
            setting = Setting(at, text if file else parsed(text) if text else None)
            node = setting.value
            for i, key in enumerate(keys[len(at) :]):
                node = _inside(_content(setting, node, i), key)
            if at == keys or node is not None:
                return True
    return False


def _content(setting: Setting, node: Any, depth: int) -> Any:
    """What a group file says in the place of its path."""
    at_group = depth + len(setting.keys) == 1
    return read_mapping(Path(node)) if at_group and isinstance(node, str) and Path(node).is_file() else node


def _inside(node: Any, key: str) -> Any:
    """The value at a key, or at one of the options of a class."""
    if not isinstance(node, dict):
        return None
    options = node.get("init_args")
    return node[key] if key in node else options.get(key) if isinstance(options, dict) else None


def _parts(content: dict[str, Any], keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Lists, classes and files of a config by path: they replace what an earlier config says."""
    for key, value in content.items():
        at = keys if key == "init_args" else (*keys, key)
        if isinstance(value, list | str) or class_of(value):
            yield at, value
        if isinstance(value, dict):
            yield from _parts(value, at)


def parsed(value: str) -> Any:
    """What YAML reads in an argument.

    Raises:
        DataError: it is no YAML.
    """
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


def _next(arguments: deque[str], flag: str) -> str:
    """The value of an option, which is the next argument.

    Raises:
        DataError: there is none.
    """
    if not arguments:
        raise DataError(f"{flag}: a value is expected after it")
    return arguments.popleft()
