"""What is fed. Names load on first use, so that ``datamodules.schema`` stays importable without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.base import VoiceFaceDataModule as VoiceFaceDataModule
    from datamodules.cells import CellSpec as CellSpec
    from datamodules.feature_data import FeatureDataModule as FeatureDataModule
    from datamodules.manifest import ManifestDataModule as ManifestDataModule
    from datamodules.mavceleb import MAVCelebDataModule as MAVCelebDataModule
    from datamodules.media_data import MediaOptions as MediaOptions
    from datamodules.packs import Pack as Pack
    from datamodules.permuted import PermutedFeatureDataModule as PermutedFeatureDataModule
    from datamodules.synthetic import SyntheticDataModule as SyntheticDataModule
    from datamodules.synthetic_media import SyntheticMediaDataModule as SyntheticMediaDataModule
    from datamodules.voxceleb import VoxCelebDataModule as VoxCelebDataModule
    from datamodules.voxceleb import VoxCelebFeatureDataModule as VoxCelebFeatureDataModule

_HOME = {
    "CellSpec": "cells",
    "FeatureDataModule": "feature_data",
    "MAVCelebDataModule": "mavceleb",
    "ManifestDataModule": "manifest",
    "MediaOptions": "media_data",
    "Pack": "packs",
    "PermutedFeatureDataModule": "permuted",
    "SyntheticDataModule": "synthetic",
    "SyntheticMediaDataModule": "synthetic_media",
    "VoiceFaceDataModule": "base",
    "VoxCelebDataModule": "voxceleb",
    "VoxCelebFeatureDataModule": "voxceleb",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it exports {', '.join(_HOME)}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
