"""``protocol``: folds x train languages x seeds of several methods, run in parallel, resumable, in one table."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import track

from datamodules.schema import DataError
from experiments.config_files import find_config
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
    """

    configs: list[str]
    folds: list[int]
    seeds: list[int]
    methods: dict[str, Method]

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
            raise DataError(f"protocol {path}: {error}; it takes configs, folds, seeds, methods") from error


@dataclass(frozen=True)
class Trial:
    """One ``fit`` of the protocol."""

    method: str
    config: str
    fold: int
    seed: int
    arguments: tuple[str, ...]

    def folder(self, out: Path) -> Path:
        return out / self.method / Path(self.config).stem / f"fold{self.fold}-seed{self.seed}"

    def command(self, out: Path) -> list[str]:
        fixed = [f"--config={self.config}", f"--vars.fold={self.fold}", f"--seed_everything={self.seed}"]
        tail = [
            "--logger=null",
            "--pictures=false",
            "--trainer.enable_progress_bar=false",
            f"--run_dir={self.folder(out)}",
        ]
        return ["fit", *fixed, *tail, *self.arguments]

    def outcome(self, out: Path) -> Outcome | None:
        """The results, if this very command has run to its end."""
        folder = self.folder(out)
        done = folder / "results.json"
        if not done.exists() or json.loads((folder / "command.json").read_text()) != self.command(out):
            return None
        return Outcome(self.method, self.config, self.fold, self.seed, json.loads(done.read_text(encoding="utf-8")))


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


def run_trial(trial: Trial, out: Path) -> str | None:
    """Runs one fit in this process, its output in log.txt; the error line if it failed."""
    folder = trial.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").unlink(missing_ok=True)
    command = trial.command(out)
    (folder / "command.json").write_text(json.dumps(command))
    with (folder / "log.txt").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        from experiments.run import main as run

        status = run(command)
    if status == 0:
        return None
    lines = (folder / "log.txt").read_text().strip().splitlines()
    return f"{folder}: {lines[-1] if lines else f'exit status {status}'}"


def run_protocol(protocol: Protocol, out: Path, jobs: int, only: list[str] | None = None) -> list[Outcome]:
    """Runs what is not done yet, over ``jobs`` processes, and returns every outcome.

    Raises:
        DataError: some fits failed; what has finished is kept, the same command goes on with the rest.
    """
    trials = trials_of(protocol, only)
    todo = [t for t in trials if t.outcome(out) is None]
    print(f"protocol: {len(trials)} fits, {len(trials) - len(todo)} done before, {jobs} at a time, in {out}")
    failures: list[str] = []
    if todo:
        # one thread each: the models are small, and fits in parallel would fight over the cores
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        with ProcessPoolExecutor(min(jobs, len(todo)), mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(run_trial, trial, out) for trial in todo]
            finished = track(as_completed(futures), "fits", total=len(todo), console=Console(stderr=True))
            failures = [message for future in finished if (message := future.result()) is not None]
    if failures:
        raise DataError(f"{len(failures)} of {len(todo)} fits failed, the first: {failures[0]}")
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
