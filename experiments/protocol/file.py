"""A protocol file, and the fits that it plans."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.io.documents import read_mapping
from datamodules.schema import DataError
from experiments.config.files import find_config, other_kind
from experiments.runs.fits import Fit


@dataclass(frozen=True)
class Method:
    """One method of a protocol.

    Attributes:
        arguments: extra arguments of ``fit``.
        seeds: seeds of its fits; None = the seeds of the protocol.
    """

    arguments: list[str] = field(default_factory=list)
    seeds: list[int] | None = None


@dataclass(frozen=True)
class Protocol:
    """Fits every method on every config (train language), fold and seed.

    Attributes:
        configs: one config per train language.
        folds: values of ``vars.fold``.
        seeds: values of ``seed_everything``.
        methods: by name.
        first: commands that make the input of the fits and run before them: ``[[embed, --out=...]]``.
        refinements: refinement files by name; each refines the scores of every fit. ``FILE#NAME`` is an alternative of
            the ``postproc.Selected`` in a file. If there are none, a fit refines as its config says, and its strategy
            is called ``own``.
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
                known = ", ".join(self.methods)
                raise ValueError(f"fusions.{name}: {parts} must be two or more of {known}, and {name} no method")

    @classmethod
    def read(cls, path: Path) -> Protocol:
        """Reads a protocol file.

        Raises:
            DataError: a missing or unknown key, a fusion of unknown methods, or a refinement file that does not exist.
        """
        try:
            content = read_mapping(path)
            if "methods" not in content:
                raise DataError(f"protocol {path}: {_no_protocol(path, content)}")
            methods = {name: Method(**(options or {})) for name, options in content.pop("methods").items()}
            files = {}
            for name, text in content.pop("refinements", {}).items():
                file, sign, alternative = text.partition("#")
                files[name] = f"{find_config(file, near=path.parent)}{sign}{alternative}"
            protocol = cls(**content, methods=methods, refinements=files)
            _check(protocol)
            return protocol
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            takes = "configs, folds, seeds, methods, first, refinements, fusions"
            raise DataError(f"protocol {path}: {error}; it takes {takes}") from error

    def seeds_of(self, method: str) -> list[int]:
        """Seeds of a method; for a fusion, the seeds of all its methods."""
        if method in self.fusions:
            return sorted({seed for part in self.fusions[method] for seed in self.seeds_of(part)})
        seeds = self.methods[method].seeds
        return self.seeds if seeds is None else seeds


def _no_protocol(path: Path, content: dict[str, Any]) -> str:
    """What is wrong with a file that names no methods, and what takes it."""
    if "configs" in content:
        return "methods are missing; name one or more, as in protocols/v1_dev.yaml"
    what = other_kind(path, content) or f"is a config; run it by fit --config {shlex.quote(str(path))}"
    return f"{what}; a protocol has methods, as in protocols/v1_dev.yaml"


def _check(protocol: Protocol) -> None:
    """Refuses a protocol without a fit, and lists of something else.

    Raises:
        ValueError: it is one.
    """
    if not protocol.methods:
        raise ValueError("methods names none")
    lists: dict[str, object] = {key: getattr(protocol, key) for key in ("configs", "folds", "seeds")}
    lists |= {f"methods.{name}.seeds": m.seeds for name, m in protocol.methods.items() if m.seeds is not None}
    for key, values in lists.items():
        kinds = (str,) if key == "configs" else (int, str) if key == "folds" else (int,)
        if not isinstance(values, list) or not values or any(type(value) not in kinds for value in values):
            raise ValueError(f"{key} is no list of at least one {'config' if key == 'configs' else 'number'}")


@dataclass(frozen=True)
class PlannedFit:
    """One ``fit`` of the protocol, or one fusion of several fits.

    Attributes:
        method: name of the method or fusion.
        config: the config of the train language.
        fold: number of the fold of held-out identities.
        seed: seed of the fit.
    """

    method: str
    config: str
    fold: int
    seed: int

    def folder(self, out: Path) -> Path:
        """The run folder: ``METHOD/CONFIG/foldF-seedS`` in ``out``."""
        return out / self.method / Path(self.config).stem / f"fold{self.fold}-seed{self.seed}"


def planned_fits(protocol: Protocol, methods: Sequence[str]) -> list[PlannedFit]:
    """The planned fits of some methods or fusions."""
    planned = []
    for name in methods:
        places = itertools.product(protocol.configs, protocol.folds, protocol.seeds_of(name))
        planned += [PlannedFit(name, config, fold, seed) for config, fold, seed in places]
    return planned


def chosen_methods(protocol: Protocol, only: Sequence[str] | None) -> list[str]:
    """The methods named by ``--methods``, or all of them.

    Raises:
        DataError: the protocol has no method of that name.
    """
    unknown = set(only or []) - set(protocol.methods)
    if unknown:
        raise DataError(f"--methods {', '.join(sorted(unknown))}: the protocol has {', '.join(protocol.methods)}")
    return [name for name in protocol.methods if not only or name in only]


def fit_of(protocol: Protocol, planned: PlannedFit, out: Path, more: Sequence[str] = ()) -> Fit:
    """The ``fit`` command of a planned fit.

    Args:
        protocol: the protocol. If it has refinements, the fit leaves its scores raw and keeps its training embeddings,
            because some refinements learn from them.
        planned: a fit of a method.
        out: folder of the protocol's runs.
        more: arguments of all fits.
    """
    folder = planned.folder(out)
    fixed = [f"--config={planned.config}", f"--vars.fold={planned.fold}", f"--seed_everything={planned.seed}"]
    tail = ["--logger=null", "--pictures=false", "--trainer.enable_progress_bar=false", f"--run_dir={folder}"]
    if protocol.refinements:
        tail += ["--postproc=postproc/none.yaml", "--postproc.keep_reference=true"]
    return Fit(folder, ("fit", *fixed, *tail, *protocol.methods[planned.method].arguments, *more))
