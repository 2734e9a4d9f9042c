"""Turns what the parser and OmegaConf say into one line that names the key and the nearest valid name."""

from __future__ import annotations

import difflib
import re
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from jsonargparse import ArgumentParser
from omegaconf.errors import OmegaConfBaseException

from datamodules.io.text import nearest
from datamodules.schema import DataError, one_line
from experiments.config.classes import PUBLIC
from experiments.config.renamed import REMOVED
from experiments.console.user_code import place_in_user_code

ROOT = "it"
"""The key under which a parser builds one object that is not part of a config."""

EXPECTED = (ArgumentError, OmegaConfBaseException, ValueError, TypeError, ModuleNotFoundError)
"""What the parser raises for a wrong config, and classes for wrong options."""

_CLASS = re.compile(r"Problem with given class_path '([\w.]+)'")
_NEEDS = re.compile(r"arguments are required: (\w+)\b.*?class_path='([\w.]+)'", re.DOTALL)
_OPTION = re.compile(r"Option '([\w.]+)' is not accepted")
_GROUP = re.compile(r"Group '([\w.]+)' does not accept option '([\w.]+)'")
_ATTRIBUTE = re.compile(
    r"(?:has no attribute '(\w+)'|No \w+ attribute (\w+)|No module named '([\w.]+)'|dot import path string: (\S+))"
)
_TYPE = re.compile(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal\[(.+)\])")
_BASE = re.compile(r"does not correspond to a subclass of (\w+)")
_KEY = re.compile(r"[Pp]arser key \"([\w.]+)\"")
_GIVEN_CLASS = re.compile(r"'class_path': '([\w.]+)'")
_GIVEN = re.compile(r"(?:Got value: (.+)|Given value: (?:NestedArg\(key='[^']*', val=(.+)\)|(.+)))")


def explain(error: BaseException, known: list[str] | None = None) -> str:
    """One line for a wrong key, class, file or type.

    Args:
        error: what was raised while a config was parsed or used.
        known: the keys the parser takes, for suggestions.
    """
    text = str(error)
    known = known or []
    if isinstance(error, OmegaConfBaseException):
        return f"{error.full_key}: {text.splitlines()[0]}"
    keys = _dotted(_KEY.findall(text))
    at = f"{keys}: " if keys else ""
    class_path = (_CLASS.findall(text) or [""])[-1]

    if "unrecognized arguments:" in text:
        return unknown_argument(text.split("unrecognized arguments:")[1].split()[0], known)
    if keys and (needs := _NEEDS.search(text)):
        return f"{keys}: {needs[2]} needs {needs[1]}; give --{keys}.{needs[1]}"
    if "arguments are required:" in text:
        return f"{one_line(error)}; name a config, e.g. --config demo.yaml"
    if group := _GROUP.search(text):
        scope = [k.removeprefix(f"{group[1]}.") for k in known if k.startswith(f"{group[1]}.")]
        return f"{group[1]}.{group[2]}: no such key{nearest_class(group[2], scope, prefix=group[1] + '.')}"
    if option := _OPTION.search(text):
        if class_path:
            name = option[1].partition(".")[0]
            return no_option(keys, class_path, name, options_of(class_path))
        return unknown_key(option[1], [k.partition(".")[0] for k in known])
    if base := _BASE.search(text):
        quoted = _GIVEN.search(text)
        value = next(filter(None, quoted.groups())) if quoted else "?"
        wrong_class = next((name for name in _GIVEN_CLASS.findall(value) if not _is_below(name, base[1])), value)
        return f"{at}expected a subclass of {base[1]}, got {wrong_class}"
    if "an instantiatable class, but" in text and (found := _GIVEN.findall(text)):
        value = next(filter(None, found[-1]))
        for name in _GIVEN_CLASS.findall(value) or [value]:
            if missing := _abstract(name):
                return f"{at}{name} does not define {', '.join(missing)}, which its base class asks for"
    if wrong := _ATTRIBUTE.search(text):
        name = wrong[4] or class_path or next(filter(None, wrong.groups()))  # class_path may be of one around it
        return no_class(keys, name)
    if (wanted := _TYPE.findall(text)) and keys:
        quoted = _GIVEN.search(text, text.rindex("arser key"))  # of the innermost key; those around it follow
        value = next(filter(None, quoted.groups())) if quoted else "?"
        types = [a or b for a, b in dict.fromkeys(wanted) if a != "NoneType"]
        return f"{keys}: expected {' or '.join(types)}, got {value}"
    return one_line(error)


def unknown_argument(argument: str, known: list[str]) -> str:
    """What is wrong with an argument whose key there is not; ``known`` are the dotted keys."""
    key = argument.lstrip("-").partition("=")[0]
    head, dot, rest = key.partition(".")
    tops = list(dict.fromkeys(k.partition(".")[0] for k in known))
    if dot and head not in tops:  # a misspelt group: what follows it can't be looked up
        match = difflib.get_close_matches(head, tops, n=1)
        return f"unknown option {argument}" + (f"; did you mean --{match[0]}.{rest}?" if match else "")
    return f"unknown option {argument}{nearest_class(key, known, prefix='--')}"


def unknown_key(key: str, known: list[str]) -> str:
    """What is wrong with a config whose key there is not."""
    return f"{key}: no such key{nearest_class(key, known)}"


def no_option(at: str, class_path: str, name: str, valid: list[str]) -> str:
    """What is wrong with an option that its class does not have; ``at`` is the key of the class."""
    return f"{at}: {class_path} has no option {name!r}{nearest_class(name, valid)}"


def no_class(at: str, name: str) -> str:
    """What is wrong with a class path that names nothing; ``at`` is its key, or empty."""
    return f"{at + ': ' if at else ''}no class {name!r}{_class_hint(name)}"


def _is_below(class_path: str, base: str) -> bool:
    """Whether a class of this project has a base of this name."""
    module, _, name = class_path.rpartition(".")
    found = getattr(import_module(module), name, None) if module.partition(".")[0] in PUBLIC else None
    return base in [of.__name__ for of in getattr(found, "__mro__", ())]


def _abstract(class_path: str) -> list[str]:
    """Methods that a class, which the parser has imported, must define and does not."""
    module, _, name = class_path.rpartition(".")
    return sorted(getattr(getattr(sys.modules.get(module), name, None), "__abstractmethods__", ()))


def _dotted(keys: list[str]) -> str:
    """Keys from the outermost to the innermost as one; a parser names some with those around them.

    ``ROOT``, the key of what is built from one object, is not a key of the config and is left out.
    """
    path = ""
    for key in (key.removeprefix(ROOT).lstrip(".") if key.partition(".")[0] == ROOT else key for key in keys):
        path = key if key.startswith(f"{path}.") or not path else f"{path}.{key}" if key else path
    return path


def _class_hint(name: str) -> str:
    """What to do about a class that is not there: set the path of one's own module, or take the nearest name."""
    if name in REMOVED:
        return f": {REMOVED[name]}"
    package, dot, _ = name.partition(".")
    if dot and not difflib.get_close_matches(package, PUBLIC, n=1, cutoff=0.8) and find_spec(package) is None:
        return f"; there is no module {package!r}: set PYTHONPATH to its folder"
    return nearest_class(name, public_classes())


def nearest_class(name: str, valid: list[str], prefix: str = "") -> str:
    """``; did you mean X?`` with the nearest key or class path, or the empty string.

    A class may be named without its package.
    """
    if hint := nearest(name, valid, prefix):
        return hint
    short = {path.rpartition(".")[2]: path for path in valid}
    last = name.rpartition(".")[2]
    same = [path for path in valid if path.rpartition(".")[2].lower() == name.lower()]
    match = same[:1] or [short[key] for key in difflib.get_close_matches(last, short, n=1, cutoff=0.5)]
    return f"; did you mean {prefix}{match[0]}?" if match else ""


@contextmanager
def explained(parser: ArgumentParser, where: str = "") -> Iterator[None]:
    """Turns what goes wrong while configs are parsed and objects are made of them into a :class:`DataError`.

    An error in a class of the user's own is named with its file and line.

    Args:
        parser: its keys are suggested for wrong ones.
        where: file or key in front of the message.

    Raises:
        DataError: a wrong key, class, type or option, or an option that its class refuses.
    """
    prefix = f"{where}: " if where else ""
    try:
        yield
    except DataError as error:
        raise DataError(f"{prefix}{error}") from error
    except Exception as error:
        if place := place_in_user_code(error):  # of the user: the parser says only that there is no such class
            raise DataError(prefix + place) from error
        if not isinstance(error, EXPECTED):
            raise
        if not isinstance(error, ArgumentError | OmegaConfBaseException):  # the parser wraps what the class said
            raise DataError(prefix + one_line(_root_cause(error))) from error
        raise DataError(prefix + explain(error, [action.dest for action in parser._actions])) from error


def check_initialised(made: object, attribute: str) -> None:
    """Refuses a model or data module whose class does not call ``super().__init__()``.

    Args:
        made: the object.
        attribute: which its base class gives to every object.

    Raises:
        DataError: names its file and line.
    """
    if attribute not in vars(made):
        init = type(made).__init__
        place = f"{init.__code__.co_filename}:{init.__code__.co_firstlineno}"
        raise DataError(f"{place}: {type(made).__name__}.__init__ does not call super().__init__()")


def _root_cause(error: BaseException) -> BaseException:
    """What was raised first, or the first :class:`DataError`, which says it better than its cause."""
    while error.__cause__ is not None and not isinstance(error, DataError):
        error = error.__cause__
    return error


def public_classes() -> list[str]:
    """Class paths that YAML may name."""
    return [f"{package}.{name}" for package in PUBLIC for name in import_module(package).__all__ if name[0].isupper()]


def options_of(class_path: str) -> list[str]:
    """Names of the options of a class, those it passes on among them.

    Raises:
        DataError: there is no such class.
    """
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise DataError(f"no class {class_path!r}{_class_hint(class_path)}") from error
    return list(ArgumentParser().add_class_arguments(kind, fail_untyped=False))


def dims_of(data: Any) -> Any:
    """The input sizes (voice, face) that the model is built for.

    Raises:
        DataError: the data module gives something else; names its file and line.
    """
    from datamodules.contracts import mistaken  # imports torch, which a wrong name need not wait for

    check_initialised(data, "batch_size")
    sizes = data.dims
    if not isinstance(sizes, Sequence) or [type(size) for size in sizes] != [int, int]:
        raise mistaken(data, "dims", "two whole numbers, the input sizes (voice, face)", repr(sizes))
    return sizes


def num_identities_of(data: Any) -> Any:
    """The number of classes that the model is built for.

    Raises:
        DataError: the data module gives something else; names its file and line.
    """
    from datamodules.contracts import mistaken  # imports torch, which a wrong name need not wait for

    count = data.num_identities
    if not isinstance(count, int):
        raise mistaken(data, "num_identities", "a whole number", repr(count))
    return count
