"""Takes back the options that a class has from the default class in whose place it came."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from experiments.config.overrides import is_said


def take_back(spec: Namespace, keys: tuple[str, ...], arguments: list[str]) -> None:
    """Gives options of a class that nobody has set their own defaults.

    A parameter may have a class as its default, as ``optimizer`` has AdamW. The parser keeps the options of that
    default which another class has too, so SGD would have AdamW's weight decay.

    Args:
        spec: ``class_path`` and ``init_args`` of the object whose parameters they are; changed in place.
        keys: its path in the config.
        arguments: what the user's configs and command line say.
    """
    for name, default in _defaults(spec.class_path).items():
        given = spec.init_args.get(name)
        if not (isinstance(default, dict | Namespace) and isinstance(given, Namespace) and "class_path" in given):
            continue
        if given.class_path == default["class_path"] or "init_args" not in given:
            continue
        left = _defaults(default["class_path"]) | dict(default.get("init_args") or {})
        own = _defaults(given.class_path)
        for option, value in given.init_args.as_dict().items():
            leftover = option in left and option in own and value == left[option] != own[option]
            if leftover and not is_said(arguments, (*keys, name, option)):
                given.init_args[option] = own[option]


def _defaults(class_path: str) -> dict[str, Any]:
    """Default values of the options of a class by name."""
    module, _, name = class_path.rpartition(".")
    parser = ArgumentParser()
    parser.add_class_arguments(getattr(import_module(module), name), fail_untyped=False)
    return dict(vars(parser.get_defaults()))
