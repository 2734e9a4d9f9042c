"""``refine``: refines the saved scores and embeddings of a tested run again; no model, no data config."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import ArgumentError
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from omegaconf.errors import OmegaConfBaseException

from datamodules.schema import DataError
from experiments.config_errors import explain, root_cause
from experiments.config_files import find_config, read_config
from experiments.runs.refine import write_refined
from experiments.runs.results import print_results
from experiments.runs.saved import read_run
from postproc.callback import ChainingClusterCallback
from postproc.refinement import Refinement


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


def main(command: str, argv: list[str]) -> int:
    """``refine RUN [--postproc postproc/NAME.yaml]... [--out DIR]``."""
    parser = argparse.ArgumentParser(prog=f"experiments.run {command}", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of a test")
    text = "strategy, e.g. postproc/chaining.yaml, or a run's config.yaml; may be given again; default: the run's own"
    parser.add_argument("--postproc", action="append", metavar="FILE", help=text)
    text = (
        "folder for results.json and scores.parquet, one below it for each of several strategies; default RUN/refined"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=text)
    options = parser.parse_args(argv)
    try:
        files = [find_config(name) for name in options.postproc or [str(options.run / "config.yaml")]]
        names = ["own" if path.name == "config.yaml" else path.stem for path in files]
        if len(set(names)) < len(names):
            raise DataError(f"--postproc: {', '.join(names)}; names of strategies must differ")
        strategies = dict(zip(names, map(read_steps, files), strict=True))
        run = read_run(options.run)
        out = options.out or options.run / "refined"
        for name, steps in strategies.items():
            folder = out / name if options.out is None or len(strategies) > 1 else out
            results = write_refined(folder, run, steps)
            print(f"{name}:")
            if results:
                print_results(results)
            print(f"written: {folder}")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0
