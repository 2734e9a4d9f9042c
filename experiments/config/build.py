"""Objects from what YAML says of them, made as ``fit`` makes them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from datamodules.io.text import nearest
from datamodules.schema import DataError
from experiments.config.errors import ROOT, explained
from experiments.config.files import read_config
from experiments.config.foreign import check
from postproc.callback import ChainingClusterCallback
from postproc.refinement import Refinement


def build(content: Any, base: type, where: str) -> Any:
    """An object of a class below ``base`` from its ``class_path`` and ``init_args``.

    Raises:
        DataError: a wrong class or option; names the nearest.
    """
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_subclass_arguments(base, ROOT)
    return _instantiated(parser, content, where)


def read_steps(path: Path, trust: bool = False, alternative: str = "") -> list[Refinement]:
    """The steps of a strategy, made as ``fit`` and ``test`` make them.

    Args:
        path: ``postproc/NAME.yaml``, or the ``config.yaml`` of a run, whose key ``postproc`` is taken.
        trust: whether the ``config.yaml`` may name classes and files as it likes; other files may.
        alternative: the steps of this alternative of the file's one step, which is a ``postproc.Selected``; empty =
            the steps themselves.

    Raises:
        DataError: a wrong key, class, type, option or alternative; names the nearest valid one.
    """
    content = read_config(path)
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_class_arguments(ChainingClusterCallback, ROOT)
    strategy = content
    if path.name == "config.yaml":
        strategy = content.get("postproc") or {}
        if not trust:
            check(strategy, f"{path}: postproc")
    if alternative:
        strategy = {"steps": _alternative(strategy, alternative, path)}
    callback: ChainingClusterCallback = _instantiated(parser, strategy, str(path))
    return callback.steps


def _alternative(strategy: Any, name: str, path: Path) -> Any:
    """The steps of an alternative, as the file names them.

    Raises:
        DataError: there is none of this name; names the nearest.
    """
    steps = strategy.get("steps") if isinstance(strategy, dict) else None
    known: dict[str, Any] = {}
    for step in steps if isinstance(steps, list) else ():
        options = step.get("init_args") if isinstance(step, dict) else None
        alternatives = options.get("alternatives") if isinstance(options, dict) else None
        known |= alternatives if isinstance(alternatives, dict) else {}
    if name not in known:
        raise DataError(f"{path}: no alternative {name}{nearest(name, list(known))}")
    return known[name]


def _instantiated(parser: ArgumentParser, content: Any, where: str) -> Any:
    """The object that the parser makes under its one key, ``ROOT``."""
    with explained(parser, where):
        return parser.instantiate_classes(parser.parse_object({ROOT: content}))[ROOT]


@lru_cache
def strategy_options(path: Path, changed: int, alternative: str = "") -> list[Any]:
    """All options of a strategy's steps as plain values, also those its file does not name.

    Args:
        path: as for :func:`read_steps`.
        changed: time of the last change of the file, so that a changed file is read again.
        alternative: as for :func:`read_steps`.

    Raises:
        DataError: as :func:`read_steps`.
    """

    def plain(value: object) -> Any:
        if not hasattr(value, "__dict__") or isinstance(value, type):
            return str(value)
        options = {name: of for name, of in vars(value).items() if not name.startswith("_")}
        return {"class": type(value).__name__} | options

    options: list[Any] = json.loads(json.dumps(read_steps(path, alternative=alternative), default=plain))
    return options
