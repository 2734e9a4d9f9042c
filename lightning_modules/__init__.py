"""What learns. Names load on first use, so that importing the package is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_modules.averaging import AveragedWeights as AveragedWeights
    from lightning_modules.base import AssociationModule as AssociationModule
    from lightning_modules.cca import RegularisedCCA as RegularisedCCA
    from lightning_modules.faa import FAA as FAA
    from lightning_modules.finite import NonFiniteError as NonFiniteError
    from lightning_modules.fop import FOP as FOP
    from lightning_modules.frontend import FrontEnd as FrontEnd
    from lightning_modules.losses.contrastive import ContrastiveLoss as ContrastiveLoss
    from lightning_modules.losses.multi_similarity import MultiSimilarityLoss as MultiSimilarityLoss
    from lightning_modules.losses.orthogonal import OrthogonalProjectionLoss as OrthogonalProjectionLoss
    from lightning_modules.networks.cavmae import CAVMAE as CAVMAE
    from lightning_modules.networks.dlib_face import DlibFace as DlibFace
    from lightning_modules.networks.heads import HeadPair as HeadPair
    from lightning_modules.networks.matching import MatchingEncoder as MatchingEncoder
    from lightning_modules.networks.pretrained import FrozenEncoder as FrozenEncoder
    from lightning_modules.networks.resemblyzer_voice import ResemblyzerVoice as ResemblyzerVoice
    from lightning_modules.networks.shared_heads import SharedHeads as SharedHeads
    from lightning_modules.networks.timm_face import TimmFace as TimmFace
    from lightning_modules.networks.torchaudio_voice import TorchaudioVoice as TorchaudioVoice
    from lightning_modules.networks.weights import WeightsError as WeightsError
    from lightning_modules.optim import LayerwiseAdamW as LayerwiseAdamW
    from lightning_modules.optim import WarmupCosine as WarmupCosine
    from lightning_modules.scc import SCC as SCC

_HOME = {
    "AssociationModule": "base",
    "AveragedWeights": "averaging",
    "CAVMAE": "networks.cavmae",
    "ContrastiveLoss": "losses.contrastive",
    "DlibFace": "networks.dlib_face",
    "FAA": "faa",
    "FOP": "fop",
    "FrontEnd": "frontend",
    "FrozenEncoder": "networks.pretrained",
    "HeadPair": "networks.heads",
    "LayerwiseAdamW": "optim",
    "MatchingEncoder": "networks.matching",
    "MultiSimilarityLoss": "losses.multi_similarity",
    "NonFiniteError": "finite",
    "OrthogonalProjectionLoss": "losses.orthogonal",
    "RegularisedCCA": "cca",
    "ResemblyzerVoice": "networks.resemblyzer_voice",
    "SCC": "scc",
    "TimmFace": "networks.timm_face",
    "TorchaudioVoice": "networks.torchaudio_voice",
    "SharedHeads": "networks.shared_heads",
    "WarmupCosine": "optim",
    "WeightsError": "networks.weights",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it exports {', '.join(_HOME)}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
