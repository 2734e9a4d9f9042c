"""A sweep file in W&B's format becomes points: every combination of a grid, or seeded random draws."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datamodules.io.text import nearest
from datamodules.schema import DataError

METHODS = ("grid", "random", "bayes")
KEYS = (
    "method", "parameters", "metric", "run_cap", "seed", "name", "description", "project", "entity", "program",
    "command", "early_terminate",
)  # fmt: skip
Draw = Callable[[np.random.Generator, dict[str, Any]], Any]
DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], Draw]] = {
    "int_uniform": (("min", "max"), lambda rng, p: int(rng.integers(p["min"], p["max"], endpoint=True))),
    "uniform": (("min", "max"), lambda rng, p: float(rng.uniform(p["min"], p["max"]))),
    "log_uniform_values": (
        ("min", "max"),
        lambda rng, p: float(np.exp(rng.uniform(math.log(p["min"]), math.log(p["max"])))),
    ),
    "log_uniform": (("min", "max"), lambda rng, p: float(np.exp(rng.uniform(p["min"], p["max"])))),
    "normal": (("mu", "sigma"), lambda rng, p: float(rng.normal(p["mu"], p["sigma"]))),
    "log_normal": (("mu", "sigma"), lambda rng, p: float(rng.lognormal(p["mu"], p["sigma"]))),
}
"""W&B's continuous distributions and what they take; ``log_uniform`` takes natural logarithms, as there."""


@dataclass(frozen=True)
class Point:
    """One combination of values.

    Attributes:
        overrides: value by command-line key of ``fit``.
    """

    overrides: dict[str, Any]

    @property
    def id(self) -> str:
        """Follows from the overrides alone, whatever their order."""
        return hashlib.sha256(json.dumps(self.overrides, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def arguments(self) -> list[str]:
        """The overrides as ``fit`` takes them: configs, then group files, then single values, for the last wins."""
        ordered = sorted(self.overrides, key=lambda key: (key != "config", "." in key))
        return [f"--{key}={as_text(self.overrides[key])}" for key in ordered]


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        name: of the file.
        method: grid, random or bayes.
        parameters: by name, as W&B writes them.
        run_cap: how many points random draws and bayes make.
        seed: of random draws (not W&B's; it ignores what we do not hand on).
        content: the file, without ``seed``: what W&B is given.
    """

    name: str
    method: str
    parameters: dict[str, dict[str, Any]]
    run_cap: int | None
    seed: int
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Sweep:
        """Reads and checks a sweep file.

        Raises:
            DataError: unreadable, or a key, method or distribution that is unknown or incomplete.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"sweep {path}: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict):
            raise DataError(f"sweep {path}: expected W&B's sweep format: method and parameters")
        for key in content:
            if key not in KEYS:
                raise DataError(f"sweep {path}: {key}: no such key{nearest(key, list(KEYS))}")
        method = content.get("method")
        if method not in METHODS:
            raise DataError(f"sweep {path}: method {method!r} is unknown; use one of {', '.join(METHODS)}")
        if method != "grid" and not isinstance(content.get("run_cap"), int):
            raise DataError(f"sweep {path}: method {method} needs run_cap: how many points")
        for name, parameter in content["parameters"].items():
            _check(f"sweep {path}: parameters.{name}", method, parameter)
        seed = content.pop("seed", 0)
        return cls(path.stem, method, content["parameters"], content.get("run_cap"), seed, content)

    def points(self) -> list[Point]:
        """The points of a grid or of random draws, each once.

        Random draw i depends on (seed, i) alone: a larger ``run_cap`` adds points to those there are.
        """
        drawn: list[dict[str, Any]]
        if self.method == "grid":
            listed = (choices(parameter) for parameter in self.parameters.values())
            drawn = [dict(zip(self.parameters, values, strict=True)) for values in itertools.product(*listed)]
        else:
            drawn = []
            for i in range(self.run_cap or 0):
                rng = np.random.default_rng([self.seed, i])
                drawn.append({name: _draw(rng, parameter) for name, parameter in self.parameters.items()})
        points = [Point(_flat(values)) for values in drawn]
        return list({point.id: point for point in points}.values())


def as_text(value: Any) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _check(where: str, method: str, parameter: Any) -> None:
    if not isinstance(parameter, dict) or not parameter:
        raise DataError(f"{where}: expected value, values, or a distribution with its limits")
    if "value" in parameter or "values" in parameter:
        if "values" in parameter and not (isinstance(parameter["values"], list) and parameter["values"]):
            raise DataError(f"{where}: values is no list, or empty")
        return
    if "parameters" in parameter:
        raise DataError(f"{where}: nested parameters are not read; write dotted keys, as on the command line")
    if method == "grid":
        raise DataError(f"{where}: a grid takes value or values; draw distributions with method: random")
    name = _distribution(parameter)
    if name not in DISTRIBUTIONS:
        if method == "bayes":
            return  # W&B has more of them, and draws them itself
        raise DataError(f"{where}: distribution {name!r} is unknown{nearest(name, list(DISTRIBUTIONS))}")
    for key in DISTRIBUTIONS[name][0]:
        if not isinstance(parameter.get(key), int | float):
            raise DataError(f"{where}: distribution {name} needs {' and '.join(DISTRIBUTIONS[name][0])}")


def choices(parameter: dict[str, Any]) -> list[Any]:
    """The values a parameter lists; none where it is a distribution."""
    return [parameter["value"]] if "value" in parameter else list(parameter.get("values", []))


def _distribution(parameter: dict[str, Any]) -> str:
    """As named, else W&B's default: uniform, over whole numbers where the limits are."""
    limits = (parameter.get("min"), parameter.get("max"))
    whole = all(isinstance(limit, int) for limit in limits)
    return str(parameter.get("distribution", "int_uniform" if whole else "uniform"))


def _draw(rng: np.random.Generator, parameter: dict[str, Any]) -> Any:
    if "value" in parameter or "values" in parameter:
        listed = choices(parameter)
        return listed[int(rng.choice(len(listed), p=parameter.get("probabilities")))]
    return DISTRIBUTIONS[_distribution(parameter)][1](rng, parameter)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """A mapping as a value sets several keys at once: the name of its parameter is then only a name."""
    overrides: dict[str, Any] = {}
    for name, value in values.items():
        overrides |= value if isinstance(value, dict) else {name: value}
    return overrides
