"""Turns what the parser and OmegaConf say into one line that names the key and the nearest valid name."""

from __future__ import annotations

import difflib
import re
from importlib import import_module

from jsonargparse import ArgumentParser
from omegaconf.errors import OmegaConfBaseException

from datamodules.schema import one_line
from experiments.config.renamed import PUBLIC

_CLASS = re.compile(r"Problem with given class_path '([\w.]+)'")
_OPTION = re.compile(r"Option '([\w.]+)' is not accepted")
_GROUP = re.compile(r"Group '([\w.]+)' does not accept option '([\w.]+)'")
_ATTRIBUTE = re.compile(
    r"(?:has no attribute '(\w+)'|No \w+ attribute (\w+)|No module named '([\w.]+)'|dot import path string: (\S+))"
)
_TYPE = re.compile(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal\[(.+)\])")
_KEY = re.compile(r"[Pp]arser key \"([\w.]+)\"")
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
    keys = ".".join(_KEY.findall(text))
    class_path = (_CLASS.findall(text) or [""])[-1]

    if "unrecognized arguments:" in text:
        argument = text.split("unrecognized arguments:")[1].split()[0]
        key = argument.lstrip("-").partition("=")[0]
        head, dot, rest = key.partition(".")
        tops = list(dict.fromkeys(k.partition(".")[0] for k in known))
        if dot and head not in tops:  # a misspelt group: what follows it can't be looked up
            match = difflib.get_close_matches(head, tops, n=1)
            return f"unknown option {argument}" + (f"; did you mean --{match[0]}.{rest}?" if match else "")
        return f"unknown option {argument}{nearest(key, known, prefix='--')}"
    if group := _GROUP.search(text):
        scope = [k.removeprefix(f"{group[1]}.") for k in known if k.startswith(f"{group[1]}.")]
        return f"{group[1]}.{group[2]}: no such key{nearest(group[2], scope, prefix=group[1] + '.')}"
    if option := _OPTION.search(text):
        if class_path:
            hint = nearest(option[1], options_of(class_path))
            return f"{keys}: {class_path} has no option {option[1]!r}{hint}"
        return f"{option[1]}: no such key{nearest(option[1], [k.partition('.')[0] for k in known])}"
    if wrong := _ATTRIBUTE.search(text):
        name = class_path or next(filter(None, wrong.groups()))
        return f"{keys}: no class {name!r}{nearest(name, public_classes())}"
    if (wanted := _TYPE.findall(text)) and keys:
        found = _GIVEN.search(text, text.rindex("arser key"))  # of the innermost key; those around it follow
        given = next(filter(None, found.groups())) if found else "?"
        types = [a or b for a, b in dict.fromkeys(wanted) if a != "NoneType"]
        return f"{keys}: expected {' or '.join(types)}, got {given}"
    return one_line(error)


def nearest(name: str, valid: list[str], prefix: str = "") -> str:
    """``; did you mean X?`` with the nearest valid name, or the empty string."""
    match = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if not match:  # a class given without its package
        match = [v for v in valid if v.rpartition(".")[2].lower() == name.lower()][:1]
    if not match:
        short = {v.rpartition(".")[2]: v for v in valid}
        match = [short[m] for m in difflib.get_close_matches(name.rpartition(".")[2], short, n=1, cutoff=0.5)]
    return f"; did you mean {prefix}{match[0]}?" if match else ""


def root_cause(error: BaseException) -> BaseException:
    """What was raised first: what a class said of its options, inside what the parser made of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def public_classes() -> list[str]:
    """Class paths that YAML may name."""
    return [f"{package}.{name}" for package in PUBLIC for name in import_module(package).__all__ if name[0].isupper()]


def options_of(class_path: str) -> list[str]:
    """Names of the options of a class, those it passes on among them."""
    module, _, name = class_path.rpartition(".")
    return ArgumentParser().add_class_arguments(getattr(import_module(module), name), fail_untyped=False)
