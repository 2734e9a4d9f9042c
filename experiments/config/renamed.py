"""Names in YAML and on the command line that changed: the old ones still work, with a line that says the new one.

One table for the whole project. A row is added where a public class, an option or a value is renamed; configs of old
runs and exports are read through it as well as files and arguments that people write.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import yaml

from datamodules.schema import DataError
from experiments.config.classes import PUBLIC, is_below, own_path

CLASSES: dict[str, str] = {"postproc.JointPeople": "postproc.JointIdentities"}
"""New class path by old one: ``{"postproc.OldStep": "postproc.NewStep"}``."""

REMOVED: dict[str, str] = {
    "postproc.Averaged": "it was removed; take postproc/matching.yaml, which gains as much and does less harm"
}
"""By path of a class that is no more, what to do instead."""

LEFT_OUT: dict[str, dict[str, tuple[Any, str]]] = {
    "postproc.BlockAverage": {"similarity": ("cosine", "similarities are cosines")},
    "postproc.Transport": {
        "similarity": ("cosine", "similarities are cosines"),
        "masses": ("uniform", "every cluster has the same mass; postproc/matching.yaml estimates masses"),
        "unbalanced": (None, "all mass is matched; postproc/matching.yaml lets an identity stay alone"),
    },
}
"""By class path, options that are no more: the value that changes nothing, and what holds for others."""

OPTIONS: dict[str, dict[str, str]] = {
    "datamodules.SyntheticDataModule": {"people": "identities"},
    "datamodules.SyntheticMediaDataModule": {"people": "identities"},
    "postproc.JointIdentities": {
        "atoms": "sub_clusters",
        "person": "identity_cost",
        "lone": "unpaired_cost",
        "initial": "initial_weight",
        "burn": "burn_in",
    },
}
"""By class path, new option by old one: ``{"postproc.NewStep": {"old_option": "new_option"}}``; subclasses too."""

VALUES: dict[str, dict[str, dict[str, str]]] = {
    "datamodules.VoiceFaceDataModule": {"sampling": {"partners": "grouped", "other_video": "grouped"}},
}
"""By class path and option, new value by old one: ``{"datamodules.Base": {"option": {"old": "new"}}}``."""

VARS: dict[str, str] = {}
"""New name by old one of values that packaged configs take as ``--vars.NAME``."""

FILES: dict[str, tuple[str, dict[str, str]]] = {
    f"data/{version}_{short}_{kind}.yaml": (
        f"data/mavceleb_{'challenge' if kind == 'features' and version != 'v1' else kind}.yaml",
        {"version": version, "language": language, "unheard": unheard},
    )
    for version, short, language, unheard in [
        ("v1", "eng", "English", "Urdu"),
        ("v1", "urdu", "Urdu", "English"),
        ("v2", "eng", "English", "Hindi"),
        ("v2", "hindi", "Hindi", "English"),
        ("v3", "eng", "English", "German"),
        ("v3", "german", "German", "English"),
        ("v4", "eng", "English", "Bangla"),
    ]
    for kind in ("media", "features")
    if (version, kind) != ("v4", "features")
}
"""New name of a packaged config by old one, with the ``vars`` that it takes."""

_PATH = re.compile(rf"(?:{'|'.join(PUBLIC)})(?:\.[A-Za-z_]\w*)+")
_said: set[str] = set()


class Renamer:
    """Replaces old names in the configs and arguments of one command.

    Attributes:
        classes: class path by dotted key, as configs and arguments named them so far. An argument like
            ``--data.people=16`` does not say the class that it is an option of.
        vars: what the old names of files stood for.
    """

    def __init__(self) -> None:
        self.classes: dict[str, str] = {}
        self.vars: dict[str, str] = {}

    def config(self, content: Any, where: str, key: str = "") -> Any:
        """A config's content under the new names; the same object where it holds no old one.

        Args:
            content: what YAML gave.
            where: the file, for the warning.
            key: dotted key of the content; empty for a whole config.
        """
        if isinstance(content, str):
            if not _PATH.fullmatch(content):
                return content
            path = _class_path(content, where)
            self.classes[key] = path  # ``model: lightning_modules.SCC``, or the last of a list of steps
            return path
        if isinstance(content, list):
            items = [self.config(item, where, key) for item in content]
            return items if _differs(items, content) else content
        if not isinstance(content, dict):
            return content
        renamed = {name: self.config(value, where, _join(key, name)) for name, value in content.items()}
        if isinstance(renamed.get("class_path"), str):
            self.classes[key] = renamed["class_path"]
        if key in self.classes and isinstance(options := renamed.get("init_args"), dict):
            renamed["init_args"] = self._options(options, where, key)
        return renamed if _differs(list(renamed.values()), list(content.values())) else content

    def argument(self, argument: str, configured: Mapping[str, Any] | None = None) -> str:
        """A command-line argument ``--key=value`` under the new names.

        Args:
            argument: with its value behind ``=``, or a flag without one.
            configured: the ``vars`` of the configs, of which ``--vars.NAME`` sets one.
        """
        where = "command line"
        flag, equals, text = argument.partition("=")
        if not flag.startswith("--"):
            return argument
        head, _, last = flag.removeprefix("--").rstrip("+").rpartition(".")
        if head == "vars" and configured is not None and last not in configured and VARS.get(last) in configured:
            _say(where, f"vars.{last}", f"vars.{VARS[last]}")
            return f"--vars.{VARS[last]}{equals}{text}"
        owner = _join(*head.split("."))
        value = _parsed(text)
        new = self.config(value, where, _join(owner, last))
        if last == "class_path" and isinstance(new, str):
            self.classes[owner] = new
        if owner in self.classes and last != "class_path":
            if gone := _of_class(LEFT_OUT, self.classes[owner], last):
                raise DataError(f"{where}: {_join(owner, last)}: this option was removed; {gone[1]}")
            ((name, new),) = self._options({last: new}, where, owner).items()
            if name != last:
                plus = "+" if flag.endswith("+") else ""
                flag = f"--{head}.{name}{plus}"
        if not equals or new is value:
            return f"{flag}{equals}{text}"
        dumped = new if isinstance(new, str) else yaml.safe_dump(new, default_flow_style=True, width=10_000).strip()
        return f"{flag}={dumped}"

    def file(self, name: str, where: str) -> str:
        """The packaged config that took the place of one; its ``vars`` are kept in :attr:`vars`."""
        if name not in FILES:
            return name
        new, values = FILES[name]
        text = ", ".join(f"vars.{key} {value}" for key, value in values.items())
        _say(where, name, f"{new} with {text}")
        self.vars |= values
        return new

    def _options(self, options: dict[str, Any], where: str, key: str) -> dict[str, Any]:
        """Init args of the class at ``key`` under their new names; a value under the new name wins."""
        class_path = self.classes[key]
        renamed = {}
        for name, value in options.items():
            if gone := _of_class(LEFT_OUT, class_path, name):
                if value != gone[0]:
                    raise DataError(f"{where}: {_join(key, name)}: {value!r}: this option was removed; {gone[1]}")
                continue
            new = _of_class(OPTIONS, class_path, name) or name
            if new != name:
                _say(where, _join(key, name), _join(key, new))
                if new in options:
                    continue
            values = _of_class(VALUES, class_path, new) or {}
            if isinstance(value, str) and value in values:
                _say(where, f"{_join(key, new)} {value}", values[value])
                value = values[value]
            renamed[new] = value
        same = list(renamed) == list(options) and not _differs(list(renamed.values()), list(options.values()))
        return options if same else renamed


def public_name(class_path: str) -> str | None:
    """The public path of a class whose own module is not there any more, by its last name; None if there is none."""
    module, _, name = class_path.rpartition(".")
    package = module.partition(".")[0]
    public = f"{package}.{name}"
    if public in CLASSES:
        return CLASSES[public]
    return public if module != package and name in import_module(package).__all__ else None


def _class_path(path: str, where: str) -> str:
    new = CLASSES.get(path)
    if new is None and not _has_module(path.rpartition(".")[0]):
        new = public_name(path)
    if new is None:
        return path
    _say(where, path, new)
    return new


def _has_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):  # a parent is missing, or is a module and no package
        return False


def _of_class(table: Mapping[str, Mapping[str, Any]], class_path: str, option: str) -> Any:
    """What the rows of a class or a class above it say of an option; None where none does."""
    rows = {row: options[option] for row, options in table.items() if option in options}
    if class_path in rows:
        return rows[class_path]
    if rows and own_path(class_path):  # known without the import of torch
        return next((said for row, said in rows.items() if is_below(class_path, row)), None)
    if not rows or not isinstance(kind := imported(class_path), type):
        return None
    return next((said for row, said in rows.items() if issubclass(kind, imported(row))), None)


def imported(class_path: str) -> Any:
    """The class of a path; None if there is none."""
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except ImportError:  # the parser will name it and the nearest class
        return None


def _parsed(text: str) -> Any:
    """The value of an argument: YAML where it is a mapping or a list, else its text."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _join(*names: str) -> str:
    """A dotted key as people write it, without ``init_args``."""
    return ".".join(str(name) for name in names if name and name != "init_args")


def _differs(new: list[Any], old: list[Any]) -> bool:
    return len(new) != len(old) or any(a is not b for a, b in zip(new, old, strict=True))


def _say(where: str, old: str, new: str) -> None:
    """One line per name, on the first process of a run."""
    if old not in _said and os.environ.get("LOCAL_RANK", "0") == os.environ.get("SLURM_PROCID", "0") == "0":
        print(f"warning: {where}: {old} is called {new}; the old name still works", file=sys.stderr, flush=True)
    _said.add(old)
