"""Refines and judges scores: numpy in, numpy out. Names load on first use, so that importing the package is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from postproc.bank import EmbeddingBank as EmbeddingBank
    from postproc.callback import ChainingClusterCallback as ChainingClusterCallback
    from postproc.chaining import ChainingCluster as ChainingCluster
    from postproc.refinement import Refined as Refined
    from postproc.refinement import Refinement as Refinement
    from postproc.refinement import refine as refine
    from postproc.thresholds import Threshold as Threshold

_HOME = {
    "ChainingCluster": "chaining",
    "ChainingClusterCallback": "callback",
    "EmbeddingBank": "bank",
    "Refined": "refinement",
    "Refinement": "refinement",
    "Threshold": "thresholds",
    "refine": "refinement",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it exports {', '.join(_HOME)}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
