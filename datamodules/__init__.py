"""Data modules: what a model trains on and is tested on.

Names load on first use, so that ``datamodules.schema`` can be imported without torch.
"""

import warnings
from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "Pack":  # its name in earlier versions
        warnings.warn("datamodules.Pack is called FeatureFile; import that", DeprecationWarning, stacklevel=2)
        name = "FeatureFile"
    return _load(name)
