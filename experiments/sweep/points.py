"""Reads a sweep file in W&B's format, and lists its points: every combination of a grid, or seeded random draws."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.io.documents import read_mapping
from datamodules.io.text import nearest
from datamodules.schema import DataError

METHODS = ("grid", "random", "bayes")
KEYS = (
    "method", "parameters", "metric", "run_cap", "seed", "name", "description", "project", "entity", "program",
    "command", "early_terminate",
)  # fmt: skip
DISTRIBUTIONS: dict[str, tuple[str, str]] = {
    "int_uniform": ("min", "max"),
    "uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "log_uniform": ("min", "max"),
    "normal": ("mu", "sigma"),
    "log_normal": ("mu", "sigma"),
}
"""W&B's names of distributions and their parameters; ``log_uniform`` takes natural logarithms of its limits."""


@dataclass(frozen=True)
class Point:
    """One combination of settings.

    Attributes:
        overrides: value by command-line option of ``fit``.
    """

    overrides: dict[str, Any]

    @cached_property
    def id(self) -> str:
        """A hash of the overrides, the same for any order of them."""
        return hashlib.sha256(json.dumps(self.overrides, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def arguments(self) -> list[str]:
        """The overrides as arguments of ``fit``: configs, then files of groups, then single values; later ones win."""
        ordered = sorted(self.overrides, key=lambda key: (key != "config", "." in key))
        return [f"--{key}={as_text(self.overrides[key])}" for key in ordered]


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        name: name of the file.
        method: grid, random or bayes.
        parameters: by name, in W&B's format.
        run_cap: number of points of random draws and bayes.
        seed: seed of random draws. W&B's format has no such key.
        content: the file without ``seed``, for W&B.
    """

    name: str
    method: str
    parameters: dict[str, dict[str, Any]]
    run_cap: int | None
    seed: int
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path, more: Sequence[str] = ()) -> Sweep:
        """Reads and checks a sweep file.

        Args:
            path: the file.
            more: ``--key=value`` of every point; it replaces what the file says of the key.

        Raises:
            DataError: unreadable, or a key, method or distribution is unknown or incomplete.
        """
        content = read_mapping(path)
        if not isinstance(content.get("parameters"), dict):
            raise DataError(f"sweep {path}: expected W&B's sweep format: method and parameters")
        for key in content:
            if key not in KEYS:
                raise DataError(f"sweep {path}: {key}: no such key{nearest(key, list(KEYS))}")
        method = content.get("method")
        if method not in METHODS:
            raise DataError(f"sweep {path}: method {method!r} is unknown; use one of {', '.join(METHODS)}")
        if method != "grid" and not isinstance(content.get("run_cap"), int):
            raise DataError(f"sweep {path}: method {method} needs run_cap, the number of points")
        for name, parameter in content["parameters"].items():
            _check(f"sweep {path}: parameters.{name}", method, parameter)
        for argument in more:
            key, _, value = argument.removeprefix("--").partition("=")
            content["parameters"].pop(key, None)
            content["parameters"][key] = {"value": value}  # behind mappings that set the same key
        seed = content.pop("seed", 0)
        return cls(path.stem, method, content["parameters"], content.get("run_cap"), seed, content)

    def points(self) -> list[Point]:
        """The distinct points of a grid or of random draws.

        Random draw i depends only on (seed, i): a larger ``run_cap`` adds points and keeps the earlier ones.
        """
        drawn: list[dict[str, Any]]
        if self.method == "grid":
            listed = (choices(parameter) for parameter in self.parameters.values())
            drawn = [dict(zip(self.parameters, values, strict=True)) for values in itertools.product(*listed)]
        else:
            drawn = []
            for i in range(self.run_cap or 0):
                rng = np.random.default_rng([self.seed, i])
                drawn.append({name: _draw(rng, name, parameter) for name, parameter in self.parameters.items()})
        points = [Point(_flat(values)) for values in drawn]
        return list({point.id: point for point in points}.values())


def as_text(value: Any) -> str:
    """A value as text for the command line."""
    if type(value) is int:
        return str(value)  # as JSON, which takes ten times as long
    return value if isinstance(value, str) else json.dumps(value)


def _check(where: str, method: str, parameter: Any) -> None:
    if not isinstance(parameter, dict) or not parameter:
        raise DataError(f"{where}: expected value, values, or a distribution with its limits")
    if "value" in parameter or "values" in parameter:
        if "values" in parameter and not (isinstance(parameter["values"], list) and parameter["values"]):
            raise DataError(f"{where}: values must be a list with at least one value")
        return
    if "parameters" in parameter:
        raise DataError(f"{where}: nested parameters are not supported; write dotted keys, as on the command line")
    if method == "grid":
        raise DataError(f"{where}: a grid takes value or values; draw distributions with method: random")
    name = _distribution(parameter)
    if name not in DISTRIBUTIONS:
        if method == "bayes":
            return  # W&B draws these itself, and knows more distributions
        raise DataError(f"{where}: distribution {name!r} is unknown{nearest(name, list(DISTRIBUTIONS))}")
    for key in DISTRIBUTIONS[name]:
        if not isinstance(parameter.get(key), int | float):
            raise DataError(f"{where}: distribution {name} needs {' and '.join(DISTRIBUTIONS[name])}")


def choices(parameter: dict[str, Any]) -> list[Any]:
    """The values that a parameter lists; empty for a distribution."""
    return [parameter["value"]] if "value" in parameter else list(parameter.get("values", []))


def _distribution(parameter: dict[str, Any]) -> str:
    """Name of the distribution. W&B's default is uniform, over whole numbers if both limits are whole."""
    limits = (parameter.get("min"), parameter.get("max"))
    whole = all(isinstance(limit, int) for limit in limits)
    return str(parameter.get("distribution", "int_uniform" if whole else "uniform"))


def _draw(rng: np.random.Generator, name: str, parameter: dict[str, Any]) -> Any:
    """One value of a parameter: one of its listed values, or a draw from its distribution.

    Raises:
        DataError: the distribution does not exist for these parameters, e.g. min is above max.
    """
    if listed := choices(parameter):
        return listed[int(rng.choice(len(listed), p=parameter.get("probabilities")))]
    from scipy import stats  # takes a second to import; grids do not need it

    distribution = _distribution(parameter)
    a, b = (parameter[key] for key in DISTRIBUTIONS[distribution])
    families: dict[str, tuple[Any, Callable[[], tuple[float, ...]]]] = {
        "int_uniform": (stats.randint, lambda: (a, b + 1)),
        "uniform": (stats.uniform, lambda: (a, b - a)),
        "log_uniform_values": (stats.loguniform, lambda: (a, b)),
        "log_uniform": (stats.loguniform, lambda: (math.exp(a), math.exp(b))),
        "normal": (stats.norm, lambda: (a, b)),
        "log_normal": (stats.lognorm, lambda: (b, 0, math.exp(a))),
    }
    family, arguments = families[distribution]
    try:
        return np.asarray(family.rvs(*arguments(), random_state=rng)).item()
    except (OverflowError, ValueError) as error:
        limits = f"{DISTRIBUTIONS[distribution][0]} {a} and {DISTRIBUTIONS[distribution][1]} {b}"
        raise DataError(f"parameters.{name}: no {distribution} distribution has {limits}") from error


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Settings by option. A mapping as a value sets several options at once; its parameter is only a name."""
    overrides: dict[str, Any] = {}
    for name, value in values.items():
        overrides |= value if isinstance(value, dict) else {name: value}
    return overrides
