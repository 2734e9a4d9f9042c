"""What a protocol file says, and the fits it stands for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from datamodules.schema import DataError
from experiments.config.files import find_config
from experiments.runs.fits import Fit

"""The strategy of a fit that refines as its config says."""
"""Folder of a run in which each strategy that refined its scores afterwards has one."""


@dataclass(frozen=True)
class Method:
    """One method: extra arguments of ``fit``, and the seeds it is run with (None = the protocol's)."""

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
        refinements: files of the strategies that every fit's scores are refined with, by name. Without any, a fit
            refines as its config says, and its strategy is called ``own``.
        fusions: names of the methods whose scores are fused, by the name of the fusion.
    """

    configs: list[str]
    folds: list[int]
    seeds: list[int]
    methods: dict[str, Method]
    first: list[list[str]] = field(default_factory=list)
    refinements: dict[str, str] = field(default_factory=dict)
    fusions: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, parts in self.fusions.items():
            unknown = [part for part in parts if part not in self.methods]
            if unknown or len(parts) < 2 or name in self.methods:
                raise ValueError(
                    f"fusions.{name}: {parts} must be two or more of {', '.join(self.methods)}, under a name of its own"
                )

    @classmethod
    def read(cls, path: Path) -> Protocol:
        """Reads a protocol file.

        Raises:
            DataError: a missing or unknown key, a fusion of unknown methods, or a strategy without a file; named.
        """
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            methods = {name: Method(**(options or {})) for name, options in content.pop("methods").items()}
            files = {
                name: str(find_config(file, near=path.parent)) for name, file in content.pop("refinements", {}).items()
            }
            return cls(**content, methods=methods, refinements=files)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            takes = "configs, folds, seeds, methods, first, refinements, fusions"
            raise DataError(f"protocol {path}: {error}; it takes {takes}") from error

    def seeds_of(self, method: str) -> list[int]:
        """Those a method is run with; those of all its methods for a fusion."""
        if method in self.fusions:
            return sorted({seed for part in self.fusions[method] for seed in self.seeds_of(part)})
        own = self.methods[method].seeds
        return self.seeds if own is None else own


@dataclass(frozen=True)
class Trial:
    """One ``fit`` of the protocol, or one fusion of several.

    Attributes:
        method: name of the method or fusion.
        config: the train language.
        fold: of held-out people.
        seed: of the fit.
    """

    method: str
    config: str
    fold: int
    seed: int

    def folder(self, out: Path) -> Path:
        """The run folder, named by what it is."""
        return out / self.method / Path(self.config).stem / f"fold{self.fold}-seed{self.seed}"


def trials_of(protocol: Protocol, methods: Sequence[str]) -> list[Trial]:
    """The runs of some methods or fusions."""
    trials = []
    for name in methods:
        places = itertools.product(protocol.configs, protocol.folds, protocol.seeds_of(name))
        trials += [Trial(name, config, fold, seed) for config, fold, seed in places]
    return trials


def chosen_methods(protocol: Protocol, only: Sequence[str] | None) -> list[str]:
    """All methods, or some.

    Raises:
        DataError: the protocol lacks one.
    """
    unknown = set(only or []) - set(protocol.methods)
    if unknown:
        raise DataError(f"--methods {', '.join(sorted(unknown))}: the protocol has {', '.join(protocol.methods)}")
    return [name for name in protocol.methods if not only or name in only]


def fit_of(protocol: Protocol, trial: Trial, out: Path, more: Sequence[str] = ()) -> Fit:
    """The ``fit`` of a trial.

    Args:
        protocol: says what the method is, and whether the scores are refined afterwards. The fit then leaves them raw
            and keeps its training people, whom some strategies learn from.
        trial: of a method.
        out: folder of the protocol's runs.
        more: arguments for all fits.
    """
    folder = trial.folder(out)
    fixed = [f"--config={trial.config}", f"--vars.fold={trial.fold}", f"--seed_everything={trial.seed}"]
    tail = ["--logger=null", "--pictures=false", "--trainer.enable_progress_bar=false", f"--run_dir={folder}"]
    if protocol.refinements:
        tail += ["--postproc=postproc/none.yaml", "--postproc.keep_reference=true"]
    return Fit(folder, ("fit", *fixed, *tail, *protocol.methods[trial.method].arguments, *more))
