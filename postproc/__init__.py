"""Refines and judges scores: numpy in, numpy out. Names load on first use, so that importing the package is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from postproc.bank import EmbeddingBank as EmbeddingBank
    from postproc.blocks import BlockAverage as BlockAverage
    from postproc.callback import ChainingClusterCallback as ChainingClusterCallback
    from postproc.chaining import ChainingCluster as ChainingCluster
    from postproc.fusion import Fusion as Fusion
    from postproc.gender import GenderProbe as GenderProbe
    from postproc.guard import Guarded as Guarded
    from postproc.joint import JointPeople as JointPeople
    from postproc.normalisation import ASNorm as ASNorm
    from postproc.normalisation import Centring as Centring
    from postproc.partitions import Clustering as Clustering
    from postproc.reference import Reference as Reference
    from postproc.refinement import Refined as Refined
    from postproc.refinement import Refinement as Refinement
    from postproc.refinement import calibrate as calibrate
    from postproc.refinement import refine as refine
    from postproc.thresholds import Threshold as Threshold
    from postproc.transport import Transport as Transport

_HOME = {
    "ASNorm": "normalisation",
    "BlockAverage": "blocks",
    "Centring": "normalisation",
    "ChainingCluster": "chaining",
    "ChainingClusterCallback": "callback",
    "Clustering": "partitions",
    "EmbeddingBank": "bank",
    "Fusion": "fusion",
    "GenderProbe": "gender",
    "Guarded": "guard",
    "JointPeople": "joint",
    "Reference": "reference",
    "Refined": "refinement",
    "Refinement": "refinement",
    "Threshold": "thresholds",
    "Transport": "transport",
    "calibrate": "refinement",
    "refine": "refinement",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it exports {', '.join(_HOME)}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
