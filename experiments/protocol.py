"""``protocol``: folds x train languages x seeds of several methods, run in parallel, resumable, in one table."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from datamodules.schema import DataError
from experiments.config_files import find_config
from experiments.fits import Fit, run_fits
from experiments.protocol_table import Outcome, protocol_table, summarise_protocol


@dataclass(frozen=True)
class Method:
    """One line of the table: extra arguments of ``fit``, and the seeds it is run with (None = the protocol's)."""

    arguments: list[str] = field(default_factory=list)
    seeds: list[int] | None = None


@dataclass(frozen=True)
class Protocol:
    """What is run: every method on every config (train language), fold and seed.

    Attributes:
        configs: one config per train language.
        folds: values of ``vars.fold``.
        seeds: values of ``seed_everything``.
        methods: by name.
        first: commands that make what the fits read, run before them: ``[[embed, --out=...]]``.
    """

    configs: list[str]
    folds: list[int]
    seeds: list[int]
    methods: dict[str, Method]
    first: list[list[str]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Protocol:
        """Reads a protocol file.

        Raises:
            DataError: a missing or unknown key, named.
        """
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            methods = {name: Method(**(options or {})) for name, options in content.pop("methods").items()}
            return cls(**content, methods=methods)
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"protocol {path}: {error}; it takes configs, folds, seeds, methods, first") from error


@dataclass(frozen=True)
class Trial:
    """One ``fit`` of the protocol."""

    method: str
    config: str
    fold: int
    seed: int
    arguments: tuple[str, ...]

    def fit(self, out: Path) -> Fit:
        """The fit, in a folder named by what it is."""
        folder = out / self.method / Path(self.config).stem / f"fold{self.fold}-seed{self.seed}"
        fixed = [f"--config={self.config}", f"--vars.fold={self.fold}", f"--seed_everything={self.seed}"]
        tail = ["--logger=null", "--pictures=false", "--trainer.enable_progress_bar=false", f"--run_dir={folder}"]
        return Fit(folder, ("fit", *fixed, *tail, *self.arguments))

    def outcome(self, out: Path) -> Outcome | None:
        """The results, if this very command has run to its end."""
        results = self.fit(out).results()
        return None if results is None else Outcome(self.method, self.config, self.fold, self.seed, results)


def trials_of(protocol: Protocol, only: list[str] | None = None) -> list[Trial]:
    """All fits of a protocol, or those of some of its methods."""
    unknown = set(only or []) - set(protocol.methods)
    if unknown:
        raise DataError(f"--methods {', '.join(sorted(unknown))}: the protocol has {', '.join(protocol.methods)}")
    trials = []
    for name, method in protocol.methods.items():
        if only and name not in only:
            continue
        seeds = protocol.seeds if method.seeds is None else method.seeds
        for config, fold, seed in itertools.product(protocol.configs, protocol.folds, seeds):
            trials.append(Trial(name, config, fold, seed, tuple(method.arguments)))
    return trials


def run_protocol(protocol: Protocol, out: Path, jobs: int, only: list[str] | None = None) -> list[Outcome]:
    """Runs what is not done yet, over ``jobs`` processes, and returns every outcome.

    Raises:
        DataError: some fits failed; what has finished is kept, the same command goes on with the rest.
    """
    trials = trials_of(protocol, only)
    for command in protocol.first:
        from experiments.run import main as run

        if run(command) != 0:
            raise DataError(f"{' '.join(command[:1])} failed, see above; no fit was started")
    todo = [t for t in trials if t.outcome(out) is None]
    print(f"protocol: {len(trials)} fits, {len(trials) - len(todo)} done before, {jobs} at a time, in {out}")
    run_fits([t.fit(out) for t in todo], jobs, "fits")
    return [outcome for t in trials if (outcome := t.outcome(out)) is not None]


def main(command: str, argv: list[str]) -> int:
    """``protocol --config protocols/v1_dev.yaml [--out DIR] [--jobs N] [--methods a,b]``."""
    parser = argparse.ArgumentParser(prog=f"experiments.run {command}", description=__doc__)
    parser.add_argument("--config", required=True, help="protocol file, e.g. protocols/v1_dev.yaml")
    parser.add_argument("--out", help="folder of all its runs; default runs/NAME; run again to go on")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="fits at a time")
    parser.add_argument("--methods", help="only these, by comma")
    arguments = parser.parse_args(argv)
    try:
        path = find_config(arguments.config)
        out = Path(arguments.out or Path("runs") / path.stem).resolve()
        only = arguments.methods.split(",") if arguments.methods else None
        outcomes = run_protocol(Protocol.read(path), out, arguments.jobs, only)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    summary = summarise_protocol(outcomes)
    (out / "protocol.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    Console(width=None if sys.stdout.isatty() else 200).print(protocol_table(summary))
    print(f"written: {out / 'protocol.json'}")
    return 0
