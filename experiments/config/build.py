"""TODO docstring."""

from __future__ import annotations

import json
from argparse import ArgumentError
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from omegaconf.errors import OmegaConfBaseException

from datamodules.schema import DataError
from experiments.config.errors import explain, root_cause
from experiments.config.files import read_config
from postproc.callback import ChainingClusterCallback
from postproc.refinement import Refinement


def build(content: Any, base: type, where: str) -> Any:
    """An object of a class below ``base`` from its ``class_path`` and ``init_args``.

    Raises:
        DataError: a wrong class or option; names the nearest.
    """
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_subclass_arguments(base, "it")
    try:
        return parser.instantiate_classes(parser.parse_object({"it": content}))["it"]
    except (ArgumentError, OmegaConfBaseException) as error:
        raise DataError(f"{where}: {explain(error)}") from error
    except ValueError as error:  # what the class refuses; the parser wraps what it said
        raise DataError(f"{where}: {root_cause(error)}") from error


def read_steps(path: Path) -> list[Refinement]:
    """The steps of a strategy, made as ``fit`` and ``test`` make them.

    Args:
        path: ``postproc/NAME.yaml``, or the ``config.yaml`` of a run, whose key ``postproc`` is taken.

    Raises:
        DataError: a wrong key, class, type or option; names the nearest valid one.
    """
    content = read_config(path)
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_class_arguments(ChainingClusterCallback, "postproc")
    try:
        config = parser.parse_object(
            {"postproc": content.get("postproc", {}) if path.name == "config.yaml" else content}
        )
        callback: ChainingClusterCallback = parser.instantiate_classes(config)["postproc"]
    except (ArgumentError, OmegaConfBaseException) as error:
        raise DataError(f"{path}: {explain(error, [action.dest for action in parser._actions])}") from error
    except ValueError as error:  # an option its class refuses; the parser wraps what the class said
        raise DataError(f"{path}: {root_cause(error)}") from error
    return callback.steps


@lru_cache
def options_of(path: Path, changed: int) -> list[Any]:
    """All options of a strategy's steps as plain values, also those its file does not name.

    Args:
        path: as for :func:`read_steps`.
        changed: when the file was, so that it is read anew if it is.

    Raises:
        DataError: as :func:`read_steps`.
    """

    def plain(value: object) -> Any:
        if not hasattr(value, "__dict__") or isinstance(value, type):
            return str(value)
        options = {name: of for name, of in vars(value).items() if not name.startswith("_")}
        return {"class": type(value).__name__} | options

    found: list[Any] = json.loads(json.dumps(read_steps(path), default=plain))
    return found
