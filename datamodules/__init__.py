"""What is fed. Names load on first use, so that ``datamodules.schema`` stays importable without torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
